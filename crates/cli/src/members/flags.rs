//! What the commands that change members share on the command line.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use quorate_topology::change::Redundancy;
use quorate_types::Code;

use crate::args;
use crate::exit::{Exit, Failure};

/// The flags of every change.
#[derive(Clone, Debug, Args)]
pub(crate) struct Flags {
    /// Print the steps and what each group survives before, during and after, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask whether to go on
    #[arg(long)]
    pub(crate) yes: bool,
    /// Go on even if a group that survives the loss of any one node will not any more
    #[arg(long)]
    pub(crate) accept_less_redundancy: bool,
    /// How long all of it may take; run again, the command goes on where it stopped
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = args::duration)]
    pub(crate) wait: Duration,
}

impl Flags {
    /// What the plans may cost.
    pub(crate) fn redundancy(&self) -> Redundancy {
        if self.accept_less_redundancy { Redundancy::AcceptLess } else { Redundancy::Keep }
    }

    /// Asks whether to go on, unless that was said.
    ///
    /// # Errors
    /// If the answer is no, or nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::usage(
                format!("nobody can be asked: {question}"),
                "say --yes to go on without a question, or --dry-run to see the steps first",
            ));
        }
        ask(question, &mut io::stdin().lock(), &mut io::stderr().lock())
    }
}

fn ask(question: &str, answers: &mut impl BufRead, screen: &mut impl Write) -> Result<(), Failure> {
    // Harmless if nobody sees it: without a yes nothing happens.
    let _ = write!(screen, "{question} [y/N]: ").and_then(|()| screen.flush());
    let mut line = String::new();
    let is_answered = answers.read_line(&mut line).is_ok_and(|count| 0 < count);
    if is_answered && ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Failure::new(Code::InvalidRequest, "the answer was no; nothing was changed")
        .with_exit(Exit::Interrupted)
        .with_fix("answer y, or say --yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_goes_on() {
        // Goal: Enter, the end of the answers and anything else change nothing.
        for (answer, goes_on) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("n\n", false)]
        {
            let mut screen = Vec::new();
            let asked = ask("Go on?", &mut answer.as_bytes(), &mut screen);
            assert_eq!(asked.is_ok(), goes_on, "{answer:?}");
            assert_eq!(screen, b"Go on? [y/N]: ");
            if let Err(failure) = asked {
                assert_eq!(failure.exit(), Exit::Interrupted);
            }
        }
    }
}
