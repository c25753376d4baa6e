//! The edge: a request is checked here, before it costs anything. The room before is `kv_service.rs` or
//! `pipeline.rs`, the room after is `replica::ShardHandle::request`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::convert::money::account_users;
use quorate_proto::convert::request::addresses;
use quorate_proto::convert::{Call, FACT_TOPOLOGY_VERSION, Place};
use quorate_replica::Answer;
use quorate_types::limits::TXN_GROUPS_MAX;
use quorate_types::{
    Code, CutRange, Elsewhere, Error, GroupId, Reply, ReplyBody, Request, RequestBody, TableId,
    cut_group,
};

use crate::access::Caller;
use crate::context::NodeContext;
use crate::requests::Kind;
use crate::snapshots::Snapshots;

/// Answers with records wait this long for their turn at most: each is kept in memory meanwhile.
const PACED_MAX: Duration = Duration::from_secs(2);

impl NodeContext {
    /// Checks a request against limits, routes and the rights of its caller and puts it into its group.
    /// `answer` is called once, unless an error is returned.
    pub(crate) fn submit(
        &self,
        caller: &Caller,
        group: GroupId,
        request: Request,
        elsewhere: Option<Elsewhere>,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Error> {
        let requests = Arc::clone(&self.requests);
        let kind = if request.body.is_read() { Kind::Read } else { Kind::Write };
        let arrived_at = requests.arrives();
        let snapshots = Arc::clone(&self.snapshots);
        let trace = caller.trace;
        let counted = move |given: Answer| {
            let took = requests.answered(kind, arrived_at, &given);
            if let Some(trace) = trace {
                trace.ended(group, kind, took, &given);
            }
            paced(&snapshots, given, answer);
        };
        let submitted = self.submit_checked(caller, group, request, elsewhere, counted);
        submitted.inspect_err(|error| {
            self.requests.refused(error.code);
            if let Some(trace) = trace {
                trace.refused(group, kind, error.code);
            }
        })
    }

    fn submit_checked(
        &self,
        caller: &Caller,
        group: GroupId,
        request: Request,
        elsewhere: Option<Elsewhere>,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Error> {
        quorate_txn::check_limits(&request)?;
        self.check_route(group, &request)?;
        self.authorize(caller, group, &request)?;
        self.note_backup(caller, group, &request.body);
        let bytes = request_bytes(&request);
        let Some(elsewhere) = elsewhere else {
            return self.shard.request(group, request, bytes, answer);
        };
        if !request.body.is_readable_elsewhere() {
            let message = "only reads of rows, accounts and transfers may be answered elsewhere";
            return Err(Error::new(Code::InvalidRequest, message).with("field", "elsewhere"));
        }
        self.shard.read_elsewhere(group, request, elsewhere, bytes, answer)
    }

    /// Refuses a request whose rows do not belong to `group`.
    fn check_route(&self, group: GroupId, request: &Request) -> Result<(), Error> {
        let body = &request.body;
        if self.topology.group(group).is_none() {
            return Err(self.routed(Error::new(
                Code::UnknownGroup,
                format!("no group has the number {}", group.0),
            )));
        }
        let nodes = self.directory.nodes(group);
        if !nodes.contains(&self.node) {
            let message = format!("this node holds no replica of {group}");
            let error = Error::new(Code::WrongNode, message);
            return Err(self.routed(self.with_member_address(group, error)));
        }
        let mut others = BTreeSet::new();
        let mut is_ours = false;
        for at in addresses(body) {
            let owner = self.topology.route(at.table, at.uid).map_err(Error::from)?.group.id;
            if owner == group {
                is_ours = true;
            } else {
                others.insert(owner);
            }
        }
        if !others.is_empty() {
            self.check_groups(group, is_ours, &others, request)?;
        }
        for uid in account_users(body) {
            let owner = self.topology.group_of_accounts(uid).map_err(Error::from)?.id;
            if owner != group {
                return Err(self.misrouted_money(group, owner, body));
            }
        }
        if let RequestBody::Scan(range) | RequestBody::ReadCut(_, CutRange::Rows(range)) = body {
            let route = match range.uid {
                Some(uid) => self.topology.route(range.table, uid),
                None => self.topology.route_slice(range.table, quorate_types::SliceId(range.slice)),
            };
            let owner = route.map_err(Error::from)?.group.id;
            if owner != group {
                return Err(self.misrouted(group, owner));
            }
        }
        Ok(())
    }

    /// Refuses rows of other groups, unless they are part of a transaction that this group may
    /// coordinate: it must have a part in it, and an id to be asked for again under.
    fn check_groups(
        &self,
        group: GroupId,
        is_ours: bool,
        others: &BTreeSet<GroupId>,
        request: &Request,
    ) -> Result<(), Error> {
        let Some(first) = others.first() else { return Ok(()) };
        if !is_ours || request.body.is_read() {
            return Err(self.misrouted(group, *first));
        }
        let message = if TXN_GROUPS_MAX <= others.len() {
            format!("the transaction names rows of {} groups", others.len() + 1)
        } else if request.id.is_none() {
            "a transaction over several groups needs the id of a session".to_owned()
        } else {
            return Ok(());
        };
        Err(self.routed(Error::new(Code::SeveralGroups, message)))
    }

    /// Refuses accounts of another group, or of several.
    fn misrouted_money(&self, asked: GroupId, owner: GroupId, body: &RequestBody) -> Error {
        let owner_of = |uid| self.topology.group_of_accounts(uid).ok().map(|group| group.id);
        let owners: BTreeSet<GroupId> = account_users(body).filter_map(owner_of).collect();
        if 1 < owners.len() {
            let message = "the accounts belong to several groups";
            return self.routed(Error::new(Code::SeveralGroups, message));
        }
        self.misrouted(asked, owner)
    }

    fn misrouted(&self, asked: GroupId, owner: GroupId) -> Error {
        let message = format!("the rows belong to {owner}, the request was sent to {asked}");
        self.routed(Error::new(Code::WrongUnit, message).with("group", owner.0))
    }

    fn routed(&self, error: Error) -> Error {
        error.with(FACT_TOPOLOGY_VERSION, self.topology.version())
    }

    /// The group a unary call belongs to.
    pub(crate) fn place(&self, call: &Call) -> Result<GroupId, Error> {
        if let Some(cluster) = call.cluster
            && cluster != self.topology.cluster_id()
        {
            return Err(self.wrong_cluster(&cluster.to_string()));
        }
        let owner = match call.place {
            Place::Group(group) => group,
            Place::Row(table, uid) => {
                self.topology.route(table, uid).map_err(Error::from)?.group.id
            }
            Place::Slice(table, slice) => {
                self.topology.route_slice(table, slice).map_err(Error::from)?.group.id
            }
            Place::Accounts(uid) => self.topology.group_of_accounts(uid).map_err(Error::from)?.id,
            Place::Cuts => {
                let groups = self.topology.groups().map(|group| group.id);
                cut_group(groups).expect("a topology has groups")
            }
        };
        match call.group {
            Some(asked) if asked != owner => Err(self.misrouted(asked, owner)),
            Some(_) | None => Ok(owner),
        }
    }

    pub(crate) fn wrong_cluster(&self, theirs: &str) -> Error {
        let ours = self.topology.cluster_id();
        Error::new(
            Code::ClusterMismatch,
            format!("the caller means cluster {theirs}, this node belongs to {ours}"),
        )
        .with("cluster_id", ours)
    }
}

/// Lets an answer out. One with records for a backup goes out no faster than the rows that other nodes are
/// sent: both are read in bulk from the disk that serves everybody.
fn paced(snapshots: &Snapshots, given: Answer, answer: impl FnOnce(Answer) + Send + 'static) {
    let bytes = match &given {
        Ok(Reply { body: ReplyBody::Records(page), .. }) => page.records.len(),
        Ok(_) | Err(_) => 0,
    };
    match tokio::runtime::Handle::try_current() {
        Ok(_) if 0 < bytes && PACED_MAX < snapshots.backlog() => {
            let error = Error::new(Code::Overloaded, "more is asked for than may be sent");
            answer(Err(error.after(snapshots.backlog())));
        }
        Ok(runtime) if 0 < bytes => {
            // At the full rate: a backup has only so much time, and its own operator.
            let at = snapshots.pace(bytes, u64::MAX);
            let _waits = runtime.spawn(async move {
                tokio::time::sleep_until(at).await;
                answer(given);
            });
        }
        Ok(_) | Err(_) => answer(given),
    }
}

/// Bytes a request keeps in memory.
fn request_bytes(request: &Request) -> usize {
    let values = match &request.body {
        RequestBody::Transact { conditions, mutations, .. } => {
            let compared = conditions.iter().map(|condition| match condition {
                quorate_types::Condition::Equals(_, value) => value.size(),
                quorate_types::Condition::Exists(_) | quorate_types::Condition::Absent(_) => 0,
            });
            let written = mutations.iter().map(|mutation| match mutation {
                quorate_types::Mutation::Put(_, value) => value.size(),
                quorate_types::Mutation::Delete(_) | quorate_types::Mutation::Add { .. } => 0,
            });
            compared.chain(written).sum()
        }
        RequestBody::Transfers(batch) => batch.bytes().len(),
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
        | RequestBody::GetMany { .. } => 0,
    };
    let keys: usize = addresses(&request.body).map(|at| at.key.len() + 32).sum();
    keys + values
}

/// Finds a table of the cluster file by its name.
pub(crate) fn table_finder(context: &NodeContext) -> impl Fn(&str) -> Option<TableId> + '_ {
    |name| context.topology.table_by_name(name).map(|table| table.id)
}
