//! `quorate error`: what a code means, whether to try again and what to do.

use clap::Args;
use quorate_types::{Code, RetryClass};
use serde_json::{Value, json};

use crate::args;
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Table, retry_word};

/// Explains an error code.
#[derive(Clone, Debug, Args)]
pub(crate) struct ErrorArgs {
    /// The name or the number of the code, such as NOT_LEADER or 1001
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    code: Option<String>,
    /// Lists every code
    #[arg(long)]
    list: bool,
}

/// Runs `quorate error`.
pub(crate) fn run(args: &ErrorArgs, out: &Output) -> Result<(), Failure> {
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
    let number: Option<u32> = name.parse().ok();
    let is_meant = |code: &&Code| code.name() == name || Some(code.number()) == number;
    Code::ALL.iter().find(is_meant).copied().ok_or_else(|| {
        let known = Code::ALL.iter().map(|code| code.name());
        let message = match args::nearest(&name, known) {
            Some(nearest) => format!("no error has the code {text:?}; did you mean {nearest:?}?"),
            None => format!("no error has the code {text:?}"),
        };
        Failure::usage(message, "`quorate error --list` lists every code").with_exit(Exit::NotFound)
    })
}

/// What kind of trouble a number stands for.
fn range_word(code: Code) -> &'static str {
    match code.number() / 1000 {
        1 => "routing",
        2 => "transactions",
        3 => "quorum and reachability",
        4 => "capacity and limits",
        6 => "setup",
        7 => "data on disk",
        8 => "security",
        _ => "internal",
    }
}

/// What a retry class means, in a sentence.
fn retry_sentence(class: RetryClass) -> &'static str {
    match class {
        RetryClass::No => "no: the request or the setup must change first",
        RetryClass::Safe => "yes: nothing happened, the same request may be sent again",
        RetryClass::SameId => "only under the same request id: it may have happened",
    }
}

fn words(code: Code) -> Vec<String> {
    let mut lines =
        vec![format!("{} ({}), about {}", code.name(), code.number(), range_word(code))];
    lines.push(format!("what to do: {}", code.fix()));
    lines.push(format!("try again?  {}", retry_sentence(code.retry())));
    lines.push(format!("exit code:  {}", Exit::of(code).number()));
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
        "about": range_word(code),
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
        assert_eq!(
            words(Code::OutcomeUnknown),
            [
                "OUTCOME_UNKNOWN (2005), about transactions",
                "what to do: ask again under the same request id, or read the rows",
                "try again?  only under the same request id: it may have happened",
                "exit code:  5",
            ]
        );
        assert_eq!(all().tabbed().lines().count(), Code::ALL.len() + 1);
        for code in Code::ALL {
            assert_ne!(range_word(*code), "", "{code}");
        }
    }
}
