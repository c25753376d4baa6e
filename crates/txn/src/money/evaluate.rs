//! Requests about money, and the expiry of holds: decided once, by the leader.
//!
//! Called by `evaluate.rs` of the crate for requests that change something, by the driver of a group for the expiry.
//!
//! A batch of which nothing is created needs no entry: what it found is true as soon as the entries in
//! flight that it may rest on are applied. So is the answer to the creation of an account that exists.
//! Both are answered like a refusal, see [`Evaluation::Answer`].

use quorate_store::{StoreError, View};
use quorate_types::limits::TRANSFERS_MAX;
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, Attempt, Code, Error, LogTime,
    ReplyBody, SliceId, Slot, TableId, TransferBatch, Uid,
};

use super::apply::expire;
use super::books::{Books, HoldKey, keeps_floor};
use super::decide::{Decided, Ground, Outcome, decide, decide_credits, decide_debits};
use super::entry::{AccountEntry, MoneyEntry, TransfersEntry};
use super::escrow::Escrow;
use super::leg::{CreditLeg, DebitLeg};
use crate::context::Context;
use crate::entry::EntryPayload;
use crate::evaluate::{Evaluation, Proposal, State};
use crate::session::SessionTable;

/// Most holds one entry expires; what is left over goes with the next entry. As many as a request may
/// open, so that expiry keeps up with those who let everything expire.
pub const EXPIRE_HOLDS_MAX: usize = TRANSFERS_MAX;

impl Context<'_> {
    /// The slice of a user's accounts.
    pub(super) fn account_slice(&self, uid: Uid) -> SliceId {
        (self.slice_of)(TableId::ACCOUNTS, uid)
    }
}

/// An entry that ends holds whose time is over at `now`; `None` if there are none. Those that an entry
/// in flight ends are left to it, and so are those that a transfer in escrow ends. `overlay` is what
/// the requests before this see.
///
/// # Errors
/// `StoreError` if records could not be read.
///
/// # Panics
/// If an open hold has no account, which no entry of ours leaves behind.
pub fn expire_holds(
    sessions: &SessionTable,
    escrow: &Escrow,
    overlay: &dyn View,
    now: LogTime,
) -> Result<Option<Proposal>, StoreError> {
    let keyspace = sessions.keyspace();
    let mut expired: Vec<HoldKey> = Vec::new();
    let in_escrow = |key: &HoldKey| escrow.ends(key.debit, key.pending).is_some();
    let over = sessions.holds().expired(now).filter(|key| !in_escrow(key));
    for key in over.take(EXPIRE_HOLDS_MAX) {
        let HoldKey { slice, debit, pending } = key;
        if overlay.get(&keyspace.open_hold(slice, debit, pending))?.is_some() {
            expired.push(key);
        }
    }
    if expired.is_empty() {
        return Ok(None);
    }
    let draft = expire(expired.iter().copied(), keyspace, overlay)?;
    let draft = draft.expect("an open hold reserves what its account has");
    let named = expired.iter().map(|key| (key.slice, key.debit, key.pending)).collect();
    let payload = EntryPayload::Money(MoneyEntry::ExpireHolds(named));
    Ok(Some(Proposal::of_money(&payload, draft)))
}

/// Decides the creation of an account.
pub(crate) fn create_account(
    at: AccountAddress,
    settings: AccountSettings,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    let slice = context.account_slice(at.uid);
    let (mut books, _) = Books::open(state.overlay, context.keyspace, [(slice, at)].into_iter())?;
    if let Some(account) = books.account(0) {
        if account.settings == settings {
            let body = ReplyBody::Account(Some(*account));
            return Ok(Evaluation::Answer { body, replayed: true });
        }
        let message = format!("account {at} exists with other settings");
        return Ok(Evaluation::Refuse(
            Error::new(Code::AccountExists, message).with("account", at),
        ));
    }
    if books.create(0, settings, LogTime::default()).is_err() {
        let message = format!("account {at} begins with 0, below its floor");
        let error = Error::new(Code::FloorAboveBalance, message).with("account", at);
        return Ok(Evaluation::Refuse(error));
    }
    let entry = AccountEntry { is_new: true, slice, address: at, settings };
    Ok(Evaluation::Propose(propose_account(entry, books)))
}

/// Decides a change of an account's settings.
pub(crate) fn set_account(
    at: AccountAddress,
    change: &AccountChange,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    let slice = context.account_slice(at.uid);
    let (mut books, _) = Books::open(state.overlay, context.keyspace, [(slice, at)].into_iter())?;
    let Some(account) = books.account(0).copied() else {
        let message = format!("account {at} does not exist");
        let error = Error::new(Code::AccountMissing, message).with("account", at);
        return Ok(Evaluation::Refuse(error));
    };
    let settings = change.of(account.settings);
    if settings == account.settings {
        let body = ReplyBody::Account(Some(account));
        return Ok(Evaluation::Answer { body, replayed: true });
    }
    let escrow = state.cross.escrow();
    let in_doubt = escrow.in_doubt(at);
    let changed = Account { settings, ..account };
    if !keeps_floor(&changed, in_doubt.debits) {
        let can_turn_out_well = 0 < in_doubt.ends || keeps_floor(&changed, -in_doubt.credits);
        if let Some(attempt) = escrow.waits_for(at).filter(|_| can_turn_out_well) {
            return Ok(Evaluation::Wait(attempt));
        }
        let free = account.free();
        let message = format!("account {at} has {free} free, less than its new floor");
        let error = Error::new(Code::FloorAboveBalance, message).with("account", at);
        return Ok(Evaluation::Refuse(error.with("free", free)));
    }
    books.set(0, settings).expect("the floor was checked");
    let entry = AccountEntry { is_new: false, slice, address: at, settings };
    Ok(Evaluation::Propose(propose_account(entry, books)))
}

fn propose_account(entry: AccountEntry, books: Books<'_>) -> Proposal {
    Proposal::of_money(&EntryPayload::Money(MoneyEntry::Account(entry)), books.into_draft())
}

/// Decides a batch of transfers.
pub(crate) fn transfers(
    batch: &TransferBatch,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    let slice_of = |uid| context.account_slice(uid);
    let decided = match decide(batch, ground(context, state, &slice_of))? {
        Outcome::Decided(decided) => decided,
        Outcome::Waits(attempt) => return Ok(Evaluation::Wait(attempt)),
    };
    if !decided.has_created {
        let body = ReplyBody::Transfers(decided.into_results());
        return Ok(Evaluation::Answer { body, replayed: false });
    }
    let Decided { verdicts, slices, draft, .. } = decided;
    let entry = TransfersEntry { batch: batch.clone(), verdicts, slices };
    let payload = EntryPayload::Money(MoneyEntry::Transfers(entry));
    Ok(Evaluation::Propose(Proposal::of_money(&payload, draft)))
}

/// What comes of the debits of a batch whose credit accounts are in another group.
#[derive(Clone, Debug)]
pub enum Debits {
    /// These can be carried out, if the other group agrees.
    Able {
        /// The first part of the batch, or all of it.
        leg: DebitLeg,
        /// The rest, which rests on what becomes of the first part: to be asked for then. Mostly empty.
        rest: TransferBatch,
    },
    /// None can: this is the answer. Release it like a refusal.
    Nothing(ReplyBody),
    /// Evaluate again once this attempt is decided.
    Wait(Attempt),
}

/// Decides the debits of a batch whose credit accounts are in another group.
///
/// # Errors
/// `StoreError` if records could not be read.
pub fn evaluate_debits(
    batch: &TransferBatch,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Debits, StoreError> {
    let slice_of = |uid| context.account_slice(uid);
    Ok(match decide_debits(batch, ground(context, state, &slice_of))? {
        Outcome::Waits(attempt) => Debits::Wait(attempt),
        Outcome::Decided((leg, _)) if leg.able.is_empty() => {
            // Nothing is asked of the other side, so no slot of a vote appears in the answer. And there is
            // no rest, which would rest on something.
            Debits::Nothing(ReplyBody::Transfers(leg.results(&[], Slot::ZERO)))
        }
        Outcome::Decided((leg, rest)) => Debits::Able { leg, rest },
    })
}

/// Decides the credits of a batch whose debit accounts are in another group. An attempt if it would have
/// to wait for that.
pub(crate) fn credits(
    batch: &TransferBatch,
    context: &Context<'_>,
    view: &dyn View,
    escrow: &Escrow,
) -> Result<Result<CreditLeg, Attempt>, StoreError> {
    let slice_of = |uid| context.account_slice(uid);
    let keyspace = context.keyspace;
    // Nothing is reserved on this side.
    let ground = Ground { keyspace, slice_of: &slice_of, view, escrow, open_holds: 0 };
    let decided = decide_credits(batch, ground)?;
    Ok(match decided {
        Outcome::Decided(leg) => Ok(leg),
        Outcome::Waits(attempt) => Err(attempt),
    })
}

fn ground<'a>(
    context: &Context<'_>,
    state: &State<'a>,
    slice_of: &'a dyn Fn(Uid) -> SliceId,
) -> Ground<'a> {
    let escrow = state.cross.escrow();
    let open_holds = state.sessions.open_holds() + state.pending.holds();
    Ground { keyspace: context.keyspace, slice_of, view: state.overlay, escrow, open_holds }
}
