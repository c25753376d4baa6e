//! `transfer batch`: the transfers of a file.

use std::path::PathBuf;

use clap::Args;
use quorate_client::{Outcome, TransferOutcome};
use quorate_types::{Code, Transfer};
use serde_json::Value;

use super::{lines, outcome_json};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Document, Output, Table, Tone};

/// Arguments of `transfer batch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct BatchArgs {
    /// The file, CSV with a header or a JSON object in each line; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print every transfer, not only those that were not created
    #[arg(long)]
    all: bool,
}

const HELP: &str = "\
A CSV file names its columns; those after amount may be left out:
  id,debit,credit,amount,kind,pending_id,timeout_ms,user_data,linked
  a1,42:840,7:840,250,,,,,
  a2,42:840,7:840,90,pending,,60000,,
  a3,42:840,7:840,,post_pending,a2,,,
A JSON line has the same fields:
  {\"id\": \"a1\", \"debit\": \"42:840\", \"credit\": \"7:840\", \"amount\": \"250\"}
Kinds are post, pending, post_pending and void_pending. A linked transfer stands or falls with the next
one. Every transfer has an id, so the same file may be sent again: what stands is not done twice.";

/// How many came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    created: usize,
    already: usize,
    refused: usize,
    not_applied: usize,
    unknown: usize,
}

impl Count {
    fn of(outcomes: &[TransferOutcome]) -> Count {
        let mut count = Count::default();
        for outcome in outcomes {
            *match outcome {
                TransferOutcome::Created(_) => &mut count.created,
                TransferOutcome::AlreadyApplied(_) => &mut count.already,
                TransferOutcome::Refused(_) => &mut count.refused,
                TransferOutcome::Failed(error) if error.outcome() == Outcome::Unknown => {
                    &mut count.unknown
                }
                TransferOutcome::Failed(_) => &mut count.not_applied,
            } += 1;
        }
        count
    }

    /// How the command ends. What is worse to be wrong about comes first.
    fn end(self, all: usize) -> Result<(), Failure> {
        let Count { refused, not_applied, unknown, .. } = self;
        if unknown != 0 {
            let message = format!("of {unknown} of {all} transfers the outcome is unknown");
            return Err(Failure::new(Code::OutcomeUnknown, message)
                .with_fix("send the same file again: what stands is not done twice"));
        }
        if not_applied != 0 {
            let message = format!("{not_applied} of {all} transfers were not carried out");
            return Err(Failure::new(Code::TransferRefused, message)
                .with_exit(Exit::Failed)
                .with_fix("the table says why; send the same file again once that is mended"));
        }
        if refused != 0 {
            let message = format!("{refused} of {all} transfers were refused");
            return Err(Failure::new(Code::TransferRefused, message));
        }
        Ok(())
    }
}

/// Runs `quorate transfer batch`.
pub(super) async fn run(args: BatchArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let failed = |error| Failure::file("read", &args.file, &error);
    let text = if args.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(failed)?
    } else {
        std::fs::read_to_string(&args.file).map_err(failed)?
    };
    let transfers = lines::parse(&text)?;
    let cluster = Cluster::open(global).await?;
    let outcomes = Box::pin(cluster.client().transfers(&transfers)).await;
    let count = Count::of(&outcomes);
    show(&transfers, &outcomes, args.all, out);
    let Count { created, already, refused, not_applied, unknown } = count;
    out.say(format_args!(
        "{created} created, {already} had been applied, {refused} refused, {not_applied} not \
         carried out, {unknown} unknown"
    ));
    let mut document = Document::new("transfers").of_cluster(cluster.topology().cluster_id());
    document.items = items(&transfers, &outcomes);
    out.document(&document);
    count.end(transfers.len())
}

fn items(transfers: &[Transfer], outcomes: &[TransferOutcome]) -> Vec<Value> {
    transfers.iter().zip(outcomes).map(|(it, outcome)| outcome_json(it, outcome)).collect()
}

fn show(transfers: &[Transfer], outcomes: &[TransferOutcome], all: bool, out: &Output) {
    let mut table = Table::new(&["ID", "DEBIT", "CREDIT", "AMOUNT", "OUTCOME"]);
    let mut has_rows = false;
    for (transfer, outcome) in transfers.iter().zip(outcomes) {
        let told = match outcome {
            TransferOutcome::Created(_) if !all => continue,
            TransferOutcome::Created(_) => Cell::toned(Tone::Good, "created"),
            TransferOutcome::AlreadyApplied(_) => Cell::from("already_applied"),
            TransferOutcome::Refused(refusal) => Cell::toned(Tone::Bad, refusal.to_string()),
            TransferOutcome::Failed(error) => {
                let known = match error.outcome() {
                    Outcome::Unknown => "unknown",
                    Outcome::NotApplied => "not applied",
                };
                let (code, message) = (error.code(), error.message());
                Cell::toned(Tone::Bad, format!("{known}: {code}: {message}"))
            }
        };
        has_rows = true;
        table.row([
            Cell::from(transfer.id.to_string()),
            Cell::from(transfer.debit.to_string()),
            Cell::from(transfer.credit.to_string()),
            Cell::from(transfer.amount.to_string()),
            told,
        ]);
    }
    if has_rows {
        out.table(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_the_worst() {
        // Goal: a script can tell "done", "refused" and "look again" apart.
        let exit = |count: Count| count.end(9).map_err(|failure| failure.exit());
        let good = Count { created: 5, already: 4, ..Count::default() };
        assert_eq!(exit(good), Ok(()));
        assert_eq!(exit(Count { refused: 1, ..good }), Err(Exit::Conflict));
        assert_eq!(exit(Count { refused: 1, not_applied: 1, ..good }), Err(Exit::Failed));
        let unknown = Count { refused: 1, not_applied: 1, unknown: 1, ..good };
        assert_eq!(exit(unknown), Err(Exit::OutcomeUnknown));
    }
}
