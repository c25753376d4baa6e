//! A bank of one group behind the scripted nodes: posts with a floor of 0, and accounts.

use std::collections::BTreeMap;

use quorate_types::{
    Account, AccountAddress, AccountSettings, Code, EntryId, Error, HistoryEntry, HistoryPage,
    HistoryPosition, LogTime, Reply, ReplyBody, RequestBody, Transfer, TransferDetail, TransferId,
    TransferRecord, TransferResults, Uid, Verdict,
};

/// Accounts and what moved between them.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    pub(crate) accounts: BTreeMap<AccountAddress, Account>,
    pub(crate) transfers: BTreeMap<(Uid, TransferId), TransferRecord>,
    history: BTreeMap<(AccountAddress, HistoryPosition), HistoryEntry>,
}

impl Bank {
    /// The answer to a request about money; `None` for others.
    pub(crate) fn answer(
        &mut self,
        body: &RequestBody,
        at: EntryId,
    ) -> Option<Result<Reply, Error>> {
        let told = |body| Some(Ok(Reply { at, replayed: false, body }));
        match body {
            RequestBody::CreateAccount(address, settings) => {
                let replayed = self.accounts.contains_key(address);
                let (address, settings) = (*address, *settings);
                let (balance, reserved, created) = (0, 0, LogTime(0));
                let new = Account { address, settings, balance, reserved, created };
                let account = *self.accounts.entry(address).or_insert(new);
                if account.settings != settings {
                    return Some(Err(Error::new(Code::AccountExists, "it has others")));
                }
                Some(Ok(Reply { at, replayed, body: ReplyBody::Account(Some(account)) }))
            }
            RequestBody::SetAccount(address, change) => {
                let Some(account) = self.accounts.get_mut(address) else {
                    return Some(Err(Error::new(Code::AccountMissing, "no account")));
                };
                account.settings = change.of(account.settings);
                told(ReplyBody::Account(Some(*account)))
            }
            RequestBody::GetAccount(address) => {
                told(ReplyBody::Account(self.accounts.get(address).copied()))
            }
            RequestBody::Transfers(batch) => {
                let mut results = TransferResults::default();
                for (index, transfer) in batch.iter().enumerate() {
                    self.transfer(index, &transfer, at, &mut results);
                }
                told(ReplyBody::Transfers(results))
            }
            RequestBody::GetTransfer(debit, id) => {
                let found = self.transfers.get(&(*debit, *id)).copied();
                told(ReplyBody::Transfer(found.map(Box::new)))
            }
            RequestBody::History { account, after, limit } => {
                let of_account = self.history.iter().filter(|((at, _), _)| at == account);
                let wanted = of_account.filter(|((_, at), _)| after.is_none_or(|it| it < *at));
                let mut entries: Vec<_> = wanted.map(|(_, entry)| *entry).collect();
                let limit = *limit as usize;
                let next = (limit < entries.len()).then(|| entries[limit - 1].at);
                entries.truncate(limit);
                told(ReplyBody::History(HistoryPage { entries, next }))
            }
            RequestBody::OpenSession
            | RequestBody::CloseSession(_)
            | RequestBody::Get(_)
            | RequestBody::Scan(_)
            | RequestBody::Transact { .. }
            | RequestBody::NewCut
            | RequestBody::PinCut(_)
            | RequestBody::ReadCut(..)
            | RequestBody::UnpinCut(_)
            | RequestBody::GetMany { .. } => None,
        }
    }

    fn transfer(
        &mut self,
        index: usize,
        transfer: &Transfer,
        at: EntryId,
        results: &mut TransferResults,
    ) {
        let Transfer { id, debit, credit, amount, .. } = *transfer;
        let has = |it: &AccountAddress| self.accounts.get(it).copied();
        let verdict = if transfer.check().is_err() {
            Verdict::Invalid
        } else if let Some(known) = self.transfers.get(&(debit.uid, id)) {
            let (slot, amount) = (known.slot, known.amount);
            let index = u32::try_from(index).expect("batches are small");
            results.details.push(TransferDetail { index, slot, amount });
            Verdict::AlreadyApplied
        } else if has(&debit).is_none() {
            Verdict::DebitAccountMissing
        } else if has(&credit).is_none() {
            Verdict::CreditAccountMissing
        } else if has(&debit).is_some_and(|it| {
            it.settings.floor.is_some_and(|floor| it.balance - (amount as i64) < floor)
        }) {
            Verdict::FloorReached
        } else {
            for (address, delta) in [(debit, -(amount as i64)), (credit, amount as i64)] {
                let account = self.accounts.get_mut(&address).expect("looked up above");
                account.balance += delta;
                let index = u16::try_from(index).expect("batches are small");
                let at = HistoryPosition { slot: at.slot, index };
                let (balance, transfer, debit) = (account.balance, id, debit.uid);
                let entry = HistoryEntry { at, delta, balance, transfer, debit };
                self.history.insert((address, at), entry);
            }
            let (slot, created, hold) = (at.slot, LogTime(0), None);
            let record = TransferRecord { transfer: *transfer, amount, slot, created, hold };
            self.transfers.insert((debit.uid, id), record);
            Verdict::Created
        };
        results.verdicts.push(verdict);
    }
}

/// Settings without a floor.
pub(crate) fn open() -> AccountSettings {
    AccountSettings { floor: None, ..AccountSettings::default() }
}
