//! What transfers between groups that are not decided keep from others.
//!
//! Debits that a group has said yes to are as good as gone for whoever wants to debit the account;
//! credits are not there yet, but must find room. So they do not exclude each other, and nobody waits
//! for them but whom they leave in doubt: a transfer that would be refused because of them, one with the same id, one
//! that ends the same reservation, a read. The idea is that of escrow (O'Neil, "The Escrow
//! Transactional Method", TODS 1986); the bounds here are exact, because every amount is known.
//!
//! A transfer is here from the leader's vote to the application of COMMIT or ABORT, like a lock. From
//! the moment COMMIT stands on the overlay it only keeps reads waiting: who decides sees its effects.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_types::{AccountAddress, Attempt, TransferId, Uid};

use super::leg::Leg;

/// The undecided transfers of a group with others. Empty in a group without, and then they cost
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Escrow {
    attempts: BTreeMap<Attempt, Open>,
    /// Invariant: the sums of what the attempts that are not staged may do.
    accounts: BTreeMap<AccountAddress, OpenAccount>,
    /// Ids of debits that are not staged, and the pending transfers that they end.
    ids: BTreeMap<(Uid, TransferId), Attempt>,
    ends: BTreeMap<(Uid, TransferId), Attempt>,
    /// Transfers of all attempts.
    count: usize,
}

#[derive(Clone, Debug)]
struct Open {
    leg: Arc<Leg>,
    /// COMMIT is on the overlay.
    is_staged: bool,
}

#[derive(Clone, Debug, Default)]
struct OpenAccount {
    in_doubt: InDoubt,
    /// Attempts that touch it, and whether their COMMIT is on the overlay.
    attempts: BTreeMap<Attempt, bool>,
}

/// What undecided transfers may do to an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InDoubt {
    /// Taken from its balance, at most.
    pub(super) debits: i128,
    /// Added to its balance, at most.
    pub(super) credits: i128,
}

impl Escrow {
    /// True if nothing is undecided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// How many transfers are undecided.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many of them an attempt has.
    #[must_use]
    pub fn len_of(&self, attempt: Attempt) -> usize {
        self.attempts.get(&attempt).map_or(0, |open| open.leg.open())
    }

    /// The transfers of an attempt.
    #[must_use]
    pub fn leg(&self, attempt: Attempt) -> Option<&Arc<Leg>> {
        self.attempts.get(&attempt).map(|open| &open.leg)
    }

    /// Keeps what an attempt may do from others. Nothing happens if it does so already.
    pub fn take(&mut self, attempt: Attempt, leg: &Arc<Leg>) {
        if self.attempts.contains_key(&attempt) {
            return;
        }
        let Escrow { accounts, ids, ends, .. } = self;
        leg.visit(
            |account, amount| {
                let open = accounts.entry(account).or_default();
                open.in_doubt.add(amount);
                open.attempts.insert(attempt, false);
            },
            |debit, id, pending| {
                ids.insert((debit, id), attempt);
                ends.extend(pending.map(|pending| ((debit, pending), attempt)));
            },
        );
        self.count += leg.open();
        self.attempts.insert(attempt, Open { leg: Arc::clone(leg), is_staged: false });
    }

    /// COMMIT of an attempt is on the overlay: who decides sees its effects there.
    pub fn stage(&mut self, attempt: Attempt) {
        let Some(open) = self.attempts.get_mut(&attempt) else { return };
        if open.is_staged {
            return;
        }
        open.is_staged = true;
        let leg = Arc::clone(&open.leg);
        self.free(attempt, &leg);
        let accounts = &mut self.accounts;
        let mark = |account, _| {
            let open = accounts.get_mut(&account).and_then(|open| open.attempts.get_mut(&attempt));
            if let Some(is_staged) = open {
                *is_staged = true;
            }
        };
        leg.visit(mark, |_, _, _| {});
    }

    /// The overlay is gone: what was on it is in doubt again.
    pub fn unstage(&mut self) {
        let staged = self.attempts.iter().filter(|(_, open)| open.is_staged);
        let staged: Vec<Attempt> = staged.map(|(attempt, _)| *attempt).collect();
        for attempt in staged {
            if let Some(leg) = self.release(attempt) {
                self.take(attempt, &leg);
            }
        }
    }

    /// An attempt is decided, and that is applied. Returns its transfers.
    pub fn release(&mut self, attempt: Attempt) -> Option<Arc<Leg>> {
        let Open { leg, is_staged } = self.attempts.remove(&attempt)?;
        if !is_staged {
            self.free(attempt, &leg);
        }
        let accounts = &mut self.accounts;
        let drop = |account, _| {
            let Some(open) = accounts.get_mut(&account) else { return };
            open.attempts.remove(&attempt);
            if open.attempts.is_empty() {
                accounts.remove(&account);
            }
        };
        leg.visit(drop, |_, _, _| {});
        self.count -= leg.open();
        Some(leg)
    }

    /// Takes an attempt out of the sums and the ids.
    fn free(&mut self, attempt: Attempt, leg: &Leg) {
        let Escrow { accounts, ids, ends, .. } = self;
        let is_ours = |held: Option<&Attempt>| held == Some(&attempt);
        leg.visit(
            |account, amount| {
                if let Some(open) = accounts.get_mut(&account) {
                    open.in_doubt.add_back(amount);
                }
            },
            |debit, id, pending| {
                if is_ours(ids.get(&(debit, id))) {
                    ids.remove(&(debit, id));
                }
                if let Some(pending) = pending
                    && is_ours(ends.get(&(debit, pending)))
                {
                    ends.remove(&(debit, pending));
                }
            },
        );
    }

    /// What is in doubt about an account for whoever decides on the overlay.
    pub(super) fn in_doubt(&self, account: AccountAddress) -> InDoubt {
        self.accounts.get(&account).map_or_else(InDoubt::default, |open| open.in_doubt)
    }

    /// An attempt whose end may change what an account can do.
    pub(super) fn waits_for(&self, account: AccountAddress) -> Option<Attempt> {
        let open = &self.accounts.get(&account)?.attempts;
        open.iter().find(|(_, is_staged)| !**is_staged).map(|(attempt, _)| *attempt)
    }

    /// Every attempt whose effect on an account is not applied.
    pub(crate) fn unapplied(&self, account: AccountAddress) -> impl Iterator<Item = Attempt> + '_ {
        let open = self.accounts.get(&account).into_iter();
        open.flat_map(|open| open.attempts.keys().copied())
    }

    /// The attempt that has a transfer with this id, for whoever decides on the overlay.
    pub(super) fn of_id(&self, debit: Uid, id: TransferId) -> Option<Attempt> {
        self.ids.get(&(debit, id)).copied()
    }

    /// The attempt that has a transfer with this id and is not applied.
    pub(crate) fn unapplied_id(&self, debit: Uid, id: TransferId) -> Option<Attempt> {
        let has = |leg: &Leg| {
            let mut found = false;
            leg.visit(
                |_, _| {},
                |user, it, ends| {
                    found |= user == debit && (it == id || ends == Some(id));
                },
            );
            found
        };
        let open = self.ids.get(&(debit, id)).or_else(|| self.ends.get(&(debit, id)));
        // Few attempts are staged at any time, and those for a moment.
        open.copied().or_else(|| {
            let mut staged = self.attempts.iter().filter(|(_, open)| open.is_staged);
            staged.find(|(_, open)| has(&open.leg)).map(|(attempt, _)| *attempt)
        })
    }

    /// The attempt that ends a pending transfer.
    pub(super) fn ends(&self, debit: Uid, pending: TransferId) -> Option<Attempt> {
        self.ends.get(&(debit, pending)).copied()
    }
}

impl InDoubt {
    fn add(&mut self, amount: i128) {
        self.debits += (-amount).max(0);
        self.credits += amount.max(0);
    }

    fn add_back(&mut self, amount: i128) {
        self.debits -= (-amount).max(0);
        self.credits -= amount.max(0);
    }
}
