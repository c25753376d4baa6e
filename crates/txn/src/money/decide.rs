//! Decides a batch of transfers: a verdict for each, on what the ones before it left.
//!
//! Called by `evaluate.rs` over the overlay. Ids are looked up once, in the order of the store; most
//! are absent. The checks of one transfer are in [`Deciding::one`], in the order in which they count.

use std::ops::Range;

use quorate_store::{Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Account, SliceId, Slot, Transfer, TransferBatch, TransferDetail, TransferKind, TransferRecord,
    TransferResults, Uid, Verdict,
};

use super::books::{Books, HoldKey, HoldNow, Item};
use super::draft::{Created, Draft};
use super::ids::{Ids, Known};
use super::record::{ClosedHold, Expiry, OpenHold};

/// A batch with its verdicts.
pub(super) struct Decided {
    pub(super) verdicts: Vec<Verdict>,
    /// The slices of debit and credit account of each transfer that stands.
    pub(super) slices: Vec<(SliceId, SliceId)>,
    /// Of the transfers that had taken effect before the batch.
    pub(super) known: Vec<TransferDetail>,
    /// What it changes; empty if nothing was created.
    pub(super) draft: Draft,
    /// Whether anything was created.
    pub(super) has_created: bool,
}

impl Decided {
    /// The answer of a batch that creates nothing.
    pub(super) fn into_results(self) -> TransferResults {
        TransferResults { verdicts: self.verdicts, details: self.known }
    }
}

/// Decides a batch on the rows of a view.
pub(super) fn decide(
    batch: &TransferBatch,
    keyspace: Keyspace,
    slice_of: &dyn Fn(Uid) -> SliceId,
    view: &dyn View,
) -> Result<Decided, StoreError> {
    let transfers: Vec<Transfer> = batch.iter().collect();
    let side = |side: usize| {
        let transfer = &transfers[side / 2];
        let at = if side.is_multiple_of(2) { transfer.debit } else { transfer.credit };
        (slice_of(at.uid), at)
    };
    let slices: Vec<SliceId> = (0..2 * transfers.len()).map(|at| side(at).0).collect();
    let sides = slices.iter().enumerate().map(|(at, slice)| (*slice, side(at).1));
    let (books, places) = Books::open(view, keyspace, sides)?;
    let ids = Ids::open(view, keyspace, &transfers, &slices)?;
    let count = transfers.len();
    let (verdicts, amounts) = (vec![Verdict::LinkedFailed; count], vec![0; count]);
    let mut deciding = Deciding { transfers, slices, places, books, ids, verdicts, amounts };
    deciding.all()?;
    Ok(deciding.finish(batch))
}

struct Deciding<'a> {
    transfers: Vec<Transfer>,
    /// Of debit and credit account, by turns, as are the places in the books.
    slices: Vec<SliceId>,
    places: Vec<usize>,
    books: Books<'a>,
    ids: Ids,
    verdicts: Vec<Verdict>,
    /// What each created transfer moves, reserves or releases.
    amounts: Vec<u64>,
}

impl Deciding<'_> {
    /// Chain after chain; most have one link.
    fn all(&mut self) -> Result<(), StoreError> {
        let mut start = 0;
        while start < self.transfers.len() {
            let rest = &self.transfers[start..];
            match rest.iter().position(|transfer| !transfer.linked) {
                Some(0) => {
                    self.verdicts[start] = self.one(start)?;
                    start += 1;
                }
                Some(links) => {
                    self.chain(start..start + links + 1)?;
                    start += links + 1;
                }
                None => {
                    self.open_chain(start);
                    start = self.transfers.len();
                }
            }
        }
        Ok(())
    }

    /// A chain: all of it or nothing. What had taken effect before the chain stands in any case.
    fn chain(&mut self, chain: Range<usize>) -> Result<(), StoreError> {
        self.books.begin_chain();
        let mut failed = None;
        for index in chain.clone() {
            self.verdicts[index] = self.one(index)?;
            if !self.verdicts[index].stands() {
                failed = Some(index);
                break;
            }
        }
        let Some(failed) = failed else {
            self.books.end_chain();
            return Ok(());
        };
        self.books.take_back_chain();
        for index in chain.start..failed {
            if self.verdicts[index] == Verdict::Created {
                self.ids.set(index, Known::Free);
            }
        }
        for index in chain.filter(|index| *index != failed) {
            self.verdicts[index] = self.fallen(index, Verdict::LinkedFailed);
        }
        Ok(())
    }

    /// A chain that the batch does not end.
    fn open_chain(&mut self, start: usize) {
        let last = self.transfers.len() - 1;
        for index in start..last {
            self.verdicts[index] = self.fallen(index, Verdict::LinkedFailed);
        }
        self.verdicts[last] = self.fallen(last, Verdict::ChainOpen);
    }

    /// The verdict of a transfer whose chain fell.
    fn fallen(&self, index: usize, verdict: Verdict) -> Verdict {
        match self.repeats(index) {
            Some(true) => Verdict::AlreadyApplied,
            Some(false) | None => verdict,
        }
    }

    /// Whether a transfer is the one that has its id; `None` if none has it.
    fn repeats(&self, index: usize) -> Option<bool> {
        let asked = &self.transfers[index];
        match self.ids.of(index) {
            Known::Free => None,
            Known::Before(found) => Some(self.ids.found(found).transfer == *asked),
            Known::Here(other) => Some(self.transfers[other] == *asked),
        }
    }

    /// Decides one transfer and takes its steps in the books.
    fn one(&mut self, index: usize) -> Result<Verdict, StoreError> {
        let transfer = self.transfers[index];
        if transfer.check().is_err() {
            return Ok(Verdict::Invalid);
        }
        match self.repeats(index) {
            Some(true) if planted(Bug::RetryAnew) && self.lacks_funds(index) => {
                return Ok(Verdict::FloorReached);
            }
            Some(true) => return Ok(Verdict::AlreadyApplied),
            Some(false) => return Ok(Verdict::IdReused),
            None => {}
        }
        let (debit, credit) = (self.places[2 * index], self.places[2 * index + 1]);
        let item = u16::try_from(index).expect("a batch has at most 8,190 transfers");
        let item = Item { index: item, debit, credit };
        let decided = match transfer.kind {
            TransferKind::Post => self.post(item, &transfer),
            TransferKind::Pending { timeout_ms } => self.reserve(item, &transfer, timeout_ms),
            TransferKind::PostPending(pending) | TransferKind::VoidPending(pending) => {
                let slice = self.slices[2 * index];
                let key = HoldKey { slice, debit: transfer.debit.uid, pending };
                let hold = self.books.hold(key)?;
                self.end_hold(item, &transfer, key, hold)
            }
        };
        Ok(match decided {
            Ok(amount) => {
                self.ids.set(index, Known::Here(index));
                self.amounts[index] = amount;
                Verdict::Created
            }
            Err(refused) => refused,
        })
    }

    /// Whether a transfer could not be made now.
    fn lacks_funds(&self, index: usize) -> bool {
        let debit = self.books.account(self.places[2 * index]);
        debit.is_some_and(|debit| !affords(debit, self.transfers[index].amount))
    }

    fn post(&mut self, item: Item, transfer: &Transfer) -> Result<u64, Verdict> {
        let debit = self.books.account(item.debit).ok_or(Verdict::DebitAccountMissing)?;
        let credit = self.books.account(item.credit).ok_or(Verdict::CreditAccountMissing)?;
        if debit.settings.no_debits {
            return Err(Verdict::DebitsFrozen);
        }
        if credit.settings.no_credits {
            return Err(Verdict::CreditsFrozen);
        }
        if !affords(debit, transfer.amount) {
            return Err(Verdict::FloorReached);
        }
        if credit.balance.checked_add_unsigned(transfer.amount).is_none() {
            return Err(Verdict::BalanceOverflow);
        }
        self.books.post(item, transfer, transfer.amount).expect("checked above");
        Ok(transfer.amount)
    }

    /// The credit account is looked at when the transfer is posted.
    fn reserve(
        &mut self,
        item: Item,
        transfer: &Transfer,
        timeout_ms: u32,
    ) -> Result<u64, Verdict> {
        let debit = self.books.account(item.debit).ok_or(Verdict::DebitAccountMissing)?;
        if debit.settings.no_debits {
            return Err(Verdict::DebitsFrozen);
        }
        if !affords(debit, transfer.amount) {
            return Err(Verdict::FloorReached);
        }
        let expiry = expiry(timeout_ms);
        self.books.reserve(item, transfer, expiry).expect("checked above");
        Ok(transfer.amount)
    }

    fn end_hold(
        &mut self,
        item: Item,
        transfer: &Transfer,
        key: HoldKey,
        hold: HoldNow,
    ) -> Result<u64, Verdict> {
        let hold = match hold {
            HoldNow::Open(hold) => hold,
            HoldNow::Missing => return Err(Verdict::PendingMissing),
            HoldNow::Closed(ClosedHold::Posted { amount, .. }) if may_post_again(transfer) => {
                return self.post(item, &Transfer { amount, ..*transfer });
            }
            HoldNow::Closed(ClosedHold::Posted { .. }) => return Err(Verdict::PendingPosted),
            HoldNow::Closed(ClosedHold::Voided { .. }) => return Err(Verdict::PendingVoided),
            HoldNow::Closed(ClosedHold::Expired) => return Err(Verdict::PendingExpired),
        };
        if (hold.debit, hold.credit) != (transfer.debit, transfer.credit) {
            return Err(Verdict::PendingDiffers);
        }
        let ending = ending(transfer, &hold);
        if let Ending::Posted(amount) = ending {
            self.may_post_hold(item, &hold, amount)?;
        }
        end_hold(&mut self.books, item, transfer, key, &hold).expect("checked above");
        Ok(ending.amount(&hold))
    }

    /// The debit side has reserved the amount, so no floor is in the way.
    fn may_post_hold(&self, item: Item, hold: &OpenHold, amount: u64) -> Result<(), Verdict> {
        if hold.amount < amount {
            return Err(Verdict::AmountAbovePending);
        }
        let debit = self.books.account(item.debit).ok_or(Verdict::DebitAccountMissing)?;
        let credit = self.books.account(item.credit).ok_or(Verdict::CreditAccountMissing)?;
        if debit.settings.no_debits {
            return Err(Verdict::DebitsFrozen);
        }
        if credit.settings.no_credits {
            return Err(Verdict::CreditsFrozen);
        }
        if credit.balance.checked_add_unsigned(amount).is_none() {
            return Err(Verdict::BalanceOverflow);
        }
        Ok(())
    }

    fn finish(self, batch: &TransferBatch) -> Decided {
        let Deciding { slices, books, ids, verdicts, amounts, .. } = self;
        let (mut standing, mut known) = (Vec::new(), Vec::new());
        for (index, verdict) in verdicts.iter().enumerate() {
            if verdict.stands() {
                standing.push((slices[2 * index], slices[2 * index + 1]));
            }
            if let (Verdict::AlreadyApplied, Known::Before(found)) = (verdict, ids.of(index)) {
                let TransferRecord { slot, amount, .. } = *ids.found(found);
                known.push(detail(index, slot, amount));
            }
        }
        let created = |index: usize| {
            let (slice, amount) = (slices[2 * index], amounts[index]);
            Created { index, slice, amount }
        };
        let created: Vec<Created> = ids.here().map(created).collect();
        let has_created = !created.is_empty();
        let draft = books.into_draft().with_transfers(batch.clone(), created);
        Decided { verdicts, slices: standing, known, draft, has_created }
    }
}

/// Never, but for the bug of this name.
fn may_post_again(transfer: &Transfer) -> bool {
    planted(Bug::HoldTwice) && matches!(transfer.kind, TransferKind::PostPending(_))
}

/// What ends a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Posted(u64),
    Voided,
}

impl Ending {
    /// What the transfer moves or releases.
    pub(super) fn amount(self, hold: &OpenHold) -> u64 {
        match self {
            Ending::Posted(amount) => amount,
            Ending::Voided => hold.amount,
        }
    }
}

/// How a transfer ends a hold.
pub(super) fn ending(transfer: &Transfer, hold: &OpenHold) -> Ending {
    match transfer.kind {
        TransferKind::PostPending(_) if transfer.amount == 0 => Ending::Posted(hold.amount),
        TransferKind::PostPending(_) => Ending::Posted(transfer.amount),
        TransferKind::VoidPending(_) | TransferKind::Post | TransferKind::Pending { .. } => {
            Ending::Voided
        }
    }
}

/// Takes the steps of a post or void of a pending transfer.
pub(super) fn end_hold(
    books: &mut Books<'_>,
    item: Item,
    transfer: &Transfer,
    key: HoldKey,
    hold: &OpenHold,
) -> Result<(), super::books::Broken> {
    let by = transfer.id;
    match ending(transfer, hold) {
        Ending::Voided => books.release(item.debit, key, hold, ClosedHold::Voided { by }),
        Ending::Posted(amount) => {
            books.release(item.debit, key, hold, ClosedHold::Posted { amount, by })?;
            books.post(item, transfer, amount)
        }
    }
}

/// The expiry of a hold that is being opened.
pub(super) fn expiry(timeout_ms: u32) -> Expiry {
    if timeout_ms == 0 { Expiry::Never } else { Expiry::After(timeout_ms) }
}

/// More about the transfer at `index`.
pub(super) fn detail(index: usize, slot: Slot, amount: u64) -> TransferDetail {
    let index = u32::try_from(index).expect("a batch has at most 8,190 transfers");
    TransferDetail { index, slot, amount }
}

/// Without a floor of its own an account has that of 64 bits.
fn affords(account: &Account, amount: u64) -> bool {
    let floor = i128::from(account.settings.floor.unwrap_or(i64::MIN));
    floor <= account.free() - i128::from(amount) || planted(Bug::TransferFloor)
}
