//! What `quorate backup` prints.

use std::time::{Duration, Instant};

use quorate_backup::{BackupError, Found, GroupPart, LedgerTotal, Manifest, Place};
use serde_json::{Value, json};

use crate::output::{Cell, Document, Output, Table, Tone, thousands};

/// Between two lines of progress.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Lines on stderr that say that something moves, a few seconds apart.
pub(super) struct Lines<'o> {
    out: &'o Output,
    shown: Instant,
}

impl<'o> Lines<'o> {
    pub(super) fn new(out: &'o Output) -> Lines<'o> {
        Lines { out, shown: Instant::now() }
    }

    /// Says it if the last line was long enough ago. Cheap; call it often.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if LINE_INTERVAL <= self.shown.elapsed() {
            self.shown = Instant::now();
            self.out.note(line());
        }
    }
}

/// A backup that was made.
pub(super) fn created(manifest: &Manifest, place: &Place, out: &Output) {
    let mut groups = Table::new(&["GROUP", "UNIT", "SLOT", "RECORDS", "BYTES", "SHA-256"]);
    for part in &manifest.groups {
        groups.row([
            part.id().to_string(),
            part.unit.clone(),
            part.upto.to_string(),
            thousands(part.records),
            thousands(part.bytes),
            part.sha256.chars().take(16).collect(),
        ]);
    }
    out.table(&groups);
    for ledger in manifest.ledgers.iter().filter(|ledger| !ledger.balances()) {
        let number = ledger.ledger;
        out.warn(format_args!("the books of ledger {number} do not balance: see `quorate audit`"));
    }
    if !out.is_json() {
        out.say(format_args!(
            "backup {} is at {place}: {} records, {} bytes, as of cut {}",
            manifest.id,
            thousands(manifest.records()),
            thousands(manifest.bytes()),
            manifest.cut()
        ));
    }
    out.document(&Document::new("backup").item(full(manifest, place)));
}

/// The backups at a place.
pub(super) fn list(place: &Place, found: &[Found], out: &Output) {
    if found.is_empty() {
        out.say(format_args!("there are no backups at {place}"));
    } else {
        let mut table =
            Table::new(&["ID", "CREATED", "CLUSTER", "CUT", "RECORDS", "BYTES", "STATE"]);
        for backup in found {
            table.row(row(backup));
        }
        out.table(&table);
    }
    let document = Document::new("backup");
    out.document(&found.iter().fold(document, |all, backup| all.item(item(place, backup))));
}

fn row(backup: &Found) -> [Cell; 7] {
    let (cluster, cut, records, state) = match &backup.manifest {
        Ok(manifest) => (
            manifest.cluster.name.clone(),
            manifest.cut().to_string(),
            thousands(manifest.records()),
            Cell::toned(Tone::Good, "complete"),
        ),
        Err(error) => {
            (String::new(), String::new(), String::new(), Cell::toned(Tone::Bad, state_of(error)))
        }
    };
    [
        backup.id.to_string().into(),
        backup.id.created().into(),
        cluster.into(),
        cut.into(),
        records.into(),
        thousands(backup.bytes).into(),
        state,
    ]
}

/// One word for why there is no manifest.
fn state_of(error: &BackupError) -> &'static str {
    match error {
        BackupError::Missing { .. } | BackupError::Unfinished { .. } => "unfinished",
        BackupError::Format { .. } => "unknown format",
        _ => "damaged",
    }
}

fn item(place: &Place, backup: &Found) -> Value {
    match &backup.manifest {
        Ok(manifest) => {
            let mut item = full(manifest, place);
            item["state"] = json!("complete");
            item["stored_bytes"] = json!(backup.bytes.to_string());
            item
        }
        Err(error) => json!({
            "id": backup.id.to_string(),
            "place": place.to_string(),
            "created": backup.id.created(),
            "state": state_of(error),
            "stored_bytes": backup.bytes.to_string(),
        }),
    }
}

fn full(manifest: &Manifest, place: &Place) -> Value {
    json!({
        "id": manifest.id,
        "place": place.to_string(),
        "created": manifest.created,
        "cluster_id": manifest.cluster.id,
        "cluster": manifest.cluster.name,
        "cut": manifest.cut.to_string(),
        "records": manifest.records().to_string(),
        "bytes": manifest.bytes().to_string(),
        "objects": manifest.objects(),
        "sha256": manifest.sha256,
        "groups": manifest.groups.iter().map(group).collect::<Vec<_>>(),
        "ledgers": manifest.ledgers.iter().map(ledger).collect::<Vec<_>>(),
    })
}

fn group(part: &GroupPart) -> Value {
    json!({
        "group": part.id().to_string(),
        "unit": part.unit,
        "upto": part.upto.to_string(),
        "records": part.records.to_string(),
        "bytes": part.bytes.to_string(),
        "sha256": part.sha256,
    })
}

fn ledger(total: &LedgerTotal) -> Value {
    json!({
        "ledger": total.ledger,
        "accounts": total.accounts.to_string(),
        "sum": total.sum.to_string(),
        "sum_of_positive": total.sum_of_positive.to_string(),
        "reserved": total.reserved.to_string(),
        "below_floor": total.below_floor.to_string(),
        "balances": total.balances(),
    })
}
