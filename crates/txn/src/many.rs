//! Reads of many rows at one moment, also of rows of several groups, without locks and log entries.
//!
//! A group answers for its rows at one view, once none of them is locked for writing. For rows of
//! several groups the caller asks all of them, waits for all answers, and asks all of them again, with
//! the versions it was told. If every row is as known, it is done: each row had its value from the
//! first answer of its group to the second, so at every moment between the rounds all of them did.
//!
//! A transaction over several groups takes effect at a moment when it holds its locks in all of them.
//! Before that moment no group shows any of it, after it each group shows all of its part or has the
//! row locked. So values of unlocked rows are those of all transactions that took effect before.
//!
//! Cuts need care of their own. What the caller saw in one group may stand behind a cut that another
//! group has yet to pass, where a write may still come before it: then the cut would hold that write and
//! not what was seen before it. So a group whose log has not passed the greatest cut of the first
//! answers takes no row for known. docs/TRANSACTIONS.md has the whole argument.
//!
//! Called by `evaluate.rs`.

use std::collections::BTreeMap;

use quorate_store::keys::parse_row;
use quorate_store::{Change, Row, StoreError};
use quorate_types::limits::READ_BYTES_MAX;
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Code, CutId, Error, FoundRow, FoundRows, ReplyBody, RowVersion, SliceId, Slot, Value, WantedRow,
};

use crate::context::Context;
use crate::evaluate::{Evaluation, State};

/// Where in the log rows were last deleted, by slice: names the state of rows that do not exist, so that
/// one that came and went between two looks is noticed.
///
/// Kept by every replica and never stored. A replica that starts knows nothing of the entries that its
/// store holds, and takes the last of them for a delete.
#[derive(Clone, Debug)]
pub struct Deletes {
    /// Entries up to here may have deleted anything.
    floor: Slot,
    /// The last delete above. Invariant: each is above `floor`.
    last: BTreeMap<SliceId, Slot>,
}

impl Deletes {
    /// Nothing is known of the entries up to `applied`.
    #[must_use]
    pub fn after(applied: Slot) -> Deletes {
        Deletes { floor: applied, last: BTreeMap::new() }
    }

    /// The entry at `slot` was applied and changed this.
    pub fn note(&mut self, slot: Slot, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.value.is_none()) {
            if let Some((slice, ..)) = parse_row(&change.key) {
                self.last.insert(slice, slot);
            }
        }
    }

    /// No later entry that was applied has deleted a row of the slice.
    #[must_use]
    pub fn last(&self, slice: SliceId) -> Slot {
        self.last.get(&slice).copied().unwrap_or(self.floor)
    }
}

/// Reads rows of this group at one moment.
pub(crate) fn get_many(
    rows: &[WantedRow],
    cut: CutId,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    let locks = state.cross.locks();
    if !locks.is_empty() && !ignores_locks(rows) {
        let mut keys = rows.iter().map(|row| context.key(&row.at));
        if let Some(holder) = keys.find_map(|key| locks.against_reading(&key)) {
            return Ok(Evaluation::Wait(holder));
        }
    }
    let passed = state.cross.table().cut();
    let is_behind = passed < cut;
    let mut found = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in rows {
        let (version, value) = read(row, context, state)?;
        let is_known = row.known == Some(version) && !is_behind;
        if is_known || (row.known.is_some() && planted(Bug::ValidateNothing)) {
            found.push(FoundRow::AsKnown);
            continue;
        }
        bytes += value.as_ref().map_or(0, Value::size);
        if READ_BYTES_MAX < bytes {
            let message = format!("the rows to return exceed {READ_BYTES_MAX} bytes");
            let error = Error::new(Code::TxnTooLarge, message).with("length", bytes);
            return Ok(Evaluation::Refuse(error));
        }
        found.push(FoundRow::Is(version, value));
    }
    Ok(Evaluation::Read(ReplyBody::Rows(FoundRows { cut: passed, rows: found })))
}

/// A row and the version of its state. The slot of a change is above all that was applied before, and
/// the slot of a delete is not: so the two kinds of versions of a row never meet.
fn read(
    row: &WantedRow,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<(RowVersion, Option<Value>), StoreError> {
    let group = context.keyspace.group;
    let key = context.key(&row.at);
    let Some(record) = state.applied.get(&key)? else {
        let slice = (context.slice_of)(row.at.table, row.at.uid);
        return Ok((RowVersion { group, slot: state.deletes.last(slice) }, None));
    };
    let Row { slot, value } = Row::decode(&record).map_err(|error| error.at(&key))?;
    Ok((RowVersion { group, slot }, Some(value)))
}

fn ignores_locks(rows: &[WantedRow]) -> bool {
    let validates = || rows.iter().any(|row| row.known.is_some());
    (planted(Bug::ValidateAroundLocks) || planted(Bug::ValidateNothing)) && validates()
}
