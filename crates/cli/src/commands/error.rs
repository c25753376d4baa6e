//! `quorate error`: what a code means, how it comes about, whether to try again and what to do.

use std::path::PathBuf;

use clap::Args;
use quorate_types::Code;
use serde_json::{Value, json};

use crate::args;
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Table, retry_word};
use crate::pages::{self, about, retry_sentence};

/// The longest line of an explanation.
const LINE_BYTES_MAX: usize = 100;

/// Explains an error code, or lists all.
#[derive(Clone, Debug, Args)]
pub(crate) struct ErrorArgs {
    /// The name or the number of the code, such as NOT_LEADER or 1001; all are listed if left out
    #[arg(conflicts_with = "list")]
    code: Option<String>,
    /// Lists every code
    #[arg(long)]
    list: bool,
    /// Writes the pages of docs/errors into a folder
    #[arg(long, value_name = "DIR", hide = true, conflicts_with_all = ["code", "list"])]
    write_docs: Option<PathBuf>,
}

/// Runs `quorate error`.
pub(crate) fn run(args: &ErrorArgs, out: &Output) -> Result<(), Failure> {
    if let Some(folder) = &args.write_docs {
        let count = pages::write_docs(folder)?;
        out.note(format_args!("{} has {count} pages", folder.display()));
        return Ok(());
    }
    match &args.code {
        Some(text) => {
            let code = find(text)?;
            if !out.is_json() {
                for line in words(code) {
                    out.say(line);
                }
            }
            out.document(&Document::new("error-code").item(code_json(code)));
        }
        None => {
            out.table(&all());
            let mut document = Document::new("error-code");
            document.items = Code::ALL.iter().map(|code| code_json(*code)).collect();
            out.document(&document);
        }
    }
    Ok(())
}

/// The code with this name, in any case, or this number.
fn find(text: &str) -> Result<Code, Failure> {
    let name = text.trim().to_ascii_uppercase().replace('-', "_");
    let number: Option<u32> = name.parse().ok(); // What is no number may be a name.
    let is_meant = |code: &&Code| code.name() == name || Some(code.number()) == number;
    Code::ALL.iter().find(is_meant).copied().ok_or_else(|| {
        let known = Code::ALL.iter().map(|code| code.name());
        let message = match args::nearest(&name, known) {
            Some(nearest) => format!("no error has the code {text:?}; did you mean {nearest:?}?"),
            None => format!("no error has the code {text:?}"),
        };
        Failure::usage(message, "`quorate error` lists every code").with_exit(Exit::NotFound)
    })
}

fn words(code: Code) -> Vec<String> {
    let page = pages::of(code);
    let mut lines = vec![format!("{} ({}), about {}", code.name(), code.number(), about(code))];
    lines.extend(wrapped(page.meaning, ""));
    lines.push(String::new());
    lines.push("why it happens:".to_owned());
    lines.extend(page.causes.iter().flat_map(|cause| wrapped(cause, "- ")));
    lines.push(format!("what to do: {}", code.fix()));
    lines.extend(page.steps.iter().flat_map(|step| wrapped(step, "- ")));
    lines.push(String::new());
    lines.push(format!("try again?  {}", retry_sentence(code.retry())));
    lines.push(format!("exit code:  {}", Exit::of(code).number()));
    lines
}

/// A text in lines of at most 100 characters; the first begins with `bullet`, the others below it.
fn wrapped(text: &str, bullet: &str) -> Vec<String> {
    let mut lines = vec![bullet.to_owned()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line from the start");
        if line.len() == bullet.len() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= LINE_BYTES_MAX {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{:width$}{word}", "", width = bullet.len()));
        }
    }
    lines
}

fn all() -> Table {
    let mut table = Table::new(&["NUMBER", "CODE", "RETRY", "EXIT", "WHAT TO DO"]);
    for code in Code::ALL {
        table.row([
            code.number().to_string(),
            code.name().to_owned(),
            retry_word(code.retry()).to_owned(),
            Exit::of(*code).number().to_string(),
            code.fix().to_owned(),
        ]);
    }
    table
}

fn code_json(code: Code) -> Value {
    json!({
        "code": code.name(),
        "number": code.number(),
        "about": about(code),
        "meaning": pages::of(code).meaning,
        "causes": pages::of(code).causes,
        "steps": pages::of(code).steps,
        "fix": code.fix(),
        "retry": retry_word(code.retry()),
        "exit_code": Exit::of(code).number(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_name_and_number() {
        for text in ["NOT_LEADER", "not_leader", "not-leader", "1001"] {
            assert_eq!(find(text), Ok(Code::NotLeader), "{text}");
        }
        let failure = find("NOT_LEDER").unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.to_string().contains("did you mean \"NOT_LEADER\"?"));
        assert!(find("1000").is_err());
    }

    #[test]
    fn an_explanation_has_meaning_fix_retry_and_exit_code() {
        let lines = words(Code::OutcomeUnknown);
        assert_eq!(lines[0], "OUTCOME_UNKNOWN (2005), about transactions");
        assert!(lines[1].starts_with("A write was sent and its answer was lost"), "{lines:?}");
        assert!(lines.contains(&"why it happens:".to_owned()), "{lines:?}");
        assert!(
            lines.contains(
                &"what to do: ask again under the same request id, or read the rows".to_owned()
            ),
            "{lines:?}"
        );
        assert_eq!(
            lines[lines.len() - 2..],
            ["try again?  only under the same request id: it may have happened", "exit code:  5",]
        );
        assert_eq!(all().tabbed().lines().count(), Code::ALL.len() + 1);
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        let text = "word ".repeat(30).trim_end().to_owned();
        let lines = wrapped(&text, "- ");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"));
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
        assert_eq!(wrapped("one", "- "), ["- one"]);
    }
}
