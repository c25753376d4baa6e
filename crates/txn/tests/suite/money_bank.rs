//! A second bank, written without looking at the first: plain maps, whole copies for chains, 128-bit
//! arithmetic. It says what every batch must come to.

use std::collections::BTreeMap;

use quorate_types::{
    AccountAddress, AccountChange, AccountSettings, LogTime, Slot, Transfer, TransferId,
    TransferKind, Uid, Verdict,
};

/// What one account holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) settings: AccountSettings,
    pub(crate) balance: i128,
    pub(crate) reserved: i128,
}

impl Held {
    fn floor(&self) -> i128 {
        self.settings.floor.unwrap_or(i64::MIN).into()
    }

    fn can_spare(&self, amount: i128) -> bool {
        self.floor() <= self.balance - self.reserved - amount
    }
}

/// A transfer that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) transfer: Transfer,
    pub(crate) slot: Slot,
    pub(crate) amount: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Open { expires: Option<u64> },
    Posted,
    Voided,
    Expired,
}

/// What is done to a bank by one entry.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Create(AccountAddress, AccountSettings),
    Set(AccountAddress, AccountChange),
    Batch(Vec<Transfer>),
    Expire(Vec<(Uid, TransferId)>),
}

/// The second bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bank {
    pub(crate) accounts: BTreeMap<AccountAddress, Held>,
    pub(crate) transfers: BTreeMap<(Uid, TransferId), Done>,
    pending: BTreeMap<(Uid, TransferId), Pending>,
    /// What was added to each account that keeps a history, and its balance afterwards.
    pub(crate) histories: BTreeMap<AccountAddress, Vec<(TransferId, i128, i128)>>,
}

impl Bank {
    /// Does it, in the entry at this slot and log time. Returns the verdicts of a batch.
    pub(crate) fn run(&mut self, deed: &Deed, slot: Slot, now: LogTime) -> Vec<Verdict> {
        match deed {
            Deed::Create(at, settings) => {
                let held = Held { settings: *settings, balance: 0, reserved: 0 };
                self.accounts.entry(*at).or_insert(held);
                Vec::new()
            }
            Deed::Set(at, change) => {
                if let Some(held) = self.accounts.get_mut(at) {
                    held.settings = change.of(held.settings);
                }
                Vec::new()
            }
            Deed::Batch(batch) => self.batch(batch, slot, now),
            Deed::Expire(ids) => {
                for id in ids {
                    let Done { transfer, amount, .. } = self.transfers[id];
                    self.account(&transfer.debit).reserved -= i128::from(amount);
                    self.pending.insert(*id, Pending::Expired);
                }
                Vec::new()
            }
        }
    }

    /// Open holds whose time is over.
    pub(crate) fn overdue(&self, now: LogTime) -> Vec<(Uid, TransferId)> {
        let is_over = |pending: &Pending| matches!(pending, Pending::Open { expires: Some(at) } if *at <= now.0);
        self.pending.iter().filter(|(_, pending)| is_over(pending)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_open(&self, id: (Uid, TransferId)) -> bool {
        matches!(self.pending.get(&id), Some(Pending::Open { .. }))
    }

    /// The sum of all balances of a ledger.
    pub(crate) fn sum(&self, ledger: u32) -> i128 {
        let of_ledger = self.accounts.iter().filter(|(at, _)| at.ledger == ledger);
        of_ledger.map(|(_, held)| held.balance).sum()
    }

    fn batch(&mut self, batch: &[Transfer], slot: Slot, now: LogTime) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut rest = batch;
        while !rest.is_empty() {
            let end = rest.iter().position(|transfer| !transfer.linked);
            let (chain, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = after;
            let before = self.clone();
            let mut failed = None;
            if end.is_none() {
                failed = Some((chain.len() - 1, Verdict::ChainOpen));
            }
            let mut of_chain = Vec::new();
            for (index, transfer) in chain.iter().enumerate() {
                if failed.is_some() {
                    break;
                }
                let verdict = self.one(transfer, slot, now);
                if !matches!(verdict, Verdict::Created | Verdict::AlreadyApplied) {
                    failed = Some((index, verdict));
                }
                of_chain.push(verdict);
            }
            if let Some((at, why)) = failed {
                *self = before;
                let of = |(index, transfer): (usize, &Transfer)| {
                    let is_done = self.has(transfer);
                    match (index == at, is_done) {
                        (true, _) if why != Verdict::ChainOpen => why,
                        (_, true) => Verdict::AlreadyApplied,
                        (true, false) => why,
                        (false, false) => Verdict::LinkedFailed,
                    }
                };
                of_chain = chain.iter().enumerate().map(of).collect();
            }
            verdicts.extend(of_chain);
        }
        verdicts
    }

    fn has(&self, transfer: &Transfer) -> bool {
        let known = self.transfers.get(&(transfer.debit.uid, transfer.id));
        known.is_some_and(|done| done.transfer == *transfer)
    }

    fn one(&mut self, transfer: &Transfer, slot: Slot, now: LogTime) -> Verdict {
        if transfer.check().is_err() {
            return Verdict::Invalid;
        }
        if self.has(transfer) {
            return Verdict::AlreadyApplied;
        }
        if self.transfers.contains_key(&(transfer.debit.uid, transfer.id)) {
            return Verdict::IdReused;
        }
        match self.effect(transfer, now) {
            Err(verdict) => verdict,
            Ok(amount) => {
                let done = Done { transfer: *transfer, slot, amount };
                self.transfers.insert((transfer.debit.uid, transfer.id), done);
                Verdict::Created
            }
        }
    }

    fn effect(&mut self, transfer: &Transfer, now: LogTime) -> Result<u64, Verdict> {
        let asked = i128::from(transfer.amount);
        match transfer.kind {
            TransferKind::Post => {
                let debit = self.accounts.get(&transfer.debit);
                let debit = *debit.ok_or(Verdict::DebitAccountMissing)?;
                self.may_move(transfer, asked)?;
                if !debit.can_spare(asked) {
                    return Err(Verdict::FloorReached);
                }
                self.may_receive(transfer, asked)?;
                self.do_move(transfer, asked);
                Ok(transfer.amount)
            }
            TransferKind::Pending { timeout_ms } => {
                let debit = self.accounts.get_mut(&transfer.debit);
                let debit = debit.ok_or(Verdict::DebitAccountMissing)?;
                if debit.settings.no_debits {
                    return Err(Verdict::DebitsFrozen);
                }
                if !debit.can_spare(asked) {
                    return Err(Verdict::FloorReached);
                }
                debit.reserved += asked;
                let expires = (timeout_ms != 0).then(|| now.0 + u64::from(timeout_ms));
                let open = Pending::Open { expires };
                self.pending.insert((transfer.debit.uid, transfer.id), open);
                Ok(transfer.amount)
            }
            TransferKind::PostPending(id) => {
                let held = self.open(transfer, id)?;
                let moved = if asked == 0 { held } else { asked };
                if held < moved {
                    return Err(Verdict::AmountAbovePending);
                }
                self.may_move(transfer, moved)?;
                self.may_receive(transfer, moved)?;
                self.account(&transfer.debit).reserved -= held;
                self.do_move(transfer, moved);
                self.pending.insert((transfer.debit.uid, id), Pending::Posted);
                Ok(u64::try_from(moved).expect("amounts fit"))
            }
            TransferKind::VoidPending(id) => {
                let held = self.open(transfer, id)?;
                self.account(&transfer.debit).reserved -= held;
                self.pending.insert((transfer.debit.uid, id), Pending::Voided);
                Ok(u64::try_from(held).expect("amounts fit"))
            }
        }
    }

    /// What the pending transfer still reserves.
    fn open(&self, transfer: &Transfer, id: TransferId) -> Result<i128, Verdict> {
        match self.pending.get(&(transfer.debit.uid, id)) {
            None => Err(Verdict::PendingMissing),
            Some(Pending::Posted) => Err(Verdict::PendingPosted),
            Some(Pending::Voided) => Err(Verdict::PendingVoided),
            Some(Pending::Expired) => Err(Verdict::PendingExpired),
            Some(Pending::Open { .. }) => {
                let of = self.transfers[&(transfer.debit.uid, id)].transfer;
                if of.debit != transfer.debit || of.credit != transfer.credit {
                    return Err(Verdict::PendingDiffers);
                }
                Ok(of.amount.into())
            }
        }
    }

    fn may_move(&self, transfer: &Transfer, _amount: i128) -> Result<(), Verdict> {
        let debit = self.accounts.get(&transfer.debit).ok_or(Verdict::DebitAccountMissing)?;
        let credit = self.accounts.get(&transfer.credit).ok_or(Verdict::CreditAccountMissing)?;
        if debit.settings.no_debits {
            return Err(Verdict::DebitsFrozen);
        }
        if credit.settings.no_credits {
            return Err(Verdict::CreditsFrozen);
        }
        Ok(())
    }

    fn may_receive(&self, transfer: &Transfer, amount: i128) -> Result<(), Verdict> {
        let after = self.accounts[&transfer.credit].balance + amount;
        if i128::from(i64::MAX) < after { Err(Verdict::BalanceOverflow) } else { Ok(()) }
    }

    fn account(&mut self, at: &AccountAddress) -> &mut Held {
        self.accounts.get_mut(at).expect("it was looked up before")
    }

    fn do_move(&mut self, transfer: &Transfer, amount: i128) {
        for (at, delta) in [(transfer.debit, -amount), (transfer.credit, amount)] {
            let held = self.account(&at);
            held.balance += delta;
            let (keeps, balance) = (held.settings.history, held.balance);
            if keeps {
                self.histories.entry(at).or_default().push((transfer.id, delta, balance));
            }
        }
    }
}
