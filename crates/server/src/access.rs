//! Who may do what: every request is held against the rights of its caller before it costs anything.
//! The rooms before are the services, which know their caller; `edge.rs` calls `authorize`.
//!
//! Without certificates there are no callers to tell apart, and everything is allowed: `--insecure`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quorate_types::{
    Code, CutRange, Error, GroupId, Identity, Mutation, Request, RequestBody, TableId, Uid, Who,
};

use crate::audit::Audit;
use crate::context::NodeContext;
use crate::rights::{Granted, Right, Rights};
use crate::trace::Trace;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// What its certificate says; `None` if it showed none.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Where it calls from.
    pub(crate) address: Option<SocketAddr>,
    /// The trace it is in, if it says so.
    pub(crate) trace: Option<Trace>,
}

impl Caller {
    /// The caller of a request; nobody if its connection has proved nothing.
    #[cfg(not(madsim))]
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Caller {
        let known = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        Caller { trace: Trace::of(request.metadata()), ..known }
    }

    /// In the simulation connections prove nothing.
    #[cfg(madsim)]
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Caller {
        Caller { trace: Trace::of(request.metadata()), ..Caller::default() }
    }

    /// For messages and the audit.
    pub(crate) fn name(&self) -> String {
        self.identity.as_ref().map_or_else(|| "nobody".to_owned(), |it| it.who.to_string())
    }
}

/// What a node keeps in order to decide. It exists only where callers have certificates.
pub struct Access {
    rights: RwLock<Arc<Rights>>,
    /// What is told of refusals.
    pub(crate) audit: Audit,
    /// Requests refused since the start.
    refused: AtomicU64,
    /// Connections refused since the start.
    connections_refused: AtomicU64,
}

impl Access {
    /// Decides by these rights.
    #[must_use]
    pub fn new(rights: Rights) -> Access {
        Access {
            rights: RwLock::new(Arc::new(rights)),
            audit: Audit::default(),
            refused: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
        }
    }

    /// From now on decides by other rights, for connections that are open too.
    pub fn set_rights(&self, rights: Rights) {
        *self.rights.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rights);
    }

    fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a connection that was not taken in.
    #[cfg_attr(madsim, expect(dead_code, reason = "the simulation has no certificates"))]
    pub(crate) fn count_refused_connection(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests and connections refused since the start.
    #[cfg_attr(madsim, expect(dead_code, reason = "metrics are served by real processes only"))]
    pub(crate) fn refused(&self) -> (u64, u64) {
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (counted(&self.refused), counted(&self.connections_refused))
    }

    /// What a caller may do. A node may do nothing here: it speaks to its peers elsewhere.
    fn granted(&self, caller: &Caller) -> Result<Arc<Granted>, Error> {
        let Some(identity) = &caller.identity else {
            return Err(Error::new(Code::Unauthenticated, "the caller shows no certificate"));
        };
        match &identity.who {
            Who::Client(name) => self
                .rights()
                .of(name)
                .cloned()
                .ok_or_else(|| denied(caller, format!("{} has no rights here", identity.who))),
            Who::Node(_) => Ok(Arc::default()),
            Who::Authority => Err(denied(caller, "an authority has no rights".to_owned())),
        }
    }
}

fn denied(caller: &Caller, message: String) -> Error {
    Error::new(Code::PermissionDenied, message).with("client", caller.name())
}

fn lacks(caller: &Caller, right: Right, unit: &str) -> Error {
    let message = format!("{} lacks the right {right} in unit {unit}", caller.name());
    denied(caller, message).with("right", right).with("unit", unit)
}

impl NodeContext {
    /// Refuses a caller that is not of this cluster, or has no rights any more.
    pub(crate) fn admit(&self, caller: &Caller, what: &str) -> Result<(), Error> {
        self.decide(caller, what, |_| Ok(()))
    }

    /// Refuses a caller that may not do this in the unit of a group. Of an unknown group only who may do
    /// it everywhere is told that it is unknown.
    pub(crate) fn allow(
        &self,
        caller: &Caller,
        what: &str,
        right: Right,
        group: GroupId,
    ) -> Result<(), Error> {
        self.decide(caller, what, |granted| self.check(caller, granted, right, group))
    }

    /// True if a caller may do this in the unit of a group. Tells nobody.
    pub(crate) fn is_allowed(&self, caller: &Caller, right: Right, group: GroupId) -> bool {
        let Some(access) = &self.access else { return true };
        let granted = access.granted(caller);
        granted.is_ok_and(|granted| self.check(caller, &granted, right, group).is_ok())
    }

    /// Refuses a request whose caller may not do all of it. Its rows are known to belong to the groups
    /// that they are routed to.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        group: GroupId,
        request: &Request,
    ) -> Result<(), Error> {
        if self.access.is_none() {
            return Ok(());
        }
        let body = &request.body;
        self.decide(caller, word_of(body), |granted| {
            self.check(caller, granted, right_of(body), group)?;
            let user = |right, table, uid| self.check_user(caller, granted, right, (table, uid));
            match body {
                RequestBody::Transact { conditions, mutations, reads } => {
                    let read = conditions.iter().map(|condition| condition.address()).chain(reads);
                    for at in read {
                        user(Right::Read, at.table, at.uid)?;
                    }
                    for at in mutations.iter().map(Mutation::address) {
                        user(Right::Write, at.table, at.uid)?;
                    }
                    Ok(())
                }
                RequestBody::Transfers(batch) => {
                    if granted.allows_everywhere(Right::Write) {
                        return Ok(()); // Thousands of transfers need not be looked at.
                    }
                    for transfer in batch.iter() {
                        user(Right::Write, TableId::ACCOUNTS, transfer.debit.uid)?;
                        user(Right::Write, TableId::ACCOUNTS, transfer.credit.uid)?;
                    }
                    Ok(())
                }
                // A backup holds a view for hours and copies whole units: reading alone is not enough.
                RequestBody::ReadCut(_, CutRange::Records { .. }) => {
                    self.check(caller, granted, Right::Admin, group)
                }
                // All of it is in the group: what reads and is in several was refused before.
                RequestBody::OpenSession
                | RequestBody::CloseSession(_)
                | RequestBody::Get(_)
                | RequestBody::Scan(_)
                | RequestBody::CreateAccount(..)
                | RequestBody::SetAccount(..)
                | RequestBody::GetAccount(_)
                | RequestBody::GetTransfer(..)
                | RequestBody::History { .. }
                | RequestBody::NewCut
                | RequestBody::PinCut(_)
                | RequestBody::ReadCut(..)
                | RequestBody::UnpinCut(_)
                | RequestBody::GetMany { .. } => Ok(()),
            }
        })
    }

    /// Tells of a backup, once it is known to be allowed.
    pub(crate) fn note_backup(&self, caller: &Caller, group: GroupId, body: &RequestBody) {
        if let RequestBody::ReadCut(cut, CutRange::Records { .. }) = body
            && let Some(access) = &self.access
        {
            access.audit.backs_up(caller, group, *cut);
        }
    }

    /// Decides, counts and tells.
    fn decide(
        &self,
        caller: &Caller,
        what: &str,
        check: impl FnOnce(&Granted) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(access) = &self.access else { return Ok(()) };
        let decided = access.granted(caller).and_then(|granted| check(&granted));
        if let Err(error) = &decided {
            access.refused.fetch_add(1, Ordering::Relaxed);
            access.audit.refused(self.clock.now(), caller, what, error);
        }
        decided
    }

    fn check(
        &self,
        caller: &Caller,
        granted: &Granted,
        right: Right,
        group: GroupId,
    ) -> Result<(), Error> {
        if granted.allows_everywhere(right) {
            return Ok(());
        }
        let unit = self.topology.group(group).map_or("of no group", |group| group.unit.as_str());
        if granted.allows(right, unit) { Ok(()) } else { Err(lacks(caller, right, unit)) }
    }

    /// As `check`, for the group of a user's rows, or of its accounts.
    fn check_user(
        &self,
        caller: &Caller,
        granted: &Granted,
        right: Right,
        (table, uid): (TableId, Uid),
    ) -> Result<(), Error> {
        if granted.allows_everywhere(right) {
            return Ok(());
        }
        let group = if table == TableId::ACCOUNTS {
            self.topology.group_of_accounts(uid).map_err(Error::from)?.id
        } else {
            self.topology.route(table, uid).map_err(Error::from)?.group.id
        };
        self.check(caller, granted, right, group)
    }
}

/// What a request needs in the group it goes to. A session is needed to read rows of several groups too.
fn right_of(body: &RequestBody) -> Right {
    match body {
        RequestBody::CreateAccount(..)
        | RequestBody::SetAccount(..)
        | RequestBody::Transfers(_) => Right::Write,
        RequestBody::Transact { mutations, .. } if mutations.is_empty() => Right::Read,
        RequestBody::Transact { .. }
        | RequestBody::OpenSession
        | RequestBody::CloseSession(_)
        | RequestBody::Get(_)
        | RequestBody::Scan(_)
        | RequestBody::GetAccount(_)
        | RequestBody::GetTransfer(..)
        | RequestBody::History { .. }
        | RequestBody::NewCut
        | RequestBody::PinCut(_)
        | RequestBody::ReadCut(..)
        | RequestBody::UnpinCut(_)
        | RequestBody::GetMany { .. } => Right::Read,
    }
}

/// What a request does, for the audit.
fn word_of(body: &RequestBody) -> &'static str {
    match body {
        RequestBody::OpenSession => "open session",
        RequestBody::CloseSession(_) => "close session",
        RequestBody::Get(_) => "get",
        RequestBody::Scan(_) => "scan",
        RequestBody::Transact { .. } => "transaction",
        RequestBody::CreateAccount(..) => "create account",
        RequestBody::SetAccount(..) => "set account",
        RequestBody::GetAccount(_) => "get account",
        RequestBody::Transfers(_) => "transfers",
        RequestBody::GetTransfer(..) => "get transfer",
        RequestBody::History { .. } => "account history",
        RequestBody::NewCut => "new cut",
        RequestBody::PinCut(_) => "pin cut",
        RequestBody::ReadCut(_, CutRange::Records { .. }) => "back up",
        RequestBody::ReadCut(..) => "read cut",
        RequestBody::UnpinCut(_) => "unpin cut",
        RequestBody::GetMany { .. } => "get many",
    }
}
