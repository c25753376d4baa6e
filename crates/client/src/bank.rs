//! Money: accounts, transfers and histories.
//!
//! No sessions: an account is created and set once however often that is asked, and transfers carry
//! ids of their own. Batches are cut and sent by `bank/batches.rs`.

mod batches;

use std::fmt;

use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, GroupId, HistoryEntry,
    HistoryPosition, Invalid, ReplyBody, RequestBody, Slot, Transfer, TransferId, TransferRecord,
    Uid, Verdict,
};

use crate::call::{Answered, Place, other_answer};
use crate::client::Client;
use crate::error::{Error, Outcome, Trail};

/// What a transfer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferEffect {
    /// The group whose log carries it.
    pub group: GroupId,
    /// The slot of the entry that carried it.
    pub slot: Slot,
    /// What was moved, reserved or released.
    pub amount: u64,
}

/// Why a transfer did not take effect. Its id may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The verdict of the group.
    pub verdict: Verdict,
    /// How it contradicts itself, if that is the verdict.
    pub invalid: Option<Invalid>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invalid {
            Some(invalid) => write!(f, "{}: {invalid}", self.verdict),
            None => write!(f, "{}: {}", self.verdict, self.verdict.words()),
        }
    }
}

/// What became of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// It took effect, durably, exactly once.
    Created(TransferEffect),
    /// It had taken effect before, under the same id with the same content; this is what it did then.
    AlreadyApplied(TransferEffect),
    /// It did not take effect.
    Refused(Refusal),
    /// The cluster did not decide it, as far as is known: [`Error::outcome`] says whether it may have
    /// taken effect. Sending it again under the same id settles it.
    Failed(Error),
}

impl TransferOutcome {
    /// What it did, if it stands.
    #[must_use]
    pub fn effect(&self) -> Option<TransferEffect> {
        match self {
            TransferOutcome::Created(effect) | TransferOutcome::AlreadyApplied(effect) => {
                Some(*effect)
            }
            TransferOutcome::Refused(_) | TransferOutcome::Failed(_) => None,
        }
    }

    /// True if it stands, now or since an earlier attempt.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.effect().is_some()
    }
}

/// An account after it was created or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountState {
    /// The account.
    pub account: Account,
    /// True if nothing had to change: it had existed, or had these settings.
    pub replayed: bool,
}

impl Client {
    /// Creates an account. Nothing happens if it exists with these settings.
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// use quorate_client::{AccountAddress, AccountSettings, Transfer, TransferId, Uid};
    ///
    /// let (bank, shop) = (AccountAddress::new(Uid(1), 840), AccountAddress::new(Uid(101), 840));
    /// let open = AccountSettings { floor: None, ..AccountSettings::default() };
    /// client.create_account(bank, open).await?;
    /// client.create_account(shop, AccountSettings::default()).await?;
    /// let paid = client.transfer(Transfer::post(TransferId(1), bank, shop, 250)).await;
    /// assert!(paid.stands());
    /// let account = client.account(shop).await?.expect("it was created");
    /// assert_eq!(account.balance, 250);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ACCOUNT_EXISTS` if it has other settings, `FLOOR_ABOVE_BALANCE` if the floor is above 0;
    /// others see [`Error`].
    pub async fn create_account(
        &self,
        at: AccountAddress,
        settings: AccountSettings,
    ) -> Result<AccountState, Error> {
        self.change_account(at, RequestBody::CreateAccount(at, settings)).await
    }

    /// Changes settings of an account. If the answer is lost the change is sent again: where two
    /// callers set the same account at once, the later one may have to look.
    ///
    /// # Errors
    /// `ACCOUNT_MISSING`; `FLOOR_ABOVE_BALANCE` if less is free than the new floor; others see
    /// [`Error`].
    pub async fn set_account(
        &self,
        at: AccountAddress,
        change: AccountChange,
    ) -> Result<AccountState, Error> {
        self.change_account(at, RequestBody::SetAccount(at, change)).await
    }

    /// Reads an account, linearizable unless [`Client::with_reads`] says otherwise.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn account(&self, at: AccountAddress) -> Result<Option<Account>, Error> {
        let body = RequestBody::GetAccount(at);
        let Answered { reply, .. } = self.call().read(&of_user(at.uid), body).await?;
        let ReplyBody::Account(account) = reply.body else {
            return Err(Error::local(other_answer("GetAccount")));
        };
        Ok(account)
    }

    /// Carries out a transfer. If the answer is lost it is sent again under its id, which does
    /// nothing more.
    pub async fn transfer(&self, transfer: Transfer) -> TransferOutcome {
        let mut outcomes = self.transfers(&[transfer]).await;
        outcomes.pop().expect("there is one outcome for each transfer")
    }

    /// Carries out any number of transfers and says what became of each, in their order. Those of one
    /// group are decided in order, 8,190 at a time; those of different groups have no order among
    /// them. Linked transfers stand or fall together, and must belong to one group.
    ///
    /// Each request of up to 8,190 transfers has the deadline of a call.
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) {
    /// use quorate_client::{AccountAddress, Transfer, TransferId, TransferOutcome, Uid};
    ///
    /// let account = |uid| AccountAddress::new(Uid(uid), 840);
    /// let fee = Transfer::post(TransferId(8), account(42), account(242), 3);
    /// let pay = Transfer::post(TransferId(7), account(42), account(142), 250);
    /// // The fee is taken only with the payment.
    /// let outcomes = client.transfers(&[Transfer { linked: true, ..pay }, fee]).await;
    /// for outcome in outcomes {
    ///     match outcome {
    ///         TransferOutcome::Created(effect) => println!("moved {}", effect.amount),
    ///         TransferOutcome::AlreadyApplied(_) => println!("done before"),
    ///         TransferOutcome::Refused(refusal) => println!("{refusal}"),
    ///         TransferOutcome::Failed(error) => println!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn transfers(&self, transfers: &[Transfer]) -> Vec<TransferOutcome> {
        batches::carry_out(self, transfers).await
    }

    /// Reads a transfer by its id and the user it debits, linearizable unless [`Client::with_reads`]
    /// says otherwise; `None` if none with this id took effect.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn find_transfer(
        &self,
        debit: Uid,
        id: TransferId,
    ) -> Result<Option<TransferRecord>, Error> {
        let body = RequestBody::GetTransfer(debit, id);
        let Answered { reply, .. } = self.call().read(&of_user(debit), body).await?;
        let ReplyBody::Transfer(found) = reply.body else {
            return Err(Error::local(other_answer("GetTransfer")));
        };
        Ok(found.map(|record| *record))
    }

    /// Starts to read the changes of an account's balance, oldest first. Empty for an account that
    /// keeps no history.
    pub fn account_history(&self, at: AccountAddress) -> AccountHistory {
        let client = self.clone();
        AccountHistory { client, account: at, limit: 0, after: None, is_complete: false }
    }

    async fn change_account(
        &self,
        at: AccountAddress,
        body: RequestBody,
    ) -> Result<AccountState, Error> {
        let (answered, _) = self.call().repeatable(&of_user(at.uid), body).await?;
        match answered.reply.body {
            ReplyBody::Account(Some(account)) => {
                Ok(AccountState { account, replayed: answered.reply.replayed })
            }
            _ => {
                let error = other_answer("a change of an account");
                Err(Error::new(error, Outcome::Unknown, Trail::default()))
            }
        }
    }
}

fn of_user(uid: Uid) -> Place {
    Place::Accounts(vec![uid])
}

/// The changes of an account's balance, page by page.
///
/// ```no_run
/// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
/// use quorate_client::{AccountAddress, Uid};
///
/// let mut history = client.account_history(AccountAddress::new(Uid(42), 840));
/// while let Some(entries) = history.next_page().await? {
///     for entry in entries {
///         println!("{:+} makes {}", entry.delta, entry.balance);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a history does nothing until `next_page` or `collect_all`"]
pub struct AccountHistory {
    client: Client,
    account: AccountAddress,
    limit: u32,
    after: Option<HistoryPosition>,
    is_complete: bool,
}

impl AccountHistory {
    /// Only changes after this one.
    pub fn start_after(mut self, at: HistoryPosition) -> AccountHistory {
        self.after = Some(at);
        self
    }

    /// Most changes of a page. Default and maximum 1,000.
    pub fn page_size(mut self, entries: usize) -> AccountHistory {
        self.limit = u32::try_from(entries).unwrap_or(u32::MAX);
        self
    }

    /// The next page; `None` after the last. A page is linearizable by itself. After an error the
    /// same page can be asked for again.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn next_page(&mut self) -> Result<Option<Vec<HistoryEntry>>, Error> {
        if self.is_complete {
            return Ok(None);
        }
        let AccountHistory { account, after, limit, .. } = *self;
        let body = RequestBody::History { account, after, limit };
        let place = of_user(account.uid);
        let Answered { reply, .. } = self.client.call().read(&place, body).await?;
        let ReplyBody::History(page) = reply.body else {
            return Err(Error::local(other_answer("History")));
        };
        self.is_complete = page.next.is_none();
        self.after = page.next;
        Ok((!page.entries.is_empty()).then_some(page.entries))
    }

    /// All changes. They are kept in memory together.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn collect_all(mut self) -> Result<Vec<HistoryEntry>, Error> {
        let mut all = Vec::new();
        while let Some(entries) = self.next_page().await? {
            all.extend(entries);
        }
        Ok(all)
    }
}
