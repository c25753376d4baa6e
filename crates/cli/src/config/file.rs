//! The file layer: TOML with a section for each part, every mistake with its line.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_topology::{PROBLEMS_MAX, Problem, TopologyError};
use quorate_types::Code;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Kind, Origin, SETTINGS, Setting};
use crate::args;

/// Longer files are no configuration.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// The settings that a file gives.
///
/// # Errors
/// Every problem found: code, file, line, and what would be right.
pub(super) fn read(
    path: &Path,
    text: &str,
) -> Result<BTreeMap<&'static str, (String, Origin)>, TopologyError> {
    let mut reader = Reader { path, text, found: BTreeMap::new(), problems: Vec::new() };
    if FILE_BYTES_MAX < text.len() {
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX}", text.len());
        reader.problem(0, "", message, None);
    } else {
        reader.document();
    }
    if reader.problems.is_empty() {
        return Ok(reader.found);
    }
    let left_out = reader.problems.len().saturating_sub(PROBLEMS_MAX);
    reader.problems.sort_by_key(|problem| problem.line);
    reader.problems.truncate(PROBLEMS_MAX);
    Err(TopologyError {
        code: Code::ConfigInvalid,
        file: path.display().to_string(),
        problems: reader.problems,
        left_out,
    })
}

struct Reader<'t> {
    path: &'t Path,
    text: &'t str,
    found: BTreeMap<&'static str, (String, Origin)>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self) {
        let (document, syntax_errors) = DeTable::parse_recoverable(self.text);
        for error in &syntax_errors {
            let at = error.span().map_or(0, |span| span.start);
            self.problem(at, "", error.message().replace('\n', ", "), None);
        }
        if !syntax_errors.is_empty() {
            return; // Whatever was recovered would only give misleading further problems.
        }
        let mut sections: Vec<&str> = SETTINGS.iter().map(|setting| setting.parts().0).collect();
        sections.dedup();
        for (name, value) in document.get_ref() {
            let section: &str = name.get_ref();
            let at = name.span().start;
            match value.get_ref() {
                _ if !sections.contains(&section) => {
                    let hint = args::did_you_mean(section, sections.iter().copied());
                    let message = format!("unknown section {section:?}");
                    self.problem(at, section, message, Some(hint));
                }
                DeValue::Table(table) => self.section(section, table),
                _ => {
                    let hint = format!("write [{section}] and its keys below");
                    self.problem(at, section, format!("{section} is no section"), Some(hint));
                }
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key: &str = name.get_ref();
            let path = format!("{section}.{key}");
            match Setting::of(&path) {
                Some(setting) => self.value(setting, value),
                None => {
                    let of_section = |setting: &&Setting| setting.parts().0 == section;
                    let known: Vec<&str> =
                        SETTINGS.iter().filter(of_section).map(|known| known.parts().1).collect();
                    let hint = args::did_you_mean(key, known.iter().copied());
                    let message = format!("unknown key {key:?} in [{section}]");
                    self.problem(name.span().start, &path, message, Some(hint));
                }
            }
        }
    }

    fn value(&mut self, setting: &'static Setting, value: &Spanned<DeValue<'_>>) {
        let at = value.span().start;
        let (_, key) = setting.parts();
        let text = match (value.get_ref(), setting.kind) {
            (DeValue::Boolean(is), Kind::Boolean) => is.to_string(),
            (DeValue::Integer(digits), Kind::Count { .. }) => digits.as_str().to_owned(),
            (DeValue::String(text), kind) if !kind.is_bare() => text.as_ref().to_owned(),
            _ => {
                let quotes = if setting.kind.is_bare() { "without quotes" } else { "in quotes" };
                let message = format!("{key} must be {}, {quotes}", setting.kind.wanted());
                self.problem(at, setting.key, message, None);
                return;
            }
        };
        match setting.kind.check(&text) {
            Ok(text) => {
                let origin =
                    Origin::File { file: self.path.display().to_string(), line: self.line_at(at) };
                self.found
                    .insert(setting.key, (self.counted_from_here(setting.kind, text), origin));
            }
            Err(wrong) => self.problem(at, setting.key, format!("{key}: {wrong}"), None),
        }
    }

    /// Paths in a file count from the folder of the file, wherever the server is started.
    fn counted_from_here(&self, kind: Kind, text: String) -> String {
        match (kind, self.path.parent()) {
            (Kind::Path, Some(folder)) => folder.join(text).display().to_string(),
            _ => text,
        }
    }

    fn problem(&mut self, at: usize, path: &str, message: String, hint: Option<String>) {
        let line = Some(self.line_at(at));
        self.problems.push(Problem { line, path: path.to_owned(), message, hint });
    }

    /// The line, from 1, of a byte.
    fn line_at(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        read(Path::new("q.toml"), text).expect_err(text).to_string()
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_what_was_meant() {
        // Goal: one look shows all mistakes of a file.
        let text = "[server]\ndtaa = \"x\"\nthreads = \"2\"\nleave-timeout = 10\n\n[storage]\n\
                    log-bytes-max = \"1MiB\"\n\n[logs]\nfilter = \"info\"\n";
        assert_eq!(
            problems(text),
            "q.toml:2: unknown key \"dtaa\" in [server]; did you mean \"data\"?\n\
             q.toml:3: threads must be a whole number from 1 to 1024, without quotes\n\
             q.toml:4: leave-timeout must be a time with its unit, from 100ms to 600s, in quotes\n\
             q.toml:7: log-bytes-max: 1MiB is not between 256MiB and 16TiB\n\
             q.toml:9: unknown section \"logs\"; did you mean \"log\"?"
        );
    }

    #[test]
    fn what_is_no_toml_is_told_alone() {
        // Goal: a missing quote does not cause a list of follow-up mistakes.
        let found = problems("[server]\nnode = \"n1\ndata = 5\n");
        assert!(found.starts_with("q.toml:2: "), "{found}");
        assert!(problems("server = 5\n").contains("write [server] and its keys below"));
        assert!(problems(&"#".repeat(FILE_BYTES_MAX + 1)).contains("at most"));
    }

    #[test]
    fn paths_count_from_the_folder_of_the_file() {
        // Goal: a service that starts in `/` finds the cluster file beside its configuration.
        let text = "[server]\ncluster = \"cluster.toml\"\ndata = \"/data\"\nnode = \"n1\"\n";
        let found = read(Path::new("/etc/quorate/server.toml"), text).expect("a file");
        assert_eq!(found["server.cluster"].0, "/etc/quorate/cluster.toml");
        assert_eq!(found["server.data"].0, "/data");
        assert_eq!(found["server.node"].0, "n1");
    }
}
