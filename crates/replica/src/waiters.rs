//! Who waits for which entry. A waiter is settled by entry id only: what counts is whether exactly its
//! entry is chosen, whoever leads by then.

use std::collections::BTreeMap;

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, EntryId, Slot};

use crate::event::{Answer, ReplyTo};

/// A caller of a write.
#[derive(Debug)]
struct Waiter {
    reply: ReplyTo,
    /// It can ask again under the same id.
    has_id: bool,
}

/// Callers by the entry they wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters(BTreeMap<(Slot, Ballot), Vec<Waiter>>);

impl Waiters {
    /// Waits for `entry`.
    pub(crate) fn add(&mut self, entry: EntryId, reply: ReplyTo, has_id: bool) {
        self.0.entry((entry.slot, entry.ballot)).or_default().push(Waiter { reply, has_id });
    }

    /// `entry` is chosen at its slot: answers those who wait for it with `answer`, and those who wait
    /// for another entry at that slot with `replaced`.
    pub(crate) fn settle(&mut self, entry: EntryId, answer: &Answer, replaced: &Answer) {
        while let Some(first) = self.0.first_entry() {
            let (slot, ballot) = *first.key();
            if entry.slot < slot {
                return;
            }
            let is_ours = ballot == entry.ballot || planted(Bug::SettleBySlot);
            let answer = if is_ours && slot == entry.slot { answer } else { replaced };
            for waiter in first.remove() {
                waiter.reply.answer(answer.clone());
            }
        }
    }

    /// The rows through `upto` came from another replica: nobody here knows any more which entries they
    /// are made of, so those who wait for one of them are told that the outcome is open.
    pub(crate) fn skip(&mut self, upto: Slot, unknown: &Answer) {
        while let Some(first) = self.0.first_entry() {
            if upto < first.key().0 {
                return;
            }
            for waiter in first.remove() {
                waiter.reply.answer(unknown.clone());
            }
        }
    }

    /// Leadership is lost. Entries from `unproposed` on were never sent to anybody: refused. Callers
    /// that can ask again are told that the outcome is open, so that they go to the next leader at
    /// once; the others wait until their slot is decided.
    pub(crate) fn lose(&mut self, unproposed: EntryId, refused: &Answer, unknown: &Answer) {
        for waiters in self.0.split_off(&(unproposed.slot, unproposed.ballot)).into_values() {
            for waiter in waiters {
                waiter.reply.answer(refused.clone());
            }
        }
        for (entry, waiters) in std::mem::take(&mut self.0) {
            let (can_ask_again, patient): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| waiter.has_id);
            for waiter in can_ask_again {
                let answer = if planted(Bug::LostAsRefused) { refused } else { unknown };
                waiter.reply.answer(answer.clone());
            }
            if !patient.is_empty() {
                self.0.insert(entry, patient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{Code, Error, ReplicaId, Reply, ReplyBody};
    use tokio::sync::oneshot;

    use super::*;

    fn at(slot: u64) -> EntryId {
        EntryId { slot: Slot(slot), ballot: Ballot { round: 1, replica: ReplicaId(1) } }
    }

    fn wait(waiters: &mut Waiters, slot: u64) -> oneshot::Receiver<Answer> {
        let (send, receive) = oneshot::channel();
        let reply = ReplyTo::new(None, move |answer| drop(send.send(answer)));
        waiters.add(at(slot), reply, false);
        receive
    }

    fn said(code: Code) -> Answer {
        Err(Error::new(code, "said"))
    }

    /// Goal: whoever waits for an entry that the rows of a snapshot may hold is never told that it was
    /// replaced, which would mean that it had no effect.
    #[test]
    fn entries_below_a_snapshot_have_an_open_outcome() {
        let mut waiters = Waiters::default();
        let mut below = wait(&mut waiters, 7);
        let mut above = wait(&mut waiters, 9);

        waiters.skip(Slot(8), &said(Code::OutcomeUnknown));
        let body = ReplyBody::SessionClosed;
        let done = Ok(Reply { at: at(9), replayed: false, body });
        waiters.settle(at(9), &done, &said(Code::NotLeader));

        let below = below.try_recv().expect("it is answered").expect_err("nobody knows");
        assert_eq!(below.code, Code::OutcomeUnknown);
        assert!(above.try_recv().expect("it is answered").is_ok());
    }
}
