//! The table as Markdown: a page for each code and an index, for `docs/errors`. A test compares what is
//! there with the table, and `make fix` writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quorate_types::Code;

use super::{about, of, retry_sentence};
use crate::exit::{Exit, Failure};
use crate::output::retry_word;

/// The first line of every file that this makes, and of no other.
const MARK: &str = "<!-- From the table in crates/cli/src/pages. `make fix` writes it. -->";
/// The name of the index.
const INDEX: &str = "README.md";

/// Writes every page into a folder and removes pages of codes that are no more. Files that it did not
/// make stay. Returns how many pages there are.
///
/// # Errors
/// If the folder cannot be read or written.
pub(crate) fn write_docs(folder: &Path) -> Result<usize, Failure> {
    let files = files();
    fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
    for name in made_here(folder)? {
        if !files.contains_key(&name) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|error| Failure::file("remove", &path, &error))?;
        }
    }
    for (name, text) in &files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))?;
    }
    Ok(files.len())
}

/// The names of the files in a folder that bear the mark.
fn made_here(folder: &Path) -> Result<Vec<String>, Failure> {
    let unread = |error| Failure::file("read", folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_made = || fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with(MARK));
        if name.ends_with(".md") && is_made() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Every file of the folder by name.
fn files() -> BTreeMap<String, String> {
    let pages = Code::ALL.iter().map(|code| (format!("{}.md", code.name()), page(*code)));
    pages.chain([(INDEX.to_owned(), index())]).collect()
}

fn page(code: Code) -> String {
    let found = of(code);
    let causes: String = found.causes.iter().map(|cause| format!("- {cause}\n")).collect();
    let steps: String = found.steps.iter().map(|step| format!("- {step}\n")).collect();
    format!(
        "{MARK}\n# {}\n\n{}\n\n| number | about | try again? | exit code of the command line |\n\
         |---|---|---|---|\n| {} | {} | {} | {} |\n\n## Why it happens\n\n{causes}\n## What to do\n\n\
         In short: {}.\n\n{steps}\n[All codes]({INDEX})\n",
        code.name(),
        found.meaning,
        code.number(),
        about(code),
        retry_sentence(code.retry()),
        Exit::of(code).number(),
        code.fix(),
    )
}

fn index() -> String {
    let mut text = format!(
        "{MARK}\n# Error codes\n\nNumbers and names never change their meaning. `quorate error CODE` \
         prints these pages, `quorate error` lists them.\n\nTry again: `no` never by itself, `safe` \
         nothing happened, `same-id` only under the same request id.\n"
    );
    let mut range = "";
    for code in Code::ALL {
        if about(*code) != range {
            range = about(*code);
            let first = range.get(..1).unwrap_or_default().to_uppercase();
            let rest = range.get(1..).unwrap_or_default();
            text.push_str(&format!(
                "\n## {first}{rest}\n\n| number | code | try again | what to do |\n|---|---|---|---|\n"
            ));
        }
        text.push_str(&format!(
            "| {} | [{name}]({name}.md) | {} | {} |\n",
            code.number(),
            retry_word(code.retry()),
            code.fix(),
            name = code.name(),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_in_docs_are_those_of_the_table() {
        // Goal: docs/errors cannot fall behind the table; `make fix` makes this pass again.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let mut there: Vec<String> = fs::read_dir(&folder)
            .expect("docs/errors is there")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        there.sort();
        let expected = files();
        assert_eq!(there, expected.keys().cloned().collect::<Vec<String>>(), "run `make fix`");
        for (name, text) in expected {
            let found = fs::read_to_string(folder.join(&name)).expect("a page");
            assert_eq!(found, text, "{name} differs from the table; run `make fix`");
        }
    }

    #[test]
    fn writing_removes_old_pages_and_nothing_else() {
        // Goal: a code that is renamed leaves no page behind, and a file of somebody else stays.
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("OLD_CODE.md"), format!("{MARK}\n# OLD_CODE\n")).expect("a file");
        fs::write(path("notes.md"), "# Mine\n").expect("a file");
        assert_eq!(write_docs(folder.path()), Ok(Code::ALL.len() + 1));
        assert!(!path("OLD_CODE.md").exists());
        assert!(path("notes.md").exists() && path("NOT_LEADER.md").exists());
    }
}
