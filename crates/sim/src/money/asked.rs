//! What was asked of a bank and what callers were told, and whether the answers agree with each other.
//!
//! An id may be asked for many times: again after no answer, by two callers at once, with another content
//! by mistake. The rules about answers alone are here, those about what is found at the end in `books.rs`.

use std::collections::BTreeMap;

use quorate_client::{Outcome, TransferOutcome};
use quorate_types::{Code, Slot, Transfer, TransferId, Uid, Verdict};

/// A transfer: the user it debits, and its id.
pub(super) type Name = (Uid, TransferId);

/// The name of a transfer.
pub(super) fn name(transfer: &Transfer) -> Name {
    (transfer.debit.uid, transfer.id)
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It took effect by this request.
    Created(Effect),
    /// It had taken effect.
    AlreadyApplied(Effect),
    /// A group decided against it.
    Refused(Verdict),
    /// No group decided it, and none will.
    NotApplied(Code),
    /// It may have taken effect, or may still.
    Unknown,
}

/// What a transfer did, and where its log says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) slot: Slot,
    pub(super) amount: u64,
}

impl Told {
    pub(super) fn of(outcome: &TransferOutcome) -> Told {
        let effect = || {
            let effect = outcome.effect().expect("it stands");
            Effect { slot: effect.slot, amount: effect.amount }
        };
        match outcome {
            TransferOutcome::Created(_) => Told::Created(effect()),
            TransferOutcome::AlreadyApplied(_) => Told::AlreadyApplied(effect()),
            TransferOutcome::Refused(refusal) => Told::Refused(refusal.verdict),
            TransferOutcome::Failed(error) => match error.outcome() {
                Outcome::NotApplied => Told::NotApplied(error.code()),
                Outcome::Unknown => Told::Unknown,
            },
        }
    }

    /// What it did, if it stands.
    pub(super) fn effect(self) -> Option<Effect> {
        match self {
            Told::Created(effect) | Told::AlreadyApplied(effect) => Some(effect),
            Told::Refused(_) | Told::NotApplied(_) | Told::Unknown => None,
        }
    }

    /// Surely without effect.
    pub(super) fn is_none(self) -> bool {
        matches!(self, Told::Refused(_) | Told::NotApplied(_))
    }
}

/// One time that a transfer was asked for. Times are virtual nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) transfer: Transfer,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) told: Told,
}

/// Everything that was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) attempts: BTreeMap<Name, Vec<Attempt>>,
    /// The transfers of each chain, which stand or fall together.
    pub(super) chains: Vec<Vec<Name>>,
}

impl Asked {
    /// Notes a request that is sent now. The places are for [`Asked::end`].
    pub(super) fn begin(&mut self, batch: &[Transfer], now: u64) -> Vec<usize> {
        let note = |transfer: &Transfer| {
            let attempts = self.attempts.entry(name(transfer)).or_default();
            let (asked, answered, told) = (now, u64::MAX, Told::Unknown);
            attempts.push(Attempt { transfer: *transfer, asked, answered, told });
            attempts.len() - 1
        };
        batch.iter().map(note).collect()
    }

    /// Notes what came of it.
    pub(super) fn end(&mut self, batch: &[Transfer], places: &[usize], told: &[Told], now: u64) {
        for ((transfer, place), told) in batch.iter().zip(places).zip(told) {
            let attempts = self.attempts.get_mut(&name(transfer)).expect("it was asked for");
            let attempt = &mut attempts[*place];
            (attempt.answered, attempt.told) = (now, *told);
        }
    }

    /// Answers of one kind.
    pub(super) fn count(&self, is_it: impl Fn(Told) -> bool) -> u64 {
        let all = self.attempts.values().flatten();
        all.filter(|attempt| is_it(attempt.told)).count() as u64
    }

    /// Every answer that contradicts another one.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, attempts) in &self.attempts {
            wrong.extend(contradictions(attempts).map(|what| format!("{}: {what}", show(*name))));
        }
        wrong
    }
}

/// A name in words.
pub(super) fn show((debit, id): Name) -> String {
    format!("transfer {:x} of user {}", id.0, debit.0)
}

fn contradictions(attempts: &[Attempt]) -> impl Iterator<Item = String> + '_ {
    let standing = || attempts.iter().filter_map(|it| it.told.effect().map(|effect| (it, effect)));
    let created = attempts.iter().filter(|it| matches!(it.told, Told::Created(_))).count();
    let doubled = (1 < created).then(|| format!("created {created} times"));
    let first = standing().min_by_key(|(it, _)| it.answered);
    let against = move |other: &Attempt| {
        let (first, effect) = first?;
        let is_same = other.transfer == first.transfer;
        let is_later = first.answered < other.asked;
        let is_wrong = match other.told {
            Told::Created(told) | Told::AlreadyApplied(told) => !is_same || told != effect,
            // Once it stands, nothing that has happened since changes the verdict.
            Told::Refused(verdict) => is_later && (is_same || verdict != Verdict::IdReused),
            Told::NotApplied(_) | Told::Unknown => false,
        };
        let (first, other) = ((first.transfer, first.told), (other.transfer, other.told));
        is_wrong.then(|| format!("told {first:?}, then {other:?}"))
    };
    doubled.into_iter().chain(attempts.iter().filter_map(against))
}

#[cfg(test)]
mod tests {
    use quorate_types::AccountAddress;

    use super::*;

    fn problems(answers: &[(u64, u64, u64, Told)]) -> usize {
        let at = |uid| AccountAddress::new(Uid(uid), 840);
        let attempts: Vec<Attempt> = answers
            .iter()
            .map(|(amount, asked, answered, told)| Attempt {
                transfer: Transfer::post(TransferId(7), at(1), at(2), *amount),
                asked: *asked,
                answered: *answered,
                told: *told,
            })
            .collect();
        contradictions(&attempts).count()
    }

    /// Goal: every answer to a retry that is not the first result is found, and no honest one is.
    #[test]
    fn a_retry_is_told_the_first_result() {
        let effect = Effect { slot: Slot(9), amount: 5 };
        let (created, again) = (Told::Created(effect), Told::AlreadyApplied(effect));
        let refused = Told::Refused(Verdict::FloorReached);
        assert_eq!(problems(&[(5, 0, 1, refused), (5, 2, 3, created), (5, 4, 5, again)]), 0);
        assert_eq!(problems(&[(5, 0, 9, Told::Unknown), (5, 2, 3, again)]), 0);
        assert_eq!(problems(&[(5, 0, 3, created), (5, 2, 4, refused)]), 0, "asked before it stood");
        assert_eq!(problems(&[(5, 0, 3, created), (5, 4, 5, refused)]), 1);
        assert_eq!(problems(&[(5, 0, 3, created), (5, 4, 5, created)]), 1, "twice");
        let other = Told::AlreadyApplied(Effect { slot: Slot(10), ..effect });
        assert_eq!(problems(&[(5, 0, 3, created), (5, 4, 5, other)]), 1, "another slot");
        let reused = Told::Refused(Verdict::IdReused);
        assert_eq!(problems(&[(5, 0, 3, created), (6, 4, 5, reused)]), 0);
        assert_eq!(problems(&[(5, 0, 3, created), (6, 4, 5, again)]), 1, "another content");
        assert_eq!(problems(&[(5, 0, 3, created), (6, 4, 5, refused)]), 1);
    }
}
