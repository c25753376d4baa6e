//! What transfers between groups that are not decided keep from others.
//!
//! Debits that a group has said yes to are as good as gone for whoever wants to debit the account;
//! credits are not there yet, but must find room. So they do not exclude each other, and nobody waits
//! for them but whom they leave in doubt: a transfer that would be refused because of them, one with the
//! same id, one that ends the same reservation, a read. The idea is that of escrow (O'Neil, "The Escrow
//! Transactional Method", TODS 1986); the bounds here are exact, because every amount is known.
//!
//! A transfer is here from the leader's vote to the application of COMMIT or ABORT, like a lock. From
//! the moment COMMIT stands on the overlay it only keeps reads waiting: who decides sees its effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_types::{AccountAddress, Attempt, BootTime, TransferId, Uid};

use super::leg::Leg;

/// The undecided transfers of a group with others. Empty in a group without, and then they cost
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Escrow {
    attempts: BTreeMap<Attempt, Open>,
    /// Invariant: the sums of what the attempts that are not staged may do.
    accounts: BTreeMap<AccountAddress, OpenAccount>,
    /// Ids of debits, and the pending transfers that they end. One attempt each: who decides finds the one
    /// before here, or on the overlay if that is staged.
    ids: BTreeMap<(Uid, TransferId), Attempt>,
    ends: BTreeMap<(Uid, TransferId), Attempt>,
    /// Transfers of all attempts.
    count: usize,
    /// Accounts that a read waits for, and how long nothing new may touch them for its sake.
    fences: BTreeMap<AccountAddress, BootTime>,
    /// Accounts whose reads waited in vain, and how long others go first.
    cooling: BTreeMap<AccountAddress, BootTime>,
}

/// Reads keep others out of an account for so long: many times what it takes to decide a transfer.
const FENCE: Duration = Duration::from_millis(50);
/// And then for this long not again, if it was in vain.
const COOLING: Duration = Duration::from_secs(1);

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
    /// Reservations that may end: what they leave free is not counted.
    pub(super) ends: usize,
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
        self.attempts.get(&attempt).map_or(0, |open| open.leg.able())
    }

    /// Keeps what an attempt may do from others. Nothing happens if it does so already.
    pub fn take(&mut self, attempt: Attempt, leg: &Arc<Leg>) {
        if self.attempts.contains_key(&attempt) {
            return;
        }
        let Escrow { accounts, ids, ends, .. } = self;
        leg.visit(
            |account, amount, may_end| {
                let open = accounts.entry(account).or_default();
                open.in_doubt.add(amount, may_end);
                open.attempts.insert(attempt, false);
            },
            |debit, id, pending| {
                ids.insert((debit, id), attempt);
                ends.extend(pending.map(|pending| ((debit, pending), attempt)));
            },
        );
        self.count += leg.len();
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
    }

    /// The overlay is gone: what was on it is in doubt again.
    pub fn unstage(&mut self) {
        let staged = self.attempts.iter().filter(|(_, open)| open.is_staged);
        let staged: Vec<(Attempt, Arc<Leg>)> =
            staged.map(|(attempt, open)| (*attempt, Arc::clone(&open.leg))).collect();
        for (attempt, leg) in staged {
            self.release(attempt);
            self.take(attempt, &leg);
        }
    }

    /// An attempt is decided, and that is applied. True if that ends a fence: see [`Escrow::fence`].
    pub fn release(&mut self, attempt: Attempt) -> bool {
        let Some(Open { leg, is_staged }) = self.attempts.remove(&attempt) else { return false };
        if !is_staged {
            self.free(attempt, &leg);
        }
        let Escrow { accounts, ids, ends, fences, .. } = self;
        let mut ended = false;
        leg.visit(
            |account, _, _| {
                let Some(open) = accounts.get_mut(&account) else { return };
                open.attempts.remove(&attempt);
                if open.attempts.is_empty() {
                    accounts.remove(&account);
                    ended |= fences.remove(&account).is_some();
                }
            },
            |debit, id, pending| {
                forget(ids, (debit, id), attempt);
                if let Some(pending) = pending {
                    forget(ends, (debit, pending), attempt);
                }
            },
        );
        self.count -= leg.len();
        ended
    }

    /// Takes an attempt out of the sums.
    fn free(&mut self, attempt: Attempt, leg: &Leg) {
        let accounts = &mut self.accounts;
        let add_back = |account, amount, ends| {
            if let Some(open) = accounts.get_mut(&account) {
                open.in_doubt.add_back(amount, ends);
                open.attempts.insert(attempt, true);
            }
        };
        leg.visit(add_back, |_, _, _| {});
    }

    /// A read waits for an account: nothing new may touch it until all that is undecided about it is
    /// decided, but not for long, and not again and again if somebody is in the way for long.
    pub fn fence(&mut self, now: BootTime, account: AccountAddress) {
        let is_cooling = self.cooling.get(&account).is_some_and(|until| now < *until);
        if self.accounts.contains_key(&account) && !is_cooling {
            self.fences.entry(account).or_insert(now + FENCE);
        }
    }

    /// True if a read waits for the account.
    #[must_use]
    pub fn is_fenced(&self, account: AccountAddress) -> bool {
        !self.fences.is_empty() && self.fences.contains_key(&account)
    }

    /// How many accounts a read waits for.
    #[must_use]
    pub fn fences(&self) -> usize {
        self.fences.len()
    }

    /// When the next fence ends in vain, at the latest.
    #[must_use]
    pub fn next_fence_end(&self) -> Option<BootTime> {
        self.fences.values().min().copied()
    }

    /// Ends the fences whose time is over. Returns the attempts that were in the way, some of them twice.
    pub fn end_fences(&mut self, now: BootTime) -> Vec<Attempt> {
        let is_over = |until: &BootTime| *until <= now;
        if !self.fences.values().any(is_over) {
            return Vec::new();
        }
        self.cooling.retain(|_, until| !is_over(until));
        let over: Vec<AccountAddress> = self
            .fences
            .iter()
            .filter(|(_, until)| is_over(until))
            .map(|(account, _)| *account)
            .collect();
        let mut attempts = Vec::new();
        for account in over {
            self.fences.remove(&account);
            self.cooling.insert(account, now + COOLING);
            attempts.extend(self.unapplied(account));
        }
        attempts
    }

    /// No read waits any more.
    pub fn unfence_all(&mut self) {
        self.fences.clear();
        self.cooling.clear();
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
        self.ids.get(&(debit, id)).copied().filter(|attempt| !self.is_staged(*attempt))
    }

    /// The attempt that ends a pending transfer, for whoever decides on the overlay.
    pub(super) fn ends(&self, debit: Uid, pending: TransferId) -> Option<Attempt> {
        self.ends.get(&(debit, pending)).copied().filter(|attempt| !self.is_staged(*attempt))
    }

    /// The attempt that has a transfer with this id, or ends it, and is not applied.
    pub(crate) fn unapplied_id(&self, debit: Uid, id: TransferId) -> Option<Attempt> {
        let found = self.ids.get(&(debit, id)).or_else(|| self.ends.get(&(debit, id)));
        found.copied()
    }

    fn is_staged(&self, attempt: Attempt) -> bool {
        self.attempts.get(&attempt).is_some_and(|open| open.is_staged)
    }
}

/// Removes an attempt from a table, unless another has taken its place.
fn forget(
    table: &mut BTreeMap<(Uid, TransferId), Attempt>,
    name: (Uid, TransferId),
    attempt: Attempt,
) {
    if table.get(&name) == Some(&attempt) {
        table.remove(&name);
    }
}

impl InDoubt {
    fn add(&mut self, amount: i128, ends: bool) {
        self.ends += usize::from(ends);
        self.debits += (-amount).max(0);
        self.credits += amount.max(0);
    }

    fn add_back(&mut self, amount: i128, ends: bool) {
        self.ends -= usize::from(ends);
        self.debits -= (-amount).max(0);
        self.credits -= amount.max(0);
    }
}
