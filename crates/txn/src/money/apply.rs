//! Applies an entry about money: what the leader decided, on our rows.
//!
//! Called by `apply.rs` of the crate. Takes the steps of the books without deciding anything. Where a
//! step is not possible, an account is missing or a floor is broken, our rows are not those of the
//! leader, and the replica has to stop.

use quorate_store::{Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    EntryId, LogTime, ReplyBody, SliceId, Slot, Transfer, TransferDetail, TransferId, TransferKind,
    TransferResults, Uid, Verdict,
};

use super::books::{Books, Broken, HoldKey, HoldNow, Item, stored_hold};
use super::draft::{Created, Draft};
use super::entry::{AccountEntry, MoneyEntry, TransfersEntry};
use super::holds::HoldTable;
use super::leg::Leg;
use super::record::{ClosedHold, decode_transfer};
use super::steps::{detail, end_hold, ending, expiry};
use crate::apply::{Applied, ApplyError, applied};

/// Why an entry cannot be applied.
enum Stop {
    Store(StoreError),
    Differs(&'static str),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

impl From<Broken> for Stop {
    fn from(Broken(what): Broken) -> Stop {
        Stop::Differs(what)
    }
}

/// Applies an entry and tells the table which holds it opens and closes.
pub(crate) fn apply(
    entry: &MoneyEntry,
    at: EntryId,
    log_time: LogTime,
    keyspace: Keyspace,
    holds: &mut HoldTable,
    view: &dyn View,
) -> Result<Applied, ApplyError> {
    let done = match entry {
        MoneyEntry::Account(entry) => apply_account(entry, log_time, keyspace, view),
        MoneyEntry::Transfers(entry) => apply_transfers(entry, at.slot, keyspace, view),
        MoneyEntry::ExpireHolds(expired) => apply_expiry(expired, keyspace, view),
    };
    let (draft, body) = done.map_err(|stop| match stop {
        Stop::Store(source) => ApplyError::Store { at, source },
        Stop::Differs(what) => ApplyError::Money { at, what },
    })?;
    draft.note_holds(log_time, holds);
    Ok(applied(at, draft.changes(at.slot, log_time), body))
}

/// What changes when transfers between groups are committed, with the verdicts of the credit side.
/// `voted_at` is the slot of our PREPARE. Used for the overlay, too.
pub(crate) fn settle(
    leg: &Leg,
    credits: &[Verdict],
    (at, voted_at): (EntryId, Slot),
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<Draft, ApplyError> {
    let settled = leg.settle(credits, voted_at, keyspace, view);
    settled
        .map_err(|source| ApplyError::Store { at, source })?
        .map_err(|Broken(what)| ApplyError::Money { at, what })
}

fn apply_account(
    entry: &AccountEntry,
    log_time: LogTime,
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<(Draft, ReplyBody), Stop> {
    let AccountEntry { is_new, slice, address, settings } = *entry;
    let (mut books, _) = Books::open(view, keyspace, [(slice, address)].into_iter())?;
    if is_new {
        books.create(0, settings, log_time)?;
    } else {
        books.set(0, settings)?;
    }
    let draft = books.into_draft();
    let body = ReplyBody::Account(draft.account());
    Ok((draft, body))
}

fn apply_transfers(
    entry: &TransfersEntry,
    slot: Slot,
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<(Draft, ReplyBody), Stop> {
    let standing = standing(entry);
    let created = |step: &&Step| step.verdict == Verdict::Created;
    let sides: Vec<_> = standing
        .iter()
        .filter(created)
        .flat_map(|step| {
            let Transfer { debit, credit, .. } = step.transfer;
            [(step.slices.0, debit), (step.slices.1, credit)]
        })
        .collect();
    let (mut books, places) = Books::open(view, keyspace, sides.into_iter())?;
    let mut rows = Vec::with_capacity(places.len() / 2);
    let mut details = Vec::new();
    for (step, places) in standing.iter().filter(created).zip(places.as_chunks::<2>().0) {
        let amount = step.take(&mut books, *places)?;
        rows.push((step.slices.0, step.transfer.debit.uid, step.transfer.id, step.index, amount));
        if step.transfer.kind.ends().is_some() {
            details.push(detail(step.index, slot, amount));
        }
    }
    rows.sort_unstable();
    if let Some((slice, debit, id, ..)) = rows.first()
        && view.get(&keyspace.transfer(*slice, *debit, *id))?.is_some()
        && !planted(Bug::TransferTwice)
    {
        return Err(Stop::Differs("a transfer takes effect twice"));
    }
    for step in standing.iter().filter(|step| step.verdict == Verdict::AlreadyApplied) {
        details.push(first_result(step, &rows, slot, keyspace, view)?);
    }
    details.sort_unstable_by_key(|detail| detail.index);
    let created = |(slice, _, _, index, amount): (SliceId, Uid, TransferId, usize, u64)| Created {
        index,
        slice,
        amount,
    };
    let created = rows.into_iter().map(created).collect();
    let draft = books.into_draft().with_transfers(entry.batch.clone(), created);
    let results = TransferResults { verdicts: entry.verdicts.clone(), details };
    Ok((draft, ReplyBody::Transfers(results)))
}

/// A transfer that stands.
struct Step {
    index: usize,
    transfer: Transfer,
    verdict: Verdict,
    slices: (SliceId, SliceId),
}

fn standing(entry: &TransfersEntry) -> Vec<Step> {
    let mut slices = entry.slices.iter();
    let mut standing = Vec::with_capacity(entry.slices.len());
    for (index, (transfer, verdict)) in entry.batch.iter().zip(&entry.verdicts).enumerate() {
        if verdict.stands() {
            let slices = *slices.next().expect("decoding counted them");
            standing.push(Step { index, transfer, verdict: *verdict, slices });
        }
    }
    standing
}

impl Step {
    /// Takes the steps of a created transfer. Returns what it moves, reserves or releases.
    fn take(&self, books: &mut Books<'_>, [debit, credit]: [usize; 2]) -> Result<u64, Stop> {
        let index = u16::try_from(self.index).map_err(|_| Stop::Differs("a batch is too large"))?;
        let item = Item { index, debit: Some(debit), credit: Some(credit) };
        let transfer = &self.transfer;
        match transfer.kind {
            TransferKind::Post => {
                books.post(item, transfer, transfer.amount)?;
                Ok(transfer.amount)
            }
            TransferKind::Pending { timeout_ms } => {
                books.reserve(item, transfer, expiry(timeout_ms))?;
                Ok(transfer.amount)
            }
            TransferKind::PostPending(pending) | TransferKind::VoidPending(pending) => {
                let (slice, debit) = (self.slices.0, transfer.debit.uid);
                let key = HoldKey { slice, debit, pending };
                let hold = match books.hold(key)? {
                    HoldNow::Open(hold) => hold,
                    HoldNow::Closed(ClosedHold::Posted { amount, .. })
                        if planted(Bug::HoldTwice) =>
                    {
                        books.post(item, transfer, amount)?;
                        return Ok(amount);
                    }
                    HoldNow::Closed(_) | HoldNow::Missing => {
                        return Err(Stop::Differs("a pending transfer is not open"));
                    }
                };
                end_hold(books, item, transfer, key, &hold)?;
                Ok(ending(transfer, &hold).amount(&hold))
            }
        }
    }
}

/// What became of a transfer that had taken effect before: in an earlier entry, or in this one.
fn first_result(
    step: &Step,
    rows: &[(SliceId, Uid, TransferId, usize, u64)],
    slot: Slot,
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<TransferDetail, Stop> {
    let (slice, debit, id) = (step.slices.0, step.transfer.debit.uid, step.transfer.id);
    let key = keyspace.transfer(slice, debit, id);
    if let Some(bytes) = view.get(&key)? {
        let first = decode_transfer(&key, debit, id, &bytes)?;
        return Ok(detail(step.index, first.slot, first.amount));
    }
    let here = rows.binary_search_by(|(s, d, i, ..)| (*s, *d, *i).cmp(&(slice, debit, id)));
    match here {
        Ok(at) => Ok(detail(step.index, slot, rows[at].4)),
        Err(_) => Err(Stop::Differs("a transfer that had taken effect is missing")),
    }
}

fn apply_expiry(
    expired: &[(SliceId, Uid, TransferId)],
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<(Draft, ReplyBody), Stop> {
    let keys = expired.iter().map(|(slice, debit, pending)| HoldKey {
        slice: *slice,
        debit: *debit,
        pending: *pending,
    });
    let draft = expire(keys, keyspace, view)?.map_err(Stop::from)?;
    // Nobody waits for it.
    Ok((draft, ReplyBody::Transfers(TransferResults::default())))
}

/// What changes when these holds expire.
pub(super) fn expire(
    keys: impl Iterator<Item = HoldKey>,
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<Result<Draft, Broken>, StoreError> {
    let mut open = Vec::new();
    for key in keys {
        match stored_hold(view, keyspace, key)? {
            HoldNow::Open(hold) => open.push((key, hold)),
            HoldNow::Closed(_) | HoldNow::Missing => {
                return Ok(Err(Broken("a pending transfer is not open")));
            }
        }
    }
    let sides = open.iter().map(|(key, hold)| (key.slice, hold.debit));
    let (mut books, places) = Books::open(view, keyspace, sides)?;
    for ((key, hold), place) in open.iter().zip(places) {
        books.hold(*key)?;
        if let Err(broken) = books.release(place, *key, hold, ClosedHold::Expired) {
            return Ok(Err(broken));
        }
    }
    Ok(Ok(books.into_draft()))
}
