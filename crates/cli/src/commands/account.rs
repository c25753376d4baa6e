//! `quorate account`: creates accounts, changes what they allow, shows what they hold.

use clap::{Args, Subcommand};
use quorate_client::AccountState;
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, Code, HistoryEntry, limits,
};
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Table};
use crate::reading::ReadArgs;

/// Changes of a balance printed unless `--limit` or `--all` says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Looks after accounts.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AccountCommand {
    /// Create an account; nothing happens if it exists with these settings, exit 4 with others
    Create(CreateArgs),
    /// Change what an account allows; exit 4 if less is free than the new floor
    Set(SetArgs),
    /// Print what an account holds and allows; exit 3 if it does not exist
    Show(ShowArgs),
    /// List the changes of a balance, oldest first, if the account keeps them
    History(HistoryArgs),
}

/// Arguments of `account create`.
#[derive(Clone, Debug, Args)]
struct CreateArgs {
    /// The account, as uid:ledger or uid:ledger:code
    #[arg(value_name = "ACCOUNT", value_parser = args::account)]
    at: AccountAddress,
    /// What the free balance never falls below; not above 0, with which an account begins
    #[arg(long, value_name = "AMOUNT", default_value_t = 0, allow_negative_numbers = true, value_parser = args::integer)]
    floor: i64,
    /// The balance may fall to any depth
    #[arg(long, conflicts_with = "floor")]
    no_floor: bool,
    /// Nothing may be debited
    #[arg(long)]
    no_debits: bool,
    /// Nothing may be credited
    #[arg(long)]
    no_credits: bool,
    /// Keep every change of the balance
    #[arg(long)]
    history: bool,
}

/// Arguments of `account set`.
#[derive(Clone, Debug, Args)]
struct SetArgs {
    /// The account, as uid:ledger or uid:ledger:code
    #[arg(value_name = "ACCOUNT", value_parser = args::account)]
    at: AccountAddress,
    /// What the free balance never falls below
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true, value_parser = args::integer)]
    floor: Option<i64>,
    /// The balance may fall to any depth
    #[arg(long, conflicts_with = "floor")]
    no_floor: bool,
    /// Whether debits are refused
    #[arg(long, value_name = "true|false")]
    no_debits: Option<bool>,
    /// Whether credits are refused
    #[arg(long, value_name = "true|false")]
    no_credits: Option<bool>,
    /// Whether every change of the balance is kept from now on
    #[arg(long, value_name = "true|false")]
    history: Option<bool>,
}

/// Arguments of `account show`.
#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// The account, as uid:ledger or uid:ledger:code
    #[arg(value_name = "ACCOUNT", value_parser = args::account)]
    at: AccountAddress,
    #[command(flatten)]
    reading: ReadArgs,
}

/// Arguments of `account history`.
#[derive(Clone, Debug, Args)]
struct HistoryArgs {
    /// The account, as uid:ledger or uid:ledger:code
    #[arg(value_name = "ACCOUNT", value_parser = args::account)]
    at: AccountAddress,
    /// Most changes to print [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print every change
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Runs `quorate account`.
pub(crate) async fn run(args: AccountArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        AccountCommand::Create(args) => create(args, global, out).await,
        AccountCommand::Set(args) => set(args, global, out).await,
        AccountCommand::Show(args) => show(args, global, out).await,
        AccountCommand::History(args) => history(args, global, out).await,
    }
}

async fn create(args: CreateArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let settings = AccountSettings {
        floor: (!args.no_floor).then_some(args.floor),
        no_debits: args.no_debits,
        no_credits: args.no_credits,
        history: args.history,
    };
    let cluster = Cluster::open(global).await?;
    let created = Box::pin(cluster.client().create_account(args.at, settings)).await;
    let state = created.map_err(|error| cluster::failure(&error))?;
    let verb = if state.replayed { "exists with these settings" } else { "created" };
    say(&cluster, verb, &state, out);
    Ok(())
}

async fn set(args: SetArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let floor = if args.no_floor { Some(None) } else { args.floor.map(Some) };
    let SetArgs { at, no_debits, no_credits, history, .. } = args;
    let change = AccountChange { floor, no_debits, no_credits, history };
    if change == AccountChange::default() {
        return Err(Failure::usage(
            "nothing is to change",
            "name what is to change; `quorate account set --help` lists it",
        ));
    }
    let cluster = Cluster::open(global).await?;
    let changed = Box::pin(cluster.client().set_account(at, change)).await;
    let state = changed.map_err(|error| cluster::failure(&error))?;
    say(&cluster, if state.replayed { "had these settings" } else { "set" }, &state, out);
    Ok(())
}

async fn show(args: ShowArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open_near(global, args.reading.near()).await?;
    let found = Box::pin(args.reading.of(cluster.client()).account(args.at)).await;
    let Some(account) = found.map_err(|error| cluster::failure(&error))? else {
        return Err(missing(args.at));
    };
    out.table(&table_of(&account));
    let document = Document::new("account").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(account_json(&account)));
    Ok(())
}

async fn history(args: HistoryArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let limit = match (args.all, args.limit) {
        (true, _) => usize::MAX,
        (false, Some(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        (false, None) => LIMIT_DEFAULT,
    };
    let cluster = Cluster::open(global).await?;
    let found = Box::pin(cluster.client().account(args.at)).await;
    let Some(account) = found.map_err(|error| cluster::failure(&error))? else {
        return Err(missing(args.at));
    };
    let page_size = limit.saturating_add(1).min(limits::HISTORY_ENTRIES_MAX);
    let mut pages = cluster.client().account_history(args.at).page_size(page_size);
    let mut entries: Vec<HistoryEntry> = Vec::new();
    while entries.len() <= limit
        && let Some(page) =
            Box::pin(pages.next_page()).await.map_err(|error| cluster::failure(&error))?
    {
        entries.extend(page);
    }
    let has_more = limit < entries.len();
    entries.truncate(limit);

    let mut table = Table::new(&["SLOT", "DELTA", "BALANCE", "DEBIT", "TRANSFER"]);
    for entry in &entries {
        let HistoryEntry { at, delta, balance, transfer, debit } = entry;
        let delta = format!("{delta:+}");
        table.row([
            at.slot.to_string(),
            delta,
            balance.to_string(),
            debit.to_string(),
            transfer.to_string(),
        ]);
    }
    out.table(&table);
    let mut document = Document::new("history").of_cluster(cluster.topology().cluster_id());
    document.items = entries.iter().map(entry_json).collect();
    out.document(&document);
    if has_more {
        let count = entries.len();
        out.note(format_args!("{count} changes are shown and more exist; --limit N or --all"));
    } else if entries.is_empty() && !account.settings.history {
        out.note("the account keeps no history; `quorate account set --history true` changes that");
    }
    Ok(())
}

fn missing(at: AccountAddress) -> Failure {
    Failure::new(Code::AccountMissing, format!("account {at} does not exist"))
        .with_exit(Exit::NotFound)
        .with_fix("`quorate account create` creates it")
}

fn say(cluster: &Cluster, verb: &str, state: &AccountState, out: &Output) {
    if !out.is_json() {
        out.say(format_args!("account {} {verb}", state.account.address));
        out.table(&table_of(&state.account));
    }
    let mut item = account_json(&state.account);
    item["done"] = json!(verb);
    item["replayed"] = json!(state.replayed);
    let document = Document::new("account").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(item));
}

fn table_of(account: &Account) -> Table {
    let Account { address, settings, balance, reserved, .. } = account;
    let mut table =
        Table::new(&["ACCOUNT", "BALANCE", "RESERVED", "FREE", "FLOOR", "REFUSES", "HISTORY"]);
    let refused: Vec<&str> = [(settings.no_debits, "debits"), (settings.no_credits, "credits")]
        .into_iter()
        .filter_map(|(is_refused, what)| is_refused.then_some(what))
        .collect();
    table.row([
        address.to_string(),
        balance.to_string(),
        reserved.to_string(),
        account.free().to_string(),
        settings.floor.map_or_else(|| "none".to_owned(), |floor| floor.to_string()),
        if refused.is_empty() { "nothing".to_owned() } else { refused.join(", ") },
        if settings.history { "kept" } else { "not kept" }.to_owned(),
    ]);
    table
}

fn account_json(account: &Account) -> Value {
    let Account { address, settings, balance, reserved, created } = account;
    json!({
        "account": address.to_string(),
        "uid": address.uid.to_string(),
        "ledger": address.ledger,
        "code": address.code,
        "balance": balance.to_string(),
        "reserved": reserved.to_string(),
        "free": account.free().to_string(),
        "floor": settings.floor.map(|floor| floor.to_string()),
        "no_debits": settings.no_debits,
        "no_credits": settings.no_credits,
        "history": settings.history,
        "created_log_ms": created.0.to_string(),
    })
}

fn entry_json(entry: &HistoryEntry) -> Value {
    json!({
        "slot": entry.at.slot.to_string(),
        "index": entry.at.index,
        "delta": entry.delta.to_string(),
        "balance": entry.balance.to_string(),
        "transfer": entry.transfer.to_string(),
        "debit_uid": entry.debit.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use quorate_types::{LogTime, Uid};

    use super::*;

    #[test]
    fn a_document_tells_everything_about_an_account() {
        // Goal: numbers of 64 bits are strings, and what is free is reckoned once, here.
        let settings = AccountSettings { floor: None, no_debits: true, ..Default::default() };
        let address = AccountAddress::new(Uid(u64::MAX), 840);
        let account =
            Account { address, settings, balance: i64::MIN, reserved: 7, created: LogTime(5) };
        let item = account_json(&account);
        assert_eq!(item["account"], "18446744073709551615:840:1");
        assert_eq!(item["free"], "-9223372036854775815");
        assert_eq!(item["floor"], Value::Null);
        let table = table_of(&account).tabbed();
        assert!(table.ends_with("\tnone\tdebits\tnot kept\n"), "{table}");
    }
}
