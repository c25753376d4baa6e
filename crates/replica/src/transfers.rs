//! Transfers between this group and another: whose debits are ours, who waits for them, and reads that
//! must see how they end. Called by `group.rs` and `cross.rs`; the rules stand in `quorate_txn::money`
//! and `quorate_txn::cross`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_txn::cross::{Released, credit_group};
use quorate_txn::money::{Debits, evaluate_debits};
use quorate_txn::read_history;
use quorate_types::{
    Account, Attempt, BootTime, Code, Error, GroupId, Reply, ReplyBody, Request, RequestBody,
    TableId, TransferBatch, Uid,
};

use crate::clock::Clock;
use crate::cross::Asked;
use crate::event::{Answer, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, Held};

/// Who waits for transfers between groups. Belongs to one ballot.
#[derive(Debug, Default)]
pub(crate) struct TransferWaits {
    /// Whom to tell what became of the transfers of an attempt.
    callers: BTreeMap<Attempt, ReplyTo>,
    /// Reads that are complete once attempts are decided, by a number of their own.
    reads: BTreeMap<u64, WaitingRead>,
    /// The reads that wait for an attempt.
    by_attempt: BTreeMap<Attempt, Vec<u64>>,
    next_read: u64,
}

/// A read that waits.
#[derive(Debug)]
struct WaitingRead {
    since: BootTime,
    request: Request,
    /// What was applied when it began, and what these attempts add to it as they are decided.
    answer: Reply,
    undecided: BTreeSet<Attempt>,
    reply: ReplyTo,
}

impl TransferWaits {
    /// How many reads wait.
    pub(crate) fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Tells who waits for the transfers of an attempt.
    pub(crate) fn settle(&mut self, attempt: Attempt, answer: Answer) {
        if let Some(caller) = self.callers.remove(&attempt) {
            caller.answer(answer);
        }
    }

    /// Takes out the reads that have waited too long.
    pub(crate) fn late_reads(
        &mut self,
        now: BootTime,
        patience: Duration,
    ) -> Vec<(ReplyTo, Duration)> {
        let is_late = |read: &WaitingRead| patience < now.since(read.since);
        let late: Vec<u64> =
            self.reads.iter().filter(|(_, read)| is_late(read)).map(|(id, _)| *id).collect();
        let taken = late.into_iter().filter_map(|id| self.reads.remove(&id));
        taken.map(|read| (read.reply, now.since(read.since))).collect()
    }

    /// The ballot is over: transfers may have taken effect, reads were not answered.
    pub(crate) fn lose(&mut self, refused: &Answer, unknown: &Answer) {
        for caller in std::mem::take(&mut self.callers).into_values() {
            caller.answer(unknown.clone());
        }
        for read in std::mem::take(&mut self.reads).into_values() {
            read.reply.answer(refused.clone());
        }
        self.by_attempt.clear();
    }

    fn add(&mut self, read: WaitingRead) {
        self.next_read += 1;
        for attempt in &read.undecided {
            self.by_attempt.entry(*attempt).or_default().push(self.next_read);
        }
        self.reads.insert(self.next_read, read);
    }

    /// Adds what an attempt did to the reads that wait for it. Returns those that are complete.
    fn decided(&mut self, released: &Released) -> Vec<WaitingRead> {
        let waiting = self.by_attempt.remove(&released.attempt).unwrap_or_default();
        let mut complete = Vec::new();
        for id in waiting {
            let Some(read) = self.reads.get_mut(&id) else { continue };
            read.undecided.remove(&released.attempt);
            if let ReplyBody::Account(Some(account)) = &mut read.answer.body {
                add_effect(account, released);
            }
            if read.undecided.is_empty() {
                complete.extend(self.reads.remove(&id));
            }
        }
        complete
    }
}

/// The account as an attempt leaves it.
fn add_effect(account: &mut Account, released: &Released) {
    let effect = released.effect_on(account.address);
    let balance = i64::try_from(i128::from(account.balance) + effect.balance);
    account.balance = balance.expect("votes keep balances in 64 bits");
    let reserved = u64::try_from(i128::from(account.reserved) - effect.released);
    account.reserved = reserved.expect("what is released was reserved");
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
                let held = Held { answer: Ok(self.read_reply(body)), reply: asked.reply };
                self.answer_later(now, held, fx)?;
            }
            Debits::Able(debits) => {
                let begun = self.cross.rules.begin_transfers(now, clock.wall_ms(), to, debits);
                match begun {
                    Ok((attempt, out)) => {
                        self.cross.transfers.callers.insert(attempt, asked.reply);
                        self.carry_out_cross(now, out, fx)?;
                    }
                    Err(error) => asked.reply.answer(Err(error)),
                }
            }
        }
        Ok(())
    }

    /// A read that is complete once these attempts are decided.
    pub(crate) fn read_once(
        &mut self,
        now: BootTime,
        answer: Reply,
        undecided: Vec<Attempt>,
        asked: Asked,
    ) {
        let Asked { request, reply, .. } = asked;
        if self.is_full_of_waits() {
            return reply.answer(Err(self.too_many_wait()));
        }
        let undecided = undecided.into_iter().collect();
        self.cross.transfers.add(WaitingRead { since: now, request, answer, undecided, reply });
    }

    /// An attempt is decided here: completes the reads that wait for nothing else.
    pub(crate) fn finish_reads(
        &mut self,
        now: BootTime,
        released: &Released,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        for read in self.cross.transfers.decided(released) {
            let WaitingRead { request, mut answer, reply, .. } = read;
            if let RequestBody::History { .. } = &request.body {
                answer = self.read_reply(self.on_overlay(|context, state| {
                    read_history(&request.body, context, state.applied)
                })?);
            }
            self.hold(now, Held { answer: Ok(answer), reply }, fx)?;
        }
        Ok(())
    }
}
