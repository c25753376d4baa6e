//! Transfers between this group and another: whose debits are ours, and who waits for them. Called by
//! `group.rs` and `cross.rs`; the rules stand in `quorate_txn::money` and `quorate_txn::cross`.

use std::collections::BTreeMap;

use quorate_txn::cross::credit_group;
use quorate_txn::money::{Debits, evaluate_debits};
use quorate_types::{
    AccountAddress, Attempt, BootTime, Code, Error, GroupId, Reply, ReplyBody, Request,
    RequestBody, Slot, TableId, TransferBatch, TransferDetail, TransferResults, Uid, Verdict,
};

use crate::clock::Clock;
use crate::cross::Asked;
use crate::event::{Answer, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, Held};

/// Whom to tell what became of the transfers of an attempt. Belongs to one ballot.
#[derive(Debug, Default)]
pub(crate) struct Callers(BTreeMap<Attempt, Caller>);

#[derive(Debug)]
struct Caller {
    /// Since when transfers of the request are under way.
    since: BootTime,
    reply: ReplyTo,
    /// The transfers of the attempt,
    first: TransferBatch,
    /// and what is left of the batch once these are decided.
    rest: TransferBatch,
}

impl Callers {
    /// Tells who waits for the transfers of an attempt; or returns what is left to be asked, since when.
    pub(crate) fn settle(&mut self, attempt: Attempt, answer: Answer) -> Option<(BootTime, Asked)> {
        let Caller { since, reply, first, rest } = self.0.remove(&attempt)?;
        let first = match answer {
            Ok(Reply { at, body: ReplyBody::Transfers(results), .. }) if !rest.is_empty() => {
                in_full(results, &first, at.slot)
            }
            answer => {
                reply.answer(answer);
                return None;
            }
        };
        let request = Request { id: None, body: RequestBody::Transfers(rest) };
        let reply = reply.map(move |answer| joined(first, answer));
        Some((since, Asked { request, reply, parked_at: Some(since) }))
    }

    /// The ballot is over: transfers may have taken effect.
    pub(crate) fn lose(&mut self, unknown: &Answer) {
        for caller in std::mem::take(&mut self.0).into_values() {
            caller.reply.answer(unknown.clone());
        }
    }
}

/// What was said of a part, with the slot of everything that took effect: that of the answer will be of
/// the last part.
fn in_full(results: TransferResults, batch: &TransferBatch, slot: Slot) -> TransferResults {
    let TransferResults { verdicts, details } = results;
    let mut known = details.into_iter().peekable();
    let mut all = Vec::with_capacity(verdicts.len());
    for (index, (transfer, verdict)) in (0_u32..).zip(batch.iter().zip(&verdicts)) {
        match known.next_if(|detail| detail.index == index) {
            Some(detail) => all.push(detail),
            None if *verdict == Verdict::Created => {
                all.push(TransferDetail { index, slot, amount: transfer.amount });
            }
            None => {}
        }
    }
    TransferResults { verdicts, details: all }
}

/// The answer to a whole batch from what was said of its parts.
fn joined(first: TransferResults, rest: Answer) -> Answer {
    let Reply { at, replayed, body } = match rest {
        Ok(reply) => reply,
        Err(error) if first.verdicts.iter().any(|verdict| verdict.stands()) => {
            let message = format!("a part of the batch took effect, then: {error}");
            return Err(Error::new(Code::OutcomeUnknown, message));
        }
        Err(error) => return Err(error),
    };
    let ReplyBody::Transfers(mut results) = body else {
        let error = Error::new(Code::Internal, "transfers were answered by something else");
        return Err(error);
    };
    let count = u32::try_from(first.verdicts.len()).unwrap_or(u32::MAX);
    for detail in &mut results.details {
        detail.index += count;
    }
    results.verdicts.splice(0..0, first.verdicts);
    results.details.splice(0..0, first.details);
    Ok(Reply { at, replayed, body: ReplyBody::Transfers(results) })
}

impl GroupDriver {
    /// The group of a user's accounts.
    pub(crate) fn group_of_accounts(&self, uid: Uid) -> Option<GroupId> {
        (self.options.group_of)(TableId::ACCOUNTS, uid)
    }

    /// The group of the credit accounts of a batch, if it is another one.
    pub(crate) fn credit_group(&self, batch: &TransferBatch) -> Result<Option<GroupId>, Error> {
        credit_group(batch, self.group, &|uid| self.group_of_accounts(uid))
    }

    /// Transfers from our accounts to those of another group. The core serves.
    pub(crate) fn request_transfers(
        &mut self,
        clock: &dyn Clock,
        to: GroupId,
        asked: Asked,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let RequestBody::Transfers(batch) = &asked.request.body else {
            let error = Error::new(Code::InvalidRequest, "the request has no transfers");
            asked.reply.answer(Err(error));
            return Ok(());
        };
        let debits = self.on_overlay(|context, state| evaluate_debits(batch, context, state))?;
        let now = clock.now();
        match debits {
            Debits::Wait(attempt) => self.park(now, attempt, asked),
            Debits::Nothing(body) => {
                let at = self.seen_at();
                let answer = Ok(Reply { at, replayed: false, body });
                self.answer_later(now, Held { answer, reply: asked.reply }, fx)?;
            }
            Debits::Able { leg, rest } => {
                let first = leg.batch.clone();
                match self.cross.rules.begin_transfers(now, clock.wall_ms(), to, leg) {
                    Ok((attempt, out)) => {
                        let since = asked.parked_at.unwrap_or(now);
                        let caller = Caller { since, reply: asked.reply, first, rest };
                        self.cross.callers.0.insert(attempt, caller);
                        self.carry_out_cross(now, out, fx)?;
                    }
                    Err(error) => asked.reply.answer(Err(error)),
                }
            }
        }
        Ok(())
    }

    /// A read of an account that undecided transfers touch waits for its turn.
    pub(crate) fn wait_for_turn(
        &mut self,
        now: BootTime,
        attempt: Attempt,
        account: AccountAddress,
        asked: Asked,
    ) {
        self.cross.rules.fence(now, account);
        self.park(now, attempt, asked);
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{AccountAddress, EntryId, Transfer, TransferId};

    use super::*;

    fn results(verdicts: &[Verdict], index: u32) -> TransferResults {
        let details = vec![TransferDetail { index, slot: Slot(3), amount: 5 }];
        TransferResults { verdicts: verdicts.to_vec(), details }
    }

    #[test]
    fn each_part_of_a_batch_keeps_its_slot() {
        // Goal: a retry is told the slot of the first time, so the first time must be told it, too.
        let at = |uid| AccountAddress::new(Uid(uid), 840);
        let post = |id, amount| Transfer::post(TransferId(id), at(1), at(30), amount);
        let batch = TransferBatch::new(&[post(1, 7), post(2, 8), post(3, 9)]);
        let told = results(&[Verdict::Created, Verdict::AlreadyApplied, Verdict::FloorReached], 1);
        let detail = |index, slot, amount| TransferDetail { index, slot: Slot(slot), amount };
        let full = in_full(told, &batch, Slot(9));
        assert_eq!(full.details, [detail(0, 9, 7), detail(1, 3, 5)]);
    }

    #[test]
    fn the_parts_of_a_batch_are_answered_as_one() {
        // Goal: places are those of the whole batch, and nothing that took effect is reported as refused.
        let first = results(&[Verdict::Created, Verdict::AlreadyApplied], 1);
        let rest = results(&[Verdict::FloorReached, Verdict::AlreadyApplied], 1);
        let body = ReplyBody::Transfers(rest);
        let rest = Ok(Reply { at: EntryId::ZERO, replayed: false, body });
        let ReplyBody::Transfers(all) = joined(first.clone(), rest).expect("both are").body else {
            panic!("transfers stay transfers");
        };
        assert_eq!(all.verdicts.len(), 4);
        assert_eq!(all.verdicts[2], Verdict::FloorReached);
        let places: Vec<u32> = all.details.iter().map(|detail| detail.index).collect();
        assert_eq!(places, [1, 3]);
        let locked = || Err(Error::new(Code::Locked, "it waited"));
        let error = joined(first, locked()).expect_err("a part took effect");
        assert_eq!(error.code, Code::OutcomeUnknown);
        let refused = results(&[Verdict::FloorReached], 0);
        assert_eq!(joined(refused, locked()).expect_err("nothing did").code, Code::Locked);
    }
}
