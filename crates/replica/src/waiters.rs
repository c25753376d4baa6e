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
