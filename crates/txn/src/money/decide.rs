//! Decides a batch of transfers: a verdict for each, on what the ones before it left.
//!
//! Called by `evaluate.rs` over the overlay, for transfers within the group or for one side of those
//! between two. Ids are looked up once, in the order of the store; most are absent. The checks of one
//! transfer are in [`Deciding::one`], in the order in which they count.
//!
//! What would be refused because of a transfer that is in escrow is not decided: it waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use quorate_store::{Keyspace, StoreError, View};
use quorate_types::limits::GROUP_HOLDS_MAX;
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    AccountAddress, Attempt, SliceId, Transfer, TransferBatch, TransferDetail, TransferKind,
    TransferRecord, TransferResults, Uid, Verdict,
};

use super::books::{Books, HoldKey, HoldNow, Item, keeps_floor};
use super::draft::{Created, Draft};
use super::escrow::{Escrow, InDoubt};
use super::ids::{Ids, Known};
use super::leg::{CreditLeg, Debit, DebitLeg};
use super::record::ClosedHold;
use super::steps::{Ending, detail, end_hold, ending, expiry};

/// What a batch is decided on.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) keyspace: Keyspace,
    pub(super) slice_of: &'a dyn Fn(Uid) -> SliceId,
    pub(super) view: &'a dyn View,
    pub(super) escrow: &'a Escrow,
    /// Holds that are open once everything in flight is applied.
    pub(super) open_holds: usize,
}

/// A batch decided, or the attempt that it must wait for.
pub(super) enum Outcome<T> {
    Decided(T),
    Waits(Attempt),
}

/// Which accounts of the batch are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sides {
    Both,
    Debits,
    Credits,
}

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

/// Decides a batch whose accounts are all ours.
pub(super) fn decide(
    batch: &TransferBatch,
    ground: Ground<'_>,
) -> Result<Outcome<Decided>, StoreError> {
    let mut deciding = Deciding::open(batch, Sides::Both, ground)?;
    deciding.all()?;
    Ok(match deciding.waits_for {
        Some(attempt) => Outcome::Waits(attempt),
        None => Outcome::Decided(deciding.finish(batch)),
    })
}

/// Decides the debits of a batch whose credit accounts are in another group. What is left of the batch
/// rests on what the credit side will say of these.
pub(super) fn decide_debits(
    batch: &TransferBatch,
    ground: Ground<'_>,
) -> Result<Outcome<(DebitLeg, TransferBatch)>, StoreError> {
    let mut deciding = Deciding::open(batch, Sides::Debits, ground)?;
    deciding.all()?;
    // What was decided before the cut stands, whatever is in escrow.
    let end = deciding.cut.unwrap_or(batch.len());
    Ok(match deciding.waits_for.filter(|_| deciding.cut.is_none()) {
        Some(attempt) => Outcome::Waits(attempt),
        None => {
            let leg = deciding.finish_debits(batch.range(0..end));
            Outcome::Decided((leg, batch.range(end..batch.len())))
        }
    })
}

/// Decides the credits of a batch whose debit accounts are in another group. They must not wait, or
/// groups could wait for each other in a circle: who is asked says no to all of them.
pub(super) fn decide_credits(
    batch: &TransferBatch,
    ground: Ground<'_>,
) -> Result<Outcome<CreditLeg>, StoreError> {
    let mut deciding = Deciding::open(batch, Sides::Credits, ground)?;
    deciding.all()?;
    if let Some(attempt) = deciding.waits_for {
        return Ok(Outcome::Waits(attempt));
    }
    let Deciding { slices, verdicts, .. } = deciding;
    let able = |(index, verdict): (usize, &Verdict)| {
        (*verdict == Verdict::Created).then(|| slices[2 * index + 1])
    };
    let slices = verdicts.iter().enumerate().filter_map(able).collect();
    Ok(Outcome::Decided(CreditLeg { batch: batch.clone(), verdicts, slices }))
}

struct Deciding<'a> {
    sides: Sides,
    transfers: Vec<Transfer>,
    /// Of debit and credit account, by turns.
    slices: Vec<SliceId>,
    items: Vec<Item>,
    books: Books<'a>,
    /// By the places of the books; empty if nothing is in escrow.
    in_doubt: Vec<(AccountAddress, InDoubt)>,
    escrow: &'a Escrow,
    /// `None` on the credit side: ids belong to the debit side.
    ids: Option<Ids>,
    verdicts: Vec<Verdict>,
    /// What each created transfer moves, reserves or releases.
    amounts: Vec<u64>,
    /// What each created transfer leaves free again of the reservation that it ends.
    freed: Vec<u64>,
    /// How many holds may still be opened. Those that the batch ends make no room for its own.
    holds_left: usize,
    /// Nothing is decided before this attempt is.
    waits_for: Option<Attempt>,
    /// On the debit side: what earlier chains of the batch do if the credit side agrees.
    undecided: Undecided,
    /// The first link of the chain that is being decided.
    chain_start: usize,
    /// It has more than one.
    is_in_chain: bool,
    /// From this chain on, the batch rests on what the credit side will say of what comes before.
    cut: Option<usize>,
}

/// What may still be refused.
#[derive(Debug, Default)]
struct Undecided {
    /// The places of accounts that are debited.
    debited: BTreeSet<usize>,
    /// Pending transfers that are ended.
    ended: BTreeSet<HoldKey>,
    /// What that leaves free again, by the places of accounts.
    freed: BTreeMap<usize, i128>,
}

impl<'a> Deciding<'a> {
    fn open(
        batch: &TransferBatch,
        sides: Sides,
        ground: Ground<'a>,
    ) -> Result<Deciding<'a>, StoreError> {
        let Ground { keyspace, slice_of, view, escrow, open_holds } = ground;
        let transfers: Vec<Transfer> = batch.iter().collect();
        let count = transfers.len();
        let both = |transfer: &Transfer| [transfer.debit, transfer.credit];
        let accounts: Vec<(SliceId, AccountAddress)> =
            transfers.iter().flat_map(both).map(|at| (slice_of(at.uid), at)).collect();
        let is_ours = |at: usize| match sides {
            Sides::Both => true,
            Sides::Debits => at.is_multiple_of(2),
            Sides::Credits => !at.is_multiple_of(2),
        };
        let ours: Vec<_> =
            (0..2 * count).filter(|at| is_ours(*at)).map(|at| accounts[at]).collect();
        let (books, places) = Books::open(view, keyspace, ours.into_iter())?;
        let mut places = places.into_iter();
        let mut place = |at| if is_ours(at) { places.next() } else { None };
        let item = |index: usize| {
            let number = u16::try_from(index).expect("a batch has at most 8,190 transfers");
            Item { index: number, debit: place(2 * index), credit: place(2 * index + 1) }
        };
        let items = (0..count).map(item).collect();
        let slices: Vec<SliceId> = accounts.iter().map(|(slice, _)| *slice).collect();
        let ids = match sides {
            Sides::Both | Sides::Debits => Some(Ids::open(view, keyspace, &transfers, &slices)?),
            Sides::Credits => None,
        };
        let in_doubt = match escrow.is_empty() {
            true => Vec::new(),
            false => books.addresses().map(|at| (at, escrow.in_doubt(at))).collect(),
        };
        Ok(Deciding {
            sides,
            transfers,
            slices,
            items,
            books,
            in_doubt,
            escrow,
            ids,
            verdicts: vec![Verdict::LinkedFailed; count],
            amounts: vec![0; count],
            freed: vec![0; count],
            holds_left: GROUP_HOLDS_MAX.saturating_sub(open_holds),
            waits_for: None,
            undecided: Undecided::default(),
            chain_start: 0,
            is_in_chain: false,
            cut: None,
        })
    }

    /// Chain after chain; most have one link.
    fn all(&mut self) -> Result<(), StoreError> {
        let mut start = 0;
        while start < self.transfers.len() && self.waits_for.is_none() && self.cut.is_none() {
            self.chain_start = start;
            let rest = &self.transfers[start..];
            let end = match rest.iter().position(|transfer| !transfer.linked) {
                Some(0) => {
                    self.verdicts[start] = self.one(start)?;
                    start + 1
                }
                Some(links) => {
                    self.chain(start..start + links + 1)?;
                    start + links + 1
                }
                None => {
                    self.open_chain(start);
                    self.transfers.len()
                }
            };
            if self.sides == Sides::Debits && self.cut.is_none() {
                self.note_undecided(start..end);
            }
            start = end;
        }
        Ok(())
    }

    /// A chain of the debit side is over: what it can do rests on the credit side.
    fn note_undecided(&mut self, chain: Range<usize>) {
        for index in chain.filter(|index| self.verdicts[*index] == Verdict::Created) {
            let transfer = &self.transfers[index];
            self.undecided.debited.extend(self.items[index].debit);
            let (slice, debit) = (self.slices[2 * index], transfer.debit.uid);
            let ended = transfer.kind.ends().map(|pending| HoldKey { slice, debit, pending });
            self.undecided.ended.extend(ended);
            if let (Some(place), freed @ 1..) = (self.items[index].debit, self.freed[index]) {
                *self.undecided.freed.entry(place).or_default() += i128::from(freed);
            }
        }
    }

    /// What would be said of a chain rests on an earlier one that the credit side may yet refuse.
    fn cut(&mut self) {
        self.cut = self.cut.or(Some(self.chain_start));
    }

    /// True if a transfer of this batch is in a chain with others.
    fn is_linked(&self, known: Known) -> bool {
        let Known::Here(at) = known else { return false };
        self.transfers[at].linked || at.checked_sub(1).is_some_and(|it| self.transfers[it].linked)
    }

    /// True if a transfer is of an earlier chain that the credit side may yet refuse.
    fn is_undecided(&self, known: Known) -> bool {
        let is_before = matches!(known, Known::Here(other) if other < self.chain_start);
        is_before && self.sides == Sides::Debits
    }

    /// A chain: all of it or nothing. What had taken effect before the chain stands in any case.
    fn chain(&mut self, chain: Range<usize>) -> Result<(), StoreError> {
        let holds_left = self.holds_left;
        self.books.begin_chain();
        self.is_in_chain = true;
        let mut failed = None;
        for index in chain.clone() {
            self.verdicts[index] = self.one(index)?;
            if !self.verdicts[index].stands() {
                failed = Some(index);
                break;
            }
        }
        self.is_in_chain = false;
        let Some(failed) = failed else {
            self.books.end_chain();
            return Ok(());
        };
        self.books.take_back_chain();
        self.holds_left = holds_left;
        for index in chain.start..failed {
            if let (Verdict::Created, Some(ids)) = (self.verdicts[index], &mut self.ids) {
                ids.set(index, Known::Free);
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
    fn fallen(&mut self, index: usize, verdict: Verdict) -> Verdict {
        let known = self.ids.as_ref().map_or(Known::Free, |ids| ids.of(index));
        if self.is_undecided(known) {
            self.cut();
        }
        // It may have taken effect, and its caller been told so.
        let transfer = self.transfers[index];
        if self.sides != Sides::Credits {
            let open = self.escrow.of_id(transfer.debit.uid, transfer.id);
            self.waits_for = self.waits_for.or(open);
        }
        match self.repeats(index) {
            Some(true) => Verdict::AlreadyApplied,
            Some(false) | None => verdict,
        }
    }

    /// Whether a transfer is the one that has its id; `None` if none has it.
    fn repeats(&self, index: usize) -> Option<bool> {
        let asked = &self.transfers[index];
        let ids = self.ids.as_ref()?;
        match ids.of(index) {
            Known::Free => None,
            Known::Before(found) => Some(ids.found(found).transfer == *asked),
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
            Some(is_same) => {
                let known = self.ids.as_ref().map_or(Known::Free, |ids| ids.of(index));
                // Two that are alone have the same fate; a chain must know it.
                let is_alone = !self.is_in_chain && !self.is_linked(known);
                if self.is_undecided(known) && !(is_alone && is_same) {
                    self.cut();
                }
                return Ok(if is_same { Verdict::AlreadyApplied } else { Verdict::IdReused });
            }
            None => {}
        }
        if let Some(attempt) = self.in_escrow(&transfer) {
            self.waits_for = Some(attempt);
            return Ok(Verdict::LinkedFailed); // Nobody is told.
        }
        let item = self.items[index];
        let decided = match transfer.kind {
            // Where a reservation is posted, its amount stands in the transfer.
            _ if self.sides == Sides::Credits => self.post(item, &transfer),
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
                if let Some(ids) = &mut self.ids {
                    ids.set(index, Known::Here(index));
                }
                self.amounts[index] = amount;
                Verdict::Created
            }
            Err(refused) => refused,
        })
    }

    /// The attempt that has the id of a transfer, or ends what it would end, or that a read waits for.
    fn in_escrow(&self, transfer: &Transfer) -> Option<Attempt> {
        if self.escrow.is_empty() || self.sides == Sides::Credits {
            return None;
        }
        if self.sides == Sides::Debits && self.escrow.is_fenced(transfer.debit) {
            return self.escrow.unapplied(transfer.debit).next();
        }
        let debit = transfer.debit.uid;
        let of_id = self.escrow.of_id(debit, transfer.id);
        of_id.or_else(|| self.escrow.ends(debit, transfer.kind.ends()?))
    }

    /// Whether a transfer could not be made now.
    fn lacks_funds(&self, index: usize) -> bool {
        let debit = self.items[index].debit.and_then(|place| self.books.account(place));
        debit.is_some_and(|debit| !keeps_floor(debit, i128::from(self.transfers[index].amount)))
    }

    fn in_doubt(&self, place: usize) -> InDoubt {
        if planted(Bug::EscrowIgnored) {
            return InDoubt::default();
        }
        self.in_doubt.get(place).map_or_else(InDoubt::default, |(_, in_doubt)| *in_doubt)
    }

    /// What is in escrow for an account may turn out so that nothing is refused.
    fn wait_for(&mut self, place: usize) {
        if let Some((account, _)) = self.in_doubt.get(place) {
            self.waits_for = self.waits_for.or_else(|| self.escrow.waits_for(*account));
        }
    }

    /// The debit account, if it exists and can spare an amount, whatever becomes of what is in doubt.
    fn may_debit(&mut self, place: usize, amount: u64) -> Result<(), Verdict> {
        let debit = self.books.account(place).ok_or(Verdict::DebitAccountMissing)?;
        let (in_doubt, amount) = (self.in_doubt(place), i128::from(amount));
        let freed = self.undecided.freed.get(&place).copied().unwrap_or_default();
        if keeps_floor(debit, in_doubt.debits + amount + freed) {
            return Ok(());
        }
        let can_turn_out_well = 0 < in_doubt.ends || keeps_floor(debit, amount - in_doubt.credits);
        if 0 < freed || self.undecided.debited.contains(&place) {
            self.cut();
        } else if can_turn_out_well {
            self.wait_for(place);
        }
        Err(Verdict::FloorReached)
    }

    /// The credit account has room for an amount, whatever becomes of what is in doubt.
    fn may_credit(&mut self, place: usize, amount: u64) -> Result<(), Verdict> {
        let credit = self.books.account(place).ok_or(Verdict::CreditAccountMissing)?;
        let sum = i128::from(credit.balance) + i128::from(amount);
        let (in_doubt, most) = (self.in_doubt(place), i128::from(i64::MAX));
        if sum + in_doubt.credits <= most {
            return Ok(());
        }
        if sum - in_doubt.debits <= most {
            self.wait_for(place);
        }
        Err(Verdict::BalanceOverflow)
    }

    /// Accounts exist and may be used; in the order in which it counts.
    fn may_move(&self, item: Item) -> Result<(), Verdict> {
        let debit = item.debit.map(|place| self.books.account(place));
        let credit = item.credit.map(|place| self.books.account(place));
        let debit = debit.map(|it| it.ok_or(Verdict::DebitAccountMissing)).transpose()?;
        let credit = credit.map(|it| it.ok_or(Verdict::CreditAccountMissing)).transpose()?;
        if debit.is_some_and(|debit| debit.settings.no_debits) {
            return Err(Verdict::DebitsFrozen);
        }
        if credit.is_some_and(|credit| credit.settings.no_credits) {
            return Err(Verdict::CreditsFrozen);
        }
        Ok(())
    }

    fn post(&mut self, item: Item, transfer: &Transfer) -> Result<u64, Verdict> {
        self.may_move(item)?;
        if let Some(debit) = item.debit {
            self.may_debit(debit, transfer.amount)?;
        }
        if let Some(credit) = item.credit {
            self.may_credit(credit, transfer.amount)?;
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
        self.may_move(Item { credit: None, ..item })?;
        if let Some(debit) = item.debit {
            self.may_debit(debit, transfer.amount)?;
        }
        self.holds_left = self.holds_left.checked_sub(1).ok_or(Verdict::HoldLimit)?;
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
        if self.undecided.ended.contains(&key) {
            self.cut();
        }
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
            // The debit side has reserved the amount, so no floor is in the way.
            if hold.amount < amount {
                return Err(Verdict::AmountAbovePending);
            }
            self.may_move(item)?;
            if let Some(credit) = item.credit {
                self.may_credit(credit, amount)?;
            }
        }
        end_hold(&mut self.books, item, transfer, key, &hold).expect("checked above");
        if let Ending::Posted(amount) = ending {
            self.freed[usize::from(item.index)] = hold.amount - amount;
        }
        Ok(ending.amount(&hold))
    }

    fn finish(self, batch: &TransferBatch) -> Decided {
        let Deciding { slices, books, ids, verdicts, amounts, .. } = self;
        let ids = ids.expect("the debit side has the ids");
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

    fn finish_debits(self, batch: TransferBatch) -> DebitLeg {
        let Deciding { slices, ids, mut verdicts, amounts, .. } = self;
        verdicts.truncate(batch.len());
        let ids = ids.expect("the debit side has the ids");
        let (mut able, mut known) = (Vec::new(), Vec::new());
        for (index, verdict) in verdicts.iter().enumerate() {
            let slice = slices[2 * index];
            match (verdict, ids.of(index)) {
                (Verdict::Created, _) => {
                    able.push(Debit { slice, amount: amounts[index] });
                }
                (Verdict::AlreadyApplied, Known::Before(found)) => {
                    let TransferRecord { slot, amount, .. } = *ids.found(found);
                    known.push(detail(index, slot, amount));
                }
                _ => {}
            }
        }
        DebitLeg { batch, verdicts, able, known }
    }
}

/// Never, but for the bug of this name.
fn may_post_again(transfer: &Transfer) -> bool {
    planted(Bug::HoldTwice) && matches!(transfer.kind, TransferKind::PostPending(_))
}
