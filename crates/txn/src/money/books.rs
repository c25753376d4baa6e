//! The rows that a batch touches, typed: each account is read and decoded once, changed in place by
//! every item, and encoded once.
//!
//! Filled by `decide.rs` over the overlay and by `apply.rs` over the applied rows; both take the same
//! steps here, so both do the same arithmetic. `draft.rs` makes changes of rows from what is left.

use std::collections::BTreeMap;

use quorate_store::{Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Account, AccountAddress, AccountSettings, LogTime, SliceId, Transfer, TransferId, Uid,
};

use super::draft::{Draft, HoldChange};
use super::record::{
    ClosedHold, Expiry, HistoryRecord, OpenHold, decode_account, decode_closed_hold,
    decode_open_hold,
};

/// Which pending transfer. In the order of the keys of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HoldKey {
    pub(super) slice: SliceId,
    pub(super) debit: Uid,
    pub(super) pending: TransferId,
}

/// How a pending transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldNow {
    Missing,
    Open(OpenHold),
    Closed(ClosedHold),
}

/// One item of a batch: its number and the places of its accounts in the books. A side that is in
/// another group has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) index: u16,
    pub(super) debit: Option<usize>,
    pub(super) credit: Option<usize>,
}

impl Item {
    /// A transfer whose credit account is in another group.
    pub(super) fn of_debit(index: usize, place: usize) -> Result<Item, Broken> {
        Ok(Item { index: number_of(index)?, debit: Some(place), credit: None })
    }

    /// A transfer whose debit account is in another group.
    pub(super) fn of_credit(index: usize, place: usize) -> Result<Item, Broken> {
        Ok(Item { index: number_of(index)?, debit: None, credit: Some(place) })
    }

    /// The place of the debit account, for a step that only its group takes.
    pub(super) fn debit(self) -> Result<usize, Broken> {
        self.debit.ok_or(Broken("the debit account is in another group"))
    }
}

fn number_of(index: usize) -> Result<u16, Broken> {
    u16::try_from(index).map_err(|_| Broken("a batch is too large"))
}

/// A step is not possible on these accounts. After a check that it is, a bug or another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// An account in the books.
#[derive(Debug)]
struct Entry {
    slice: SliceId,
    address: AccountAddress,
    account: Option<Account>,
    is_changed: bool,
}

#[derive(Debug)]
struct HoldEntry {
    /// How it stood in the view.
    before: HoldNow,
    now: HoldNow,
}

/// A change of a balance, to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HistoryChange {
    pub(super) slice: SliceId,
    pub(super) account: AccountAddress,
    pub(super) index: u16,
    pub(super) record: HistoryRecord,
}

/// How to take a step back.
enum Undo {
    Account { at: usize, before: Option<Account>, was_changed: bool },
    Hold { key: HoldKey, before: HoldNow },
}

/// The steps of a chain that is not decided yet.
struct Chain {
    steps: Vec<Undo>,
    history: usize,
}

pub(super) struct Books<'a> {
    view: &'a dyn View,
    keyspace: Keyspace,
    /// In the order of their keys, each once.
    accounts: Vec<Entry>,
    holds: BTreeMap<HoldKey, HoldEntry>,
    history: Vec<HistoryChange>,
    chain: Option<Chain>,
}

/// Slice and address in one number that orders like the key.
fn packed(slice: SliceId, at: AccountAddress) -> u128 {
    u128::from(slice.0) << 112
        | u128::from(at.uid.0) << 48
        | u128::from(at.ledger) << 16
        | u128::from(at.code)
}

fn unpacked(packed: u128) -> (SliceId, AccountAddress) {
    let part = |shift: u32| (packed >> shift).to_be_bytes();
    let [.., a, b] = part(112);
    let slice = SliceId(u16::from_be_bytes([a, b]));
    let [.., a, b, c, d, e, f, g, h] = part(48);
    let uid = Uid(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    let [.., a, b, c, d] = part(16);
    let ledger = u32::from_be_bytes([a, b, c, d]);
    let [.., a, b] = part(0);
    (slice, AccountAddress { uid, ledger, code: u16::from_be_bytes([a, b]) })
}

impl<'a> Books<'a> {
    /// Reads the accounts of a batch. For each side that is given, in order, comes back where in the
    /// books its account is.
    pub(super) fn open(
        view: &'a dyn View,
        keyspace: Keyspace,
        sides: impl ExactSizeIterator<Item = (SliceId, AccountAddress)>,
    ) -> Result<(Books<'a>, Vec<usize>), StoreError> {
        let mut places = vec![0; sides.len()];
        // Sorted, not a tree: one pass finds each account once, in the order of the store.
        let mut sorted: Vec<(u128, usize)> =
            sides.enumerate().map(|(side, (slice, at))| (packed(slice, at), side)).collect();
        sorted.sort_unstable();
        let mut accounts: Vec<Entry> = Vec::new();
        let mut last = None;
        for (number, side) in sorted {
            if last != Some(number) {
                last = Some(number);
                let (slice, address) = unpacked(number);
                let key = keyspace.account(slice, address);
                let stored = view.get(&key)?;
                let account = stored.map(|bytes| decode_account(&key, address, &bytes));
                let account = account.transpose()?;
                accounts.push(Entry { slice, address, account, is_changed: false });
            }
            places[side] = accounts.len() - 1;
        }
        let (holds, history) = (BTreeMap::new(), Vec::new());
        Ok((Books { view, keyspace, accounts, holds, history, chain: None }, places))
    }

    /// The account at a place, if it exists.
    pub(super) fn account(&self, at: usize) -> Option<&Account> {
        self.accounts[at].account.as_ref()
    }

    /// The addresses of the accounts, by their places.
    pub(super) fn addresses(&self) -> impl Iterator<Item = AccountAddress> + '_ {
        self.accounts.iter().map(|entry| entry.address)
    }

    /// How a pending transfer stands.
    pub(super) fn hold(&mut self, key: HoldKey) -> Result<HoldNow, StoreError> {
        if let Some(entry) = self.holds.get(&key) {
            return Ok(entry.now);
        }
        let now = stored_hold(self.view, self.keyspace, key)?;
        self.holds.insert(key, HoldEntry { before: now, now });
        Ok(now)
    }

    /// From here on steps can be taken back together.
    pub(super) fn begin_chain(&mut self) {
        self.chain = Some(Chain { steps: Vec::new(), history: self.history.len() });
    }

    /// The chain stands.
    pub(super) fn end_chain(&mut self) {
        self.chain = None;
    }

    /// The chain falls: everything is as it was when it began.
    pub(super) fn take_back_chain(&mut self) {
        let Some(chain) = self.chain.take() else { return };
        self.history.truncate(chain.history);
        for step in chain.steps.into_iter().rev() {
            match step {
                Undo::Account { at, before, was_changed } => {
                    self.accounts[at].account = before;
                    self.accounts[at].is_changed = was_changed;
                }
                Undo::Hold { key, before } => {
                    let entry = self.holds.get_mut(&key).expect("a step changed it");
                    entry.now = before;
                }
            }
        }
    }

    /// Moves an amount, or the side of it that is ours.
    pub(super) fn post(
        &mut self,
        item: Item,
        transfer: &Transfer,
        amount: u64,
    ) -> Result<(), Broken> {
        let amount =
            i64::try_from(amount).map_err(|_| Broken("an amount has more than 63 bits"))?;
        if let Some(debit) = item.debit {
            self.add(debit, item.index, transfer, -amount)?;
        }
        if let Some(credit) = item.credit {
            self.add(credit, item.index, transfer, amount)?;
        }
        Ok(())
    }

    /// Reserves the amount of a pending transfer; `expiry` says until when.
    pub(super) fn reserve(
        &mut self,
        item: Item,
        transfer: &Transfer,
        expiry: Expiry,
    ) -> Result<(), Broken> {
        let Transfer { debit, credit, amount, .. } = *transfer;
        let place = item.debit()?;
        self.change(place, |account| {
            account.reserved = account.reserved.checked_add(amount)?;
            Some(())
        })?;
        let slice = self.accounts[place].slice;
        let key = HoldKey { slice, debit: debit.uid, pending: transfer.id };
        let hold = OpenHold { debit, credit, amount, expiry };
        self.set_hold(key, HoldNow::Open(hold));
        Ok(())
    }

    /// Ends a hold: what it reserved is free again. A post moves its amount afterwards.
    pub(super) fn release(
        &mut self,
        debit: usize,
        key: HoldKey,
        hold: &OpenHold,
        closed: ClosedHold,
    ) -> Result<(), Broken> {
        self.change(debit, |account| {
            account.reserved = account.reserved.checked_sub(hold.amount)?;
            Some(())
        })?;
        self.set_hold(key, HoldNow::Closed(closed));
        Ok(())
    }

    /// Creates the account at a place.
    pub(super) fn create(
        &mut self,
        at: usize,
        settings: AccountSettings,
        created: LogTime,
    ) -> Result<(), Broken> {
        let entry = &mut self.accounts[at];
        if entry.account.is_some() {
            return Err(Broken("the account exists"));
        }
        let address = entry.address;
        entry.account = Some(Account { address, settings, balance: 0, reserved: 0, created });
        self.change(at, |_| Some(())) // Checks the floor.
    }

    /// Gives the account at a place other settings.
    pub(super) fn set(&mut self, at: usize, settings: AccountSettings) -> Result<(), Broken> {
        self.change(at, |account| {
            account.settings = settings;
            Some(())
        })
    }

    /// What has changed.
    pub(super) fn into_draft(self) -> Draft {
        let changed = self.accounts.into_iter().filter(|entry| entry.is_changed);
        let accounts = changed.filter_map(|Entry { slice, account, .. }| Some((slice, account?)));
        let holds = self.holds.into_iter().filter(|(_, entry)| entry.now != entry.before);
        let hold_change = |(key, HoldEntry { before, now }): (HoldKey, HoldEntry)| HoldChange {
            key,
            before,
            now,
        };
        let (accounts, holds) = (accounts.collect(), holds.map(hold_change).collect());
        Draft::new(self.keyspace, accounts, holds, self.history)
    }

    /// Adds to a balance, and keeps that if the account has a history.
    fn add(
        &mut self,
        at: usize,
        index: u16,
        transfer: &Transfer,
        delta: i64,
    ) -> Result<(), Broken> {
        self.change(at, |account| {
            account.balance = account.balance.checked_add(delta)?;
            Some(())
        })?;
        let Entry { slice, address, account, .. } = &self.accounts[at];
        if let Some(Account { settings: AccountSettings { history: true, .. }, balance, .. }) =
            account
        {
            let (debit, transfer, balance) = (transfer.debit.uid, transfer.id, *balance);
            let record = HistoryRecord { delta, balance, debit, transfer };
            let (slice, account) = (*slice, *address);
            self.history.push(HistoryChange { slice, account, index, record });
        }
        Ok(())
    }

    fn change(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Account) -> Option<()>,
    ) -> Result<(), Broken> {
        let entry = &mut self.accounts[at];
        if let Some(chain) = &mut self.chain {
            let (before, was_changed) = (entry.account, entry.is_changed);
            chain.steps.push(Undo::Account { at, before, was_changed });
        }
        let account = entry.account.as_mut().ok_or(Broken("an account is missing"))?;
        step(account).ok_or(Broken("a number of an account leaves its 64 bits"))?;
        if !keeps_floor(account, 0) {
            return Err(Broken("the free balance of an account is below its floor"));
        }
        entry.is_changed = true;
        Ok(())
    }

    fn set_hold(&mut self, key: HoldKey, now: HoldNow) {
        // A hold is set without having been looked at only by the transfer that opens it, whose id is
        // new: it is not in the view.
        let missing = HoldEntry { before: HoldNow::Missing, now: HoldNow::Missing };
        let entry = self.holds.entry(key).or_insert(missing);
        if let Some(chain) = &mut self.chain {
            chain.steps.push(Undo::Hold { key, before: entry.now });
        }
        entry.now = now;
    }
}

/// The invariant of every account. Without a floor of its own an account has that of 64 bits, so that
/// what is reserved can always be posted. What is in doubt, or is to be taken, must be there, too.
pub(super) fn keeps_floor(account: &Account, in_doubt: i128) -> bool {
    i128::from(account.settings.floor.unwrap_or(i64::MIN)) <= account.free() - in_doubt
        || planted(Bug::TransferFloor)
}

/// How a pending transfer stands in a view.
pub(super) fn stored_hold(
    view: &dyn View,
    keyspace: Keyspace,
    key: HoldKey,
) -> Result<HoldNow, StoreError> {
    let HoldKey { slice, debit, pending } = key;
    let open = keyspace.open_hold(slice, debit, pending);
    if let Some(bytes) = view.get(&open)? {
        return decode_open_hold(&open, debit, &bytes).map(HoldNow::Open);
    }
    let closed = keyspace.closed_hold(slice, debit, pending);
    match view.get(&closed)? {
        Some(bytes) => decode_closed_hold(&closed, &bytes).map(HoldNow::Closed),
        None => Ok(HoldNow::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_addresses_order_like_keys() {
        // Goal: the books are in the order of the store, and nothing of an address is lost.
        let space = Keyspace::first(quorate_types::GroupId(1));
        let parts = [0, 1, 255, 256, u16::MAX];
        let mut all = Vec::new();
        for slice in parts {
            for (uid, ledger) in [(0, 0), (0, u32::MAX), (1, 7), (u64::MAX, 840)] {
                for code in parts {
                    all.push((SliceId(slice), AccountAddress { uid: Uid(uid), ledger, code }));
                }
            }
        }
        for (slice, at) in &all {
            assert_eq!(unpacked(packed(*slice, *at)), (*slice, *at));
            for (other_slice, other) in &all {
                let keys = space.account(*slice, *at).cmp(&space.account(*other_slice, *other));
                assert_eq!(packed(*slice, *at).cmp(&packed(*other_slice, *other)), keys);
            }
        }
    }
}
