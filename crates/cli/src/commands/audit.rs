//! `quorate audit`: do the books of all units balance?

use clap::Args;
use quorate_client::{AuditReport, LedgerAudit};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Document, Output, Table, Tone};

const AUDIT_HELP: &str = "\
Reads every account at one cut, a moment that is the same in all units, while money moves on. The
balances of a ledger must add up to 0, and no account may be below its floor; otherwise exit 10. Exit 3 if the ledger has no account.";

/// Adds up the accounts of all units.
#[derive(Clone, Debug, Args)]
#[command(after_help = AUDIT_HELP)]
pub(crate) struct AuditArgs {
    /// Report this ledger only; all of them are read either way
    #[arg(long, value_name = "N")]
    ledger: Option<u32>,
}

/// Runs `quorate audit`.
pub(crate) async fn run(args: AuditArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let audited = Box::pin(cluster.client().audit()).await;
    let mut report = audited.map_err(|error| cluster::failure(&error))?;
    if let Some(wanted) = args.ledger {
        report.ledgers.retain(|ledger, _| *ledger == wanted);
    }
    print(&report, args.ledger, &cluster, out);
    match args.ledger {
        Some(_) if report.ledgers.is_empty() => Err(Failure::quiet(Exit::NotFound)),
        _ if report.balances() => Ok(()),
        _ => Err(Failure::quiet(Exit::Unhealthy)),
    }
}

fn print(report: &AuditReport, wanted: Option<u32>, cluster: &Cluster, out: &Output) {
    let mut ledgers = Table::new(&["LEDGER", "ACCOUNTS", "SUM", "ABOVE 0", "RESERVED", "BOOKS"]);
    let mut units = Table::new(&["LEDGER", "UNIT", "ACCOUNTS", "BALANCE"]);
    for (number, ledger) in &report.ledgers {
        ledgers.row([
            number.to_string().into(),
            ledger.accounts.to_string().into(),
            ledger.sum.to_string().into(),
            ledger.sum_of_positive.to_string().into(),
            ledger.reserved.to_string().into(),
            verdict(ledger),
        ]);
        for (unit, held) in &ledger.units {
            let cells = [number.to_string(), unit.clone(), held.accounts.to_string()];
            let cells = cells.into_iter().chain([held.balance.to_string()]);
            units.row(cells.map(Cell::from));
        }
    }
    match (report.ledgers.is_empty(), wanted) {
        (true, Some(ledger)) => out.say(format_args!("no account is in ledger {ledger}")),
        (true, None) => out.say("there are no accounts"),
        (false, _) => {
            out.table(&ledgers);
            out.table(&units);
        }
    }
    for ledger in report.ledgers.values() {
        for address in &ledger.first_below_floor {
            out.warn(format_args!("account {address} is below its floor"));
        }
    }
    out.note(format_args!("read {} groups at cut {}", report.groups, report.cut));
    let document = Document::new("audit").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(json!({
        "cut": report.cut.0.to_string(),
        "groups": report.groups,
        "balances": report.balances(),
        "ledgers": report.ledgers.iter().map(ledger_json).collect::<Vec<_>>(),
    })));
}

fn verdict(ledger: &LedgerAudit) -> Cell {
    if ledger.balances() {
        return Cell::toned(Tone::Good, "balance");
    }
    let mut wrong = Vec::new();
    if ledger.sum != 0 {
        wrong.push(format!("off by {}", ledger.sum));
    }
    if 0 < ledger.below_floor {
        wrong.push(format!("{} below their floor", ledger.below_floor));
    }
    Cell::toned(Tone::Bad, wrong.join(", "))
}

/// Sums have more than 64 bits: they are texts.
fn ledger_json((number, ledger): (&u32, &LedgerAudit)) -> Value {
    let unit = |(name, held): (&String, &quorate_client::UnitAudit)| {
        json!({
            "unit": name,
            "accounts": held.accounts.to_string(),
            "balance": held.balance.to_string(),
        })
    };
    let below: Vec<String> = ledger.first_below_floor.iter().map(ToString::to_string).collect();
    json!({
        "ledger": number,
        "accounts": ledger.accounts.to_string(),
        "sum": ledger.sum.to_string(),
        "sum_of_positive": ledger.sum_of_positive.to_string(),
        "reserved": ledger.reserved.to_string(),
        "below_floor": ledger.below_floor.to_string(),
        "first_below_floor": below,
        "balances": ledger.balances(),
        "units": ledger.units.iter().map(unit).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        // Goal: a person sees at a glance whether the books balance, and if not, why.
        let good = LedgerAudit { accounts: 2, ..LedgerAudit::default() };
        assert_eq!(verdict(&good), Cell::toned(Tone::Good, "balance"));
        let bad = LedgerAudit { sum: -7, below_floor: 2, ..good };
        assert_eq!(verdict(&bad), Cell::toned(Tone::Bad, "off by -7, 2 below their floor"));
        assert_eq!(ledger_json((&840, &bad))["balances"], json!(false));
    }
}
