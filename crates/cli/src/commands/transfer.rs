//! `quorate transfer`: moves money between accounts.

mod batch;
mod lines;

use clap::{Args, Subcommand};
use quorate_client::{Outcome, TransferOutcome};
use quorate_types::{
    AccountAddress, Code, Hold, Transfer, TransferId, TransferKind, TransferRecord, Uid,
};
use rand::RngCore;
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Table};

/// Moves money.
#[derive(Clone, Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(subcommand)]
    command: TransferCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TransferCommand {
    /// Move or reserve an amount; exit 4 if that is refused
    Create(CreateArgs),
    /// Move what a pending transfer has reserved
    Post(PostArgs),
    /// Release what a pending transfer has reserved
    Void(VoidArgs),
    /// Print a transfer, or all with its id; exit 3 if none took effect
    Show(ShowArgs),
    /// Carry out the transfers of a file; exit 4 if any is refused
    Batch(batch::BatchArgs),
}

/// What all transfers may have.
#[derive(Clone, Debug, Args)]
struct CommonArgs {
    /// The id, 1 to 32 hexadecimal digits; without it one is made and printed first. Repeat a command
    /// whose outcome is unknown under its id
    #[arg(long, value_parser = args::transfer_id)]
    id: Option<TransferId>,
    /// 1 to 32 hexadecimal digits to find again
    #[arg(long, value_name = "HEX", default_value = "0", hide_default_value = true, value_parser = args::user_data)]
    user_data: u128,
}

impl CommonArgs {
    /// The id that was given, or a new one, which is printed.
    fn id(&self, out: &Output) -> TransferId {
        self.id.unwrap_or_else(|| {
            let id = new_id();
            out.note(format_args!("id {id}"));
            id
        })
    }
}

/// Arguments of `transfer create`.
#[derive(Clone, Debug, Args)]
struct CreateArgs {
    /// Where the money comes from, as uid:ledger or uid:ledger:code
    #[arg(long, value_name = "ACCOUNT", value_parser = args::account)]
    debit: AccountAddress,
    /// Where it goes
    #[arg(long, value_name = "ACCOUNT", value_parser = args::account)]
    credit: AccountAddress,
    /// How much, in the smallest unit of the ledger
    #[arg(long, value_name = "N")]
    amount: u64,
    /// Only reserve it; `transfer post` and `transfer void` decide
    #[arg(long)]
    pending: bool,
    /// Give the reservation up after this time
    #[arg(long, value_name = "TIME", requires = "pending", value_parser = args::duration)]
    timeout_after: Option<std::time::Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `transfer post`.
#[derive(Clone, Debug, Args)]
struct PostArgs {
    /// The id of the pending transfer
    #[arg(value_name = "PENDING", value_parser = args::transfer_id)]
    pending: TransferId,
    /// The user it debits
    #[arg(short, long, value_parser = args::uid)]
    uid: Uid,
    /// How much of it to move; the rest is released. Without it everything is moved
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    amount: Option<u64>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `transfer void`.
#[derive(Clone, Debug, Args)]
struct VoidArgs {
    /// The id of the pending transfer
    #[arg(value_name = "PENDING", value_parser = args::transfer_id)]
    pending: TransferId,
    /// The user it debits
    #[arg(short, long, value_parser = args::uid)]
    uid: Uid,
    #[command(flatten)]
    common: CommonArgs,
}

const SHOW_HELP: &str = "\
Ids are unique for each user that is debited, and transfers lie with that user. With --uid one row is
read. Without it every unit is asked and every account is walked past, at a cut: all transfers with this
id are printed, of one moment, and a large bank takes its time. A cut is kept for 60 s; units that take
longer end it with CUT_LOST.";

/// Arguments of `transfer show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SHOW_HELP)]
struct ShowArgs {
    /// The id of the transfer
    #[arg(value_parser = args::transfer_id)]
    id: TransferId,
    /// The user it debits: the quick way. Without it every unit is searched
    #[arg(short, long, value_parser = args::uid)]
    uid: Option<Uid>,
}

/// Runs `quorate transfer`.
pub(crate) async fn run(args: TransferArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        TransferCommand::Create(args) => create(args, global, out).await,
        TransferCommand::Post(args) => post(args, global, out).await,
        TransferCommand::Void(args) => void(args, global, out).await,
        TransferCommand::Show(args) => show(args, global, out).await,
        TransferCommand::Batch(args) => Box::pin(batch::run(args, global, out)).await,
    }
}

async fn create(args: CreateArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let timeout_ms = args.timeout_after.map_or(0, |after| after.as_millis());
    let timeout_ms = u32::try_from(timeout_ms).unwrap_or(u32::MAX);
    let kind = if args.pending { TransferKind::Pending { timeout_ms } } else { TransferKind::Post };
    let CreateArgs { debit, credit, amount, common, .. } = args;
    let user_data = common.user_data;
    let cluster = Cluster::open(global).await?;
    let id = common.id(out);
    let transfer = Transfer { id, kind, debit, credit, amount, user_data, linked: false };
    carry_out(&cluster, transfer, out).await
}

async fn post(args: PostArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let pending = find(&cluster, args.uid, args.pending).await?.transfer;
    let id = args.common.id(out);
    let amount = args.amount.unwrap_or(0);
    let Transfer { debit, credit, .. } = pending;
    let post = Transfer::post_pending(id, args.pending, debit, credit, amount);
    carry_out(&cluster, Transfer { user_data: args.common.user_data, ..post }, out).await
}

async fn void(args: VoidArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let pending = find(&cluster, args.uid, args.pending).await?.transfer;
    let id = args.common.id(out);
    let void = Transfer::void_pending(id, args.pending, pending.debit, pending.credit);
    carry_out(&cluster, Transfer { user_data: args.common.user_data, ..void }, out).await
}

async fn show(args: ShowArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let records = match args.uid {
        Some(uid) => vec![find(&cluster, uid, args.id).await?],
        None => search(&cluster, args.id).await?,
    };
    let mut table = Table::new(&["ID", "KIND", "DEBIT", "CREDIT", "AMOUNT", "SLOT", "STATE"]);
    let mut document = Document::new("transfer").of_cluster(cluster.topology().cluster_id());
    for record in &records {
        let TransferRecord { transfer, amount, slot, .. } = record;
        table.row([
            transfer.id.to_string(),
            transfer.kind.name().to_owned(),
            transfer.debit.to_string(),
            transfer.credit.to_string(),
            amount.to_string(),
            slot.to_string(),
            state_of(record),
        ]);
        document = document.item(record_json(record));
    }
    out.table(&table);
    out.document(&document);
    Ok(())
}

/// The transfer with this id.
async fn find(cluster: &Cluster, debit: Uid, id: TransferId) -> Result<TransferRecord, Failure> {
    let found = Box::pin(cluster.client().find_transfer(debit, id)).await;
    found.map_err(|error| cluster::failure(&error))?.ok_or_else(|| {
        let message = format!("no transfer {id} that debits UID {debit} took effect");
        Failure::new(Code::ConditionFailed, message)
            .with_exit(Exit::NotFound)
            .with_fix("check the id, and that --uid is the user it debits")
    })
}

/// Every transfer with this id, whomever it debits.
async fn search(cluster: &Cluster, id: TransferId) -> Result<Vec<TransferRecord>, Failure> {
    let found = Box::pin(cluster.client().find_transfers(id)).await;
    let found = found.map_err(|error| cluster::failure(&error))?;
    if found.is_empty() {
        let message = format!("no transfer {id} took effect in any unit");
        let failure = Failure::new(Code::ConditionFailed, message);
        return Err(failure.with_exit(Exit::NotFound).with_fix("check the id"));
    }
    Ok(found)
}

/// Carries out one transfer and says what became of it.
async fn carry_out(cluster: &Cluster, transfer: Transfer, out: &Output) -> Result<(), Failure> {
    let outcome = Box::pin(cluster.client().transfer(transfer)).await;
    let (verb, effect) = match &outcome {
        TransferOutcome::Created(effect) => ("created", effect),
        TransferOutcome::AlreadyApplied(effect) => ("already applied", effect),
        TransferOutcome::Refused(refusal) => {
            let message = format!("transfer {} was refused: {refusal}", transfer.id);
            return Err(Failure::new(Code::TransferRefused, message));
        }
        TransferOutcome::Failed(error) => {
            let failure = cluster::failure(error);
            let is_unknown = error.outcome() == Outcome::Unknown;
            let again =
                format!("repeat the command with --id {}: it takes effect once", transfer.id);
            return Err(if is_unknown { failure.with_fix(again) } else { failure });
        }
    };
    if !out.is_json() {
        let (amount, group, slot) = (effect.amount, effect.group, effect.slot);
        let what = transfer.kind.name();
        out.say(format_args!(
            "{what} of {amount} {verb}, durable on a majority of {group} at slot {slot}"
        ));
    }
    let document = Document::new("transfer").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(outcome_json(&transfer, &outcome)));
    Ok(())
}

/// A transfer and what became of it, for a document.
fn outcome_json(transfer: &Transfer, outcome: &TransferOutcome) -> Value {
    let mut item = transfer_json(transfer);
    let (verdict, told) = match outcome {
        TransferOutcome::Created(effect) => ("created", json!(effect.slot.to_string())),
        TransferOutcome::AlreadyApplied(effect) => {
            ("already_applied", json!(effect.slot.to_string()))
        }
        TransferOutcome::Refused(refusal) => {
            item["reason"] = json!(refusal.to_string());
            (refusal.verdict.name(), Value::Null)
        }
        TransferOutcome::Failed(error) => {
            item["code"] = json!(error.code().name());
            item["reason"] = json!(error.message());
            let is_unknown = error.outcome() == Outcome::Unknown;
            (if is_unknown { "unknown" } else { "not_applied" }, Value::Null)
        }
    };
    if let Some(effect) = outcome.effect() {
        item["effect"] = json!(effect.amount.to_string());
        item["group"] = json!(effect.group.to_string());
    }
    item["verdict"] = json!(verdict);
    item["slot"] = told;
    item
}

fn transfer_json(transfer: &Transfer) -> Value {
    let mut item = json!({
        "id": transfer.id.to_string(),
        "kind": transfer.kind.name(),
        "debit": transfer.debit.to_string(),
        "credit": transfer.credit.to_string(),
        "amount": transfer.amount.to_string(),
        "user_data": format!("{:032x}", transfer.user_data),
        "linked": transfer.linked,
    });
    if let TransferKind::Pending { timeout_ms } = transfer.kind {
        item["timeout_ms"] = json!(timeout_ms);
    }
    if let Some(pending) = transfer.kind.ends() {
        item["pending_id"] = json!(pending.to_string());
    }
    item
}

fn record_json(record: &TransferRecord) -> Value {
    let mut item = transfer_json(&record.transfer);
    item["effect"] = json!(record.amount.to_string());
    item["slot"] = json!(record.slot.to_string());
    item["created_log_ms"] = json!(record.created.0.to_string());
    item["state"] = json!(match record.hold {
        None => "done",
        Some(Hold::Open { .. }) => "open",
        Some(Hold::Posted { .. }) => "posted",
        Some(Hold::Voided { .. }) => "voided",
        Some(Hold::Expired) => "expired",
    });
    match record.hold {
        Some(Hold::Open { expires: Some(expires) }) => {
            item["expires_log_ms"] = json!(expires.0.to_string());
        }
        Some(Hold::Posted { amount, by }) => {
            item["posted"] = json!(amount.to_string());
            item["ended_by"] = json!(by.to_string());
        }
        Some(Hold::Voided { by }) => item["ended_by"] = json!(by.to_string()),
        Some(Hold::Open { expires: None } | Hold::Expired) | None => {}
    }
    item
}

/// How a transfer stands, for people.
fn state_of(record: &TransferRecord) -> String {
    match record.hold {
        None => "done".to_owned(),
        Some(Hold::Open { expires: None }) => "open".to_owned(),
        Some(Hold::Open { expires: Some(at) }) => {
            let left = at.0.saturating_sub(record.created.0);
            format!("open, expires {left} ms after it was created")
        }
        Some(Hold::Posted { amount, by }) => format!("{amount} posted by {by}"),
        Some(Hold::Voided { by }) => format!("voided by {by}"),
        Some(Hold::Expired) => "expired".to_owned(),
    }
}

/// A fresh id: time first, so that ids made one after the other lie together, then chance.
fn new_id() -> TransferId {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis()) & ((1 << 48) - 1);
    let mut rng = rand::rng();
    let chance = u128::from(rng.next_u64()) << 16 | u128::from(rng.next_u32() & 0xffff);
    TransferId((ms << 80 | chance).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_differ_and_parse() {
        let ids: Vec<TransferId> = (0..100).map(|_| new_id()).collect();
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(id.to_string().parse(), Ok(*id));
            assert!(!ids[..index].contains(id));
        }
    }
}
