//! The two sides of transfers between groups: what each group says of them in its PREPARE, and what
//! becomes of its accounts at COMMIT.
//!
//! The group of the debit accounts coordinates. It decides every transfer on its side and asks the
//! group of the credit accounts about those it can carry out; that group says yes or no to each. A
//! transfer is created iff both said so, and that is known to both: what the credit side was not asked
//! is refused, and what it was asked takes effect iff it said yes. See `crates/txn/src/cross`.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use quorate_store::{Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    AccountAddress, SliceId, Slot, Transfer, TransferBatch, TransferDetail, TransferId,
    TransferKind, TransferResults, Uid, Verdict,
};

use super::books::{Books, Broken, HoldKey, HoldNow, Item};
use super::draft::{Created, Draft};
use super::entry::{put_verdicts, take_batch, take_verdicts};
use super::steps::{detail, end_hold};
use crate::codec::{DecodeError, Reader, put_length, put_varint};

const DEBIT: u8 = 1;
const CREDIT: u8 = 2;

/// What a group has to do with transfers between two groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// It has the debit accounts.
    Debit(DebitLeg),
    /// It has the credit accounts.
    Credit(CreditLeg),
}

/// The debit side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebitLeg {
    /// As it was received.
    pub batch: TransferBatch,
    /// What this side says of each; `Created`: it can be carried out.
    pub verdicts: Vec<Verdict>,
    /// Of each that can be carried out.
    pub able: Vec<Debit>,
    /// Of those that had taken effect in an earlier entry.
    pub known: Vec<TransferDetail>,
}

/// A debit that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debit {
    /// The slice of the debit account.
    pub slice: SliceId,
    /// What it moves.
    pub amount: u64,
}

/// The credit side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditLeg {
    /// What the debit side can carry out, with the amounts that move.
    pub batch: TransferBatch,
    /// What this side says of each.
    pub verdicts: Vec<Verdict>,
    /// The slice of each credit account that takes its credit.
    pub slices: Vec<SliceId>,
}

impl Leg {
    /// What this side tells the other: of the credit side its verdicts.
    #[must_use]
    pub fn reply(&self) -> Vec<Verdict> {
        match self {
            Leg::Debit(_) => Vec::new(),
            Leg::Credit(leg) => leg.verdicts.clone(),
        }
    }

    /// How many transfers it has, whatever it says of them.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Leg::Debit(leg) => leg.batch.len(),
            Leg::Credit(leg) => leg.batch.len(),
        }
    }

    /// True if it has none, which no leg of ours is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many transfers this side can carry out.
    #[must_use]
    pub fn able(&self) -> usize {
        match self {
            Leg::Debit(leg) => leg.able.len(),
            Leg::Credit(leg) => leg.slices.len(),
        }
    }

    /// The transfers that take effect if they are committed, with what they move: all that this side
    /// can carry out, but for those that the verdicts of the credit side refuse.
    fn standing<'a>(
        &'a self,
        credits: &'a [Verdict],
    ) -> Box<dyn Iterator<Item = (usize, Transfer, Debit)> + 'a> {
        match self {
            Leg::Debit(leg) => {
                let able = leg.able().zip(credits);
                Box::new(
                    able.filter(|(_, verdict)| verdict.stands() || planted(Bug::CreditUnasked))
                        .map(|(able, _)| able),
                )
            }
            Leg::Credit(leg) => Box::new(leg.able()),
        }
    }

    /// Calls `each` with every account whose balance may change, by what at most, and whether a
    /// reservation may end, which leaves an unknown amount free; and `ends` with the id of every transfer
    /// of the debit side and the pending one that it ends.
    pub(super) fn visit(
        &self,
        mut each: impl FnMut(AccountAddress, i128, bool),
        mut ends: impl FnMut(Uid, TransferId, Option<TransferId>),
    ) {
        match self {
            Leg::Debit(leg) => {
                for (_, transfer, debit) in leg.able() {
                    // What a reservation holds is not free in the first place.
                    let is_free = transfer.kind.ends().is_none();
                    let amount = if is_free { i128::from(debit.amount) } else { 0 };
                    each(transfer.debit, -amount, !is_free);
                    ends(transfer.debit.uid, transfer.id, transfer.kind.ends());
                }
            }
            Leg::Credit(leg) => {
                for (_, transfer, debit) in leg.able() {
                    each(transfer.credit, i128::from(debit.amount), false);
                }
            }
        }
    }

    /// What changes when they are committed, with the verdicts of the credit side. `voted_at` is the
    /// slot of our PREPARE.
    ///
    /// # Errors
    /// `StoreError`; `Broken` inside if the accounts are not those that the leader voted on.
    pub(super) fn settle(
        &self,
        credits: &[Verdict],
        voted_at: Slot,
        keyspace: Keyspace,
        view: &dyn View,
    ) -> Result<Result<Draft, Broken>, StoreError> {
        let standing: Vec<(usize, Transfer, Debit)> = self.standing(credits).collect();
        match self {
            Leg::Debit(leg) if leg.able.len() != credits.len() => {
                Ok(Err(Broken("the verdicts of the credit side are not those of this batch")))
            }
            Leg::Debit(leg) => {
                let settled = settle_debits(&standing, keyspace, view)?;
                let with_rows = |(draft, created): (Draft, Vec<Created>)| {
                    draft.with_transfers(leg.batch.clone(), created).voted_at(voted_at)
                };
                Ok(settled.map(with_rows))
            }
            Leg::Credit(_) => settle_credits(&standing, keyspace, view),
        }
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            Leg::Debit(leg) => {
                out.put_u8(DEBIT);
                put_length(out, leg.batch.len());
                out.put_slice(leg.batch.bytes());
                put_verdicts(out, &leg.verdicts);
                for debit in &leg.able {
                    out.put_u16(debit.slice.0);
                    put_varint(out, debit.amount);
                }
                put_length(out, leg.known.len());
                for known in &leg.known {
                    put_varint(out, known.index.into());
                    put_varint(out, known.slot.0);
                    put_varint(out, known.amount);
                }
            }
            Leg::Credit(leg) => {
                out.put_u8(CREDIT);
                put_length(out, leg.batch.len());
                out.put_slice(leg.batch.bytes());
                put_verdicts(out, &leg.verdicts);
                for slice in &leg.slices {
                    out.put_u16(slice.0);
                }
            }
        }
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Leg, DecodeError> {
        let side = reader.u8("side")?;
        let count = reader.count("transfers")?;
        let batch = take_batch(reader, count)?;
        let verdicts = take_verdicts(reader, count)?;
        let able = verdicts.iter().filter(|verdict| **verdict == Verdict::Created).count();
        match side {
            DEBIT => {
                let mut debits = Vec::with_capacity(able);
                for _ in 0..able {
                    let slice = take_slice(reader)?;
                    debits.push(Debit { slice, amount: reader.varint("amount")? });
                }
                let known = reader.list("known transfers", |reader| {
                    let index = reader.varint("index")?;
                    let in_range = u32::try_from(index).ok().filter(|it| (*it as usize) < count);
                    let wrong = DecodeError::OutOfRange { what: "index", value: index };
                    let index = in_range.ok_or(wrong)?;
                    let slot = Slot(reader.varint("slot")?);
                    Ok(TransferDetail { index, slot, amount: reader.varint("amount")? })
                })?;
                Ok(Leg::Debit(DebitLeg { batch, verdicts, able: debits, known }))
            }
            CREDIT => {
                let mut slices = Vec::with_capacity(able);
                for _ in 0..able {
                    slices.push(take_slice(reader)?);
                }
                Ok(Leg::Credit(CreditLeg { batch, verdicts, slices }))
            }
            tag => Err(DecodeError::UnknownTag { what: "side", tag }),
        }
    }
}

/// A slice in two bytes, as in the entries of transfers within a group.
fn take_slice(reader: &mut Reader<'_>) -> Result<SliceId, DecodeError> {
    Ok(SliceId(u16::from_be_bytes(reader.fixed::<2>("slice")?)))
}

impl DebitLeg {
    /// What this side can carry out: its place in the batch, the transfer, what it moves.
    fn able(&self) -> impl Iterator<Item = (usize, Transfer, Debit)> + '_ {
        let created = self.batch.iter().zip(&self.verdicts).enumerate();
        let created = created.filter(|(_, (_, verdict))| **verdict == Verdict::Created);
        created.zip(&self.able).map(|((index, (transfer, _)), debit)| (index, transfer, *debit))
    }

    /// What the credit side is asked: these, with the amounts that move. Those of a chain stay linked,
    /// without the ones that had taken effect before.
    #[must_use]
    pub fn credits(&self) -> TransferBatch {
        let mut credits: Vec<(usize, Transfer)> = Vec::with_capacity(self.able.len());
        let chains = self.chains();
        for (index, transfer, debit) in self.able() {
            if let Some((before, last)) = credits.last_mut() {
                last.linked = chains[*before] == chains[index];
            }
            credits.push((index, Transfer { amount: debit.amount, linked: false, ..transfer }));
        }
        let credits: Vec<Transfer> = credits.into_iter().map(|(_, transfer)| transfer).collect();
        TransferBatch::new(&credits)
    }

    /// The chain of each transfer, by the place of its first link.
    fn chains(&self) -> Vec<usize> {
        let mut first = 0;
        let chain = |(index, transfer): (usize, Transfer)| {
            let of = first;
            if !transfer.linked {
                first = index + 1;
            }
            of
        };
        self.batch.iter().enumerate().map(chain).collect()
    }

    /// What became of every transfer, with the verdicts of the credit side; `voted_at` is the slot of
    /// our PREPARE.
    ///
    /// # Panics
    /// If the verdicts are not of this batch.
    #[must_use]
    pub fn results(&self, credits: &[Verdict], voted_at: Slot) -> TransferResults {
        assert_eq!(self.able.len(), credits.len(), "verdicts of another batch");
        let mut verdicts = self.verdicts.clone();
        let mut details = self.known.clone();
        for ((index, transfer, debit), verdict) in self.able().zip(credits) {
            verdicts[index] = *verdict;
            if transfer.kind.ends().is_some() && verdict.stands() {
                details.push(detail(index, voted_at, debit.amount));
            }
        }
        self.follow_repeats(&mut verdicts, &mut details, voted_at);
        details.sort_unstable_by_key(|detail| detail.index);
        TransferResults { verdicts, details }
    }

    /// A transfer that repeats an earlier one of the batch has its fate.
    fn follow_repeats(
        &self,
        verdicts: &mut [Verdict],
        details: &mut Vec<TransferDetail>,
        voted_at: Slot,
    ) {
        let is_known = |index: usize| {
            self.known.binary_search_by_key(&index, |known| known.index as usize).is_ok()
        };
        let repeated = |(index, verdict): &(usize, &Verdict)| {
            **verdict == Verdict::AlreadyApplied && !is_known(*index)
        };
        let repeats: Vec<usize> =
            self.verdicts.iter().enumerate().filter(repeated).map(|(index, _)| index).collect();
        if repeats.is_empty() {
            return;
        }
        let named = |(index, transfer, debit): (usize, Transfer, Debit)| {
            ((transfer.debit.uid, transfer.id), (index, debit.amount))
        };
        let firsts: BTreeMap<(Uid, TransferId), (usize, u64)> = self.able().map(named).collect();
        for index in repeats {
            let transfer = self.batch.get(index).expect("there is a verdict for each");
            let first = firsts.get(&(transfer.debit.uid, transfer.id));
            let (first, amount) = *first.expect("what it repeats can be carried out");
            if verdicts[first].stands() {
                details.push(detail(index, voted_at, amount));
            } else {
                verdicts[index] = verdicts[first];
            }
        }
    }
}

impl CreditLeg {
    /// What this side can carry out. The amounts stand in the batch.
    fn able(&self) -> impl Iterator<Item = (usize, Transfer, Debit)> + '_ {
        let created = self.batch.iter().zip(&self.verdicts).enumerate();
        let created = created.filter(|(_, (_, verdict))| **verdict == Verdict::Created);
        created.zip(&self.slices).map(|((index, (transfer, _)), slice)| {
            let debit = Debit { slice: *slice, amount: transfer.amount };
            (index, transfer, debit)
        })
    }
}

/// Takes the debits and names the transfers that leave a row, in the order of their keys.
fn settle_debits(
    standing: &[(usize, Transfer, Debit)],
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<Result<(Draft, Vec<Created>), Broken>, StoreError> {
    let sides = standing.iter().map(|(_, transfer, debit)| (debit.slice, transfer.debit));
    let (mut books, places) = Books::open(view, keyspace, sides)?;
    let mut rows = Vec::with_capacity(standing.len());
    for ((index, transfer, debit), place) in standing.iter().zip(places) {
        let step = match Item::of_debit(*index, place) {
            Err(broken) => Err(broken),
            Ok(item) => match transfer.kind {
                TransferKind::Post => books.post(item, transfer, debit.amount),
                TransferKind::PostPending(pending) => {
                    let key = HoldKey { slice: debit.slice, debit: transfer.debit.uid, pending };
                    match books.hold(key)? {
                        HoldNow::Open(hold) => end_hold(&mut books, item, transfer, key, &hold),
                        HoldNow::Closed(_) | HoldNow::Missing => {
                            Err(Broken("a pending transfer is not open"))
                        }
                    }
                }
                TransferKind::Pending { .. } | TransferKind::VoidPending(_) => {
                    Err(Broken("a transfer that gives nothing is between two groups"))
                }
            },
        };
        if let Err(broken) = step {
            return Ok(Err(broken));
        }
        rows.push((debit.slice, transfer.debit.uid, transfer.id, *index, debit.amount));
    }
    rows.sort_unstable();
    if let Some((slice, debit, id, ..)) = rows.first()
        && view.get(&keyspace.transfer(*slice, *debit, *id))?.is_some()
        && !planted(Bug::TransferTwice)
    {
        return Ok(Err(Broken("a transfer takes effect twice")));
    }
    let created = |(slice, _, _, index, amount)| Created { index, slice, amount };
    Ok(Ok((books.into_draft(), rows.into_iter().map(created).collect())))
}

fn settle_credits(
    standing: &[(usize, Transfer, Debit)],
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<Result<Draft, Broken>, StoreError> {
    let sides = standing.iter().map(|(_, transfer, debit)| (debit.slice, transfer.credit));
    let (mut books, places) = Books::open(view, keyspace, sides)?;
    for ((index, transfer, debit), place) in standing.iter().zip(places) {
        let step = Item::of_credit(*index, place)
            .and_then(|item| books.post(item, transfer, debit.amount));
        if let Err(broken) = step {
            return Ok(Err(broken));
        }
    }
    Ok(Ok(books.into_draft()))
}
