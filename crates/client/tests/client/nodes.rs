//! Three nodes that follow a script: a real gRPC server each, one shared table of rows and sessions
//! behind them, and faults that a test orders for the next requests.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use quorate_client::{Client, Topology};
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::status::TopologyText;
use quorate_proto::convert::{Answer, Item, LeaderHint};
use quorate_proto::status::NodeStatus;
use quorate_proto::v1;
use quorate_proto::v1::admin_server::{Admin, AdminServer};
use quorate_proto::v1::kv_server::{Kv, KvServer};
use quorate_proto::v1::topology_server::{Topology as TopologyService, TopologyServer};
use quorate_topology::presets;
use quorate_types::{
    Ballot, ClusterId, Code, Condition, CutRange, EntryId, Error, GroupId, Incarnation, Mutation,
    NodeId, ReplicaId, Reply, ReplyBody, RequestBody, RequestId, RowAddress, ScanPage, ScanRange,
    ScannedRow, SessionId, Slot, Value,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::bank::Bank;
use super::cuts::{Cuts, look};
use super::many::Versions;
use super::members::Circle;

/// What happens to the next row request that reaches a node.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is refused with this error.
    Refuse(Error),
    /// The stream breaks before the request is looked at.
    BreakBefore,
    /// The request takes effect, then the stream breaks.
    BreakAfter,
    /// The request is never looked at and never answered.
    Swallow,
    /// The request takes effect and is never answered.
    Mute,
}

/// A row request that reached a node.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) node: u32,
    pub(crate) id: Option<RequestId>,
    pub(crate) time_left: Duration,
}

/// What the nodes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) topology: Topology,
    /// The node that leads every group.
    pub(crate) leader: u32,
    pub(crate) faults: BTreeMap<u32, VecDeque<Fault>>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) sessions: BTreeMap<SessionId, BTreeMap<u64, ReplyBody>>,
    pub(crate) rows: BTreeMap<RowAddress, Value>,
    /// How many transactions took effect.
    pub(crate) effects: u64,
    pub(crate) frames: u64,
    pub(crate) bank: Bank,
    pub(crate) cuts: Cuts,
    pub(crate) versions: Versions,
    pub(crate) circle: Circle,
    /// What the metadata of each stream said of a trace.
    pub(crate) traceparents: Vec<Option<String>>,
    slot: u64,
}

impl World {
    fn next_entry(&mut self) -> EntryId {
        self.slot += 1;
        let ballot = Ballot { round: 1, replica: ReplicaId(self.leader.into()) };
        EntryId { ballot, slot: Slot(self.slot) }
    }

    fn hint(&self) -> LeaderHint {
        let node = NodeId(self.leader);
        let address = self.topology.node(node).expect("it is in the file").client.clone();
        LeaderHint { node, address }
    }

    /// The answer to a request, as the leader would give it, or who keeps the view that it is about.
    fn answer(&mut self, node: u32, item: &Item) -> Result<Reply, Error> {
        let at = self.next_entry();
        if let Some(told) = self.bank.answer(&item.request.body, at) {
            return told;
        }
        let World { bank, cuts, topology, .. } = self;
        let look = |group, range: &CutRange| {
            let of_group = |uid| topology.group_of_accounts(uid).expect("sharded").id == group;
            look(bank, range, of_group)
        };
        if let Some(told) = cuts.answer((node, item.group), &item.request.body, at, &look) {
            return told;
        }
        let plain = |body| Ok(Reply { at, replayed: false, body });
        match &item.request.body {
            RequestBody::OpenSession => {
                let session = SessionId { group: item.group, slot: at.slot };
                self.sessions.insert(session, BTreeMap::new());
                plain(ReplyBody::Session(session))
            }
            RequestBody::CloseSession(session) => {
                self.sessions.remove(session);
                plain(ReplyBody::SessionClosed)
            }
            RequestBody::Get(row) => plain(ReplyBody::Row(self.rows.get(row).cloned())),
            RequestBody::GetMany { .. } if self.versions.away.contains(&item.group) => {
                Err(Error::new(Code::NoQuorum, "away"))
            }
            RequestBody::GetMany { rows, cut } => {
                plain(self.versions.answer((item.group, at.slot), rows, *cut, &mut self.rows))
            }
            RequestBody::Scan(range) | RequestBody::ReadCut(_, CutRange::Rows(range)) => {
                plain(ReplyBody::Page(self.page(range)))
            }
            RequestBody::Transact { conditions, mutations, reads } => {
                let id = item.request.id.expect("every write of the client has an id");
                let replay = self.replay(id)?;
                if let Some(body) = replay {
                    return Ok(Reply { at, replayed: true, body });
                }
                let body = self.transact(conditions, mutations, reads)?;
                self.effects += 1;
                let results = self.sessions.get_mut(&id.session).expect("looked up above");
                results.insert(id.sequence, body.clone());
                plain(body)
            }
            other => panic!("the bank answers {other:?}"),
        }
    }

    fn replay(&mut self, id: RequestId) -> Result<Option<ReplyBody>, Error> {
        let Some(results) = self.sessions.get_mut(&id.session) else {
            return Err(Error::new(Code::SessionExpired, "no such session"));
        };
        *results = results.split_off(&id.lowest_unanswered);
        Ok(results.get(&id.sequence).cloned())
    }

    fn transact(
        &mut self,
        conditions: &[Condition],
        mutations: &[Mutation],
        reads: &[RowAddress],
    ) -> Result<ReplyBody, Error> {
        for condition in conditions {
            let found = self.rows.get(condition.address());
            let holds = match condition {
                Condition::Exists(_) => found.is_some(),
                Condition::Absent(_) => found.is_none(),
                Condition::Equals(_, value) => found == Some(value),
            };
            if !holds {
                return Err(Error::new(Code::ConditionFailed, "it does not hold"));
            }
        }
        let reads = reads.iter().map(|at| self.rows.get(at).cloned()).collect();
        let mut sums = Vec::new();
        for mutation in mutations {
            match mutation {
                Mutation::Put(at, value) => {
                    self.rows.insert(at.clone(), value.clone());
                }
                Mutation::Delete(at) => {
                    self.rows.remove(at);
                }
                Mutation::Add { at, delta, floor, .. } => {
                    let sum = match self.rows.get(at) {
                        Some(Value::Integer(before)) => before + delta,
                        Some(Value::Bytes(_)) | None => *delta,
                    };
                    if floor.is_some_and(|floor| sum < floor) {
                        return Err(Error::new(Code::GuardFailed, "below the floor"));
                    }
                    self.rows.insert(at.clone(), Value::Integer(sum));
                    sums.push(sum);
                }
            }
        }
        Ok(ReplyBody::Committed { reads, sums })
    }

    fn page(&self, range: &ScanRange) -> ScanPage {
        let slice_of = |at: &RowAddress| {
            self.topology.route(at.table, at.uid).expect("the table exists").slice.0
        };
        let wanted = |at: &RowAddress| match range.uid {
            Some(uid) => at.uid == uid,
            None => slice_of(at) == range.slice,
        };
        let is_after = |at: &RowAddress| {
            range.after.as_ref().is_none_or(|(uid, key)| (*uid, key) < (at.uid, &at.key))
        };
        let mut rows: Vec<ScannedRow> = self
            .rows
            .iter()
            .filter(|(at, _)| at.table == range.table && wanted(at) && is_after(at))
            .filter(|(at, _)| at.key.starts_with(&range.prefix))
            .map(|(at, value)| ScannedRow {
                uid: at.uid,
                key: at.key.clone(),
                value: value.clone(),
            })
            .collect();
        let limit = if range.limit == 0 { 1000 } else { range.limit as usize };
        let next = (limit < rows.len()).then(|| {
            let last = &rows[limit - 1];
            (last.uid, last.key.clone())
        });
        rows.truncate(limit);
        ScanPage { rows, next }
    }
}

/// The three nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    world: Arc<Mutex<World>>,
    addresses: Vec<String>,
}

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc0ffee);

impl Nodes {
    /// Starts `running` of the three nodes; node 1 leads.
    pub(crate) fn start(running: &[u32]) -> Nodes {
        let addresses = free_addresses(3);
        let mut text = presets::one_city_three_idcs(&presets::Options::demo(CLUSTER));
        for (index, address) in addresses.iter().enumerate() {
            let preset = format!("client = \"127.0.0.1:{}\"", 6440 + 10 * index);
            assert!(text.contains(&preset), "{text}");
            text = text.replace(&preset, &format!("client = \"{address}\""));
        }
        let world = World {
            topology: Topology::parse(&text).expect("presets are valid"),
            leader: 1,
            faults: BTreeMap::new(),
            seen: Vec::new(),
            sessions: BTreeMap::new(),
            rows: BTreeMap::new(),
            effects: 0,
            frames: 0,
            bank: Bank::default(),
            cuts: Cuts::default(),
            versions: Versions::default(),
            circle: Circle::default(),
            traceparents: Vec::new(),
            slot: 0,
        };
        let nodes = Nodes { world: Arc::new(Mutex::new(world)), addresses };
        for id in running {
            let node = Node { id: *id, world: Arc::clone(&nodes.world) };
            let address: SocketAddr = nodes.address(*id).parse().expect("it is one");
            let serving = tonic::transport::Server::builder()
                .add_service(KvServer::new(node.clone()))
                .add_service(AdminServer::new(node.clone()))
                .add_service(TopologyServer::new(node))
                .serve(address);
            tokio::spawn(async move { serving.await.expect("the port is free") });
        }
        nodes
    }

    /// The three nodes and a client of them.
    pub(crate) async fn with_client() -> (Nodes, Client) {
        let nodes = Nodes::start(&[1, 2, 3]);
        let client = nodes.client().await;
        (nodes, client)
    }

    /// A client with short times.
    pub(crate) async fn client(&self) -> Client {
        loop {
            let builder = Client::builder(self.addresses.join(","))
                .attempt_timeout(Duration::from_millis(300))
                .request_timeout(Duration::from_secs(3));
            match builder.build().await {
                Ok(client) => return client,
                Err(error) => assert_eq!(error.code(), Code::Unreachable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // The servers are starting.
        }
    }

    pub(crate) fn address(&self, node: u32) -> &str {
        &self.addresses[node as usize - 1]
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds this")
    }

    /// Orders faults for the next row requests at a node.
    pub(crate) fn order(&self, node: u32, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.entry(node).or_default().extend(faults);
    }

    /// The nodes that row requests reached, in order.
    pub(crate) fn nodes_asked(&self) -> Vec<u32> {
        self.world().seen.iter().map(|seen| seen.node).collect()
    }
}

#[cfg(not(madsim))]
fn free_addresses(count: usize) -> Vec<String> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let listeners: Vec<_> = (0..count).map(bind).collect();
    let address = |listener: &std::net::TcpListener| listener.local_addr().expect("it is bound");
    listeners.iter().map(|listener| address(listener).to_string()).collect()
}

#[cfg(madsim)]
fn free_addresses(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("127.0.0.1:{}", 7000 + index)).collect()
}

#[derive(Clone, Debug)]
struct Node {
    id: u32,
    world: Arc<Mutex<World>>,
}

impl Node {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds this")
    }

    /// Refuses unary calls that the leader must answer, or as ordered for it.
    fn must_lead(&self, world: &mut World) -> Result<(), Status> {
        let is_absent = world.circle.absent.contains(&self.id);
        let refusal = if self.id == world.leader {
            match world.circle.refusals.pop_front() {
                Some(ordered) => ordered,
                None => return Ok(()),
            }
        } else if is_absent {
            Error::new(Code::WrongNode, "no replica here")
        } else {
            world.hint().add_to(Error::new(Code::NotLeader, "another one leads"))
        };
        Err(status_from_error(&refusal))
    }

    /// What a frame is answered with; `None` breaks the stream.
    fn on_frame(&self, frame: v1::PipelineRequest) -> Option<v1::PipelineResponse> {
        let mut world = self.world();
        world.frames += 1;
        let mut items = Vec::new();
        for item in frame.items {
            let item = Item::from_wire(item, &|_| None).expect("our client knows the format");
            let is_row_request = !matches!(
                item.request.body,
                RequestBody::OpenSession | RequestBody::CloseSession(_)
            );
            let mut fault = None;
            if is_row_request {
                let time_left = item.time_left.expect("our client always says");
                world.seen.push(Seen { node: self.id, id: item.request.id, time_left });
                fault = world.faults.get_mut(&self.id).and_then(VecDeque::pop_front);
            }
            let keeps = world.cuts.keeps(self.id, item.group, &item.request.body);
            let result = match fault {
                Some(Fault::BreakBefore) => return None,
                Some(Fault::Swallow) => continue,
                Some(Fault::Refuse(error)) => Err(error),
                Some(Fault::BreakAfter) => {
                    world.answer(self.id, &item).expect("it takes effect");
                    return None;
                }
                Some(Fault::Mute) => {
                    world.answer(self.id, &item).expect("it takes effect");
                    continue;
                }
                None if self.id != world.leader && !keeps => {
                    Err(world.hint().add_to(Error::new(Code::NotLeader, "another one leads")))
                }
                None => world.answer(self.id, &item).map(|reply| (item.group, reply)),
            };
            items.push(Answer { id: item.id, leader: None, result }.into_wire());
        }
        Some(v1::PipelineResponse { items })
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;

impl Node {
    fn run_pipeline(&self, mut frames: Streaming<v1::PipelineRequest>) -> Answers {
        let (answers, outgoing) = mpsc::channel(16);
        let node = self.clone();
        tokio::spawn(async move {
            let mut is_first = true;
            while let Some(Ok(frame)) = frames.next().await {
                if is_first {
                    assert_eq!(frame.cluster_id, CLUSTER.to_string());
                }
                is_first = false;
                let answer = node.on_frame(frame).ok_or_else(|| Status::unavailable("broken"));
                let is_over = answer.is_err();
                if answers.send(answer).await.is_err() || is_over {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(outgoing))
    }
}

/// The service with its stream; the unary calls are for other languages and not scripted.
macro_rules! kv_with_unary_calls {
    ($($name:ident: $request:ident, $response:ident;)*) => {
        #[tonic::async_trait]
        impl Kv for Node {
            type PipelineStream = Answers;

            async fn pipeline(
                &self,
                request: Request<Streaming<v1::PipelineRequest>>,
            ) -> Result<Response<Answers>, Status> {
                let said = request.metadata().get("traceparent");
                let said = said.map(|it| it.to_str().expect("it is text").to_owned());
                self.world().traceparents.push(said);
                Ok(Response::new(self.run_pipeline(request.into_inner())))
            }

            $(async fn $name(
                &self,
                _request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

kv_with_unary_calls! {
    get: GetRequest, GetResponse;
    put: PutRequest, PutResponse;
    delete: DeleteRequest, DeleteResponse;
    compare_and_set: CompareAndSetRequest, CompareAndSetResponse;
    scan: ScanRequest, ScanResponse;
    transact: TransactRequest, TransactResponse;
    get_many: GetManyRequest, GetManyResponse;
    open_session: OpenSessionRequest, OpenSessionResponse;
    close_session: CloseSessionRequest, CloseSessionResponse;
}

#[tonic::async_trait]
impl TopologyService for Node {
    async fn get_topology(
        &self,
        request: Request<v1::GetTopologyRequest>,
    ) -> Result<Response<v1::GetTopologyResponse>, Status> {
        let world = self.world();
        let version = world.topology.version();
        let is_known = version == request.into_inner().known_version;
        let toml = (!is_known).then(|| world.topology.text().to_owned());
        Ok(Response::new(TopologyText { cluster: CLUSTER, version, toml }.into_wire()))
    }
}

#[tonic::async_trait]
impl Admin for Node {
    async fn get_node_status(
        &self,
        _request: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        let status = NodeStatus {
            cluster: CLUSTER,
            node: NodeId(self.id),
            name: format!("n{}", self.id),
            incarnation: Incarnation(1),
            version: "0.1.0".to_owned(),
            topology_version: 1,
            uptime: Duration::from_secs(1),
            draining: false,
            ready: true,
            disk_free_bytes: 1,
            disk_total_bytes: 2,
            log_bytes: 3,
            groups: Vec::new(),
            notices: Vec::new(),
        };
        Ok(Response::new(status.into_wire()))
    }

    async fn list_attempts(
        &self,
        _request: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        Ok(Response::new(v1::ListAttemptsResponse::default()))
    }

    async fn resolve_attempt(
        &self,
        _request: Request<v1::ResolveAttemptRequest>,
    ) -> Result<Response<v1::ResolveAttemptResponse>, Status> {
        Ok(Response::new(v1::ResolveAttemptResponse::default()))
    }

    async fn check_group(
        &self,
        _request: Request<v1::CheckGroupRequest>,
    ) -> Result<Response<v1::CheckGroupResponse>, Status> {
        Ok(Response::new(v1::CheckGroupResponse::default()))
    }

    async fn get_links(
        &self,
        _request: Request<v1::GetLinksRequest>,
    ) -> Result<Response<v1::GetLinksResponse>, Status> {
        Ok(Response::new(v1::GetLinksResponse::default()))
    }

    async fn set_links(
        &self,
        _request: Request<v1::SetLinksRequest>,
    ) -> Result<Response<v1::SetLinksResponse>, Status> {
        Ok(Response::new(v1::SetLinksResponse::default()))
    }

    async fn get_members(
        &self,
        request: Request<v1::GetMembersRequest>,
    ) -> Result<Response<v1::GetMembersResponse>, Status> {
        let mut world = self.world();
        self.must_lead(&mut world)?;
        assert_eq!(request.into_inner().group, ANY_GROUP.0);
        Ok(Response::new(world.circle.members.clone().into_wire()))
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let mut world = self.world();
        self.must_lead(&mut world)?;
        let (ballot, at) = (Some(v1::Ballot { round: 1, replica: 1 }), world.next_entry().slot.0);
        let changed = world.circle.change(request.into_inner(), at);
        changed.map_err(|error| status_from_error(&error))?;
        let since = Some(v1::EntryId { ballot, slot: at });
        Ok(Response::new(v1::ChangeMembersResponse { since }))
    }

    async fn create_replica(
        &self,
        _request: Request<v1::CreateReplicaRequest>,
    ) -> Result<Response<v1::CreateReplicaResponse>, Status> {
        let created = self.world().circle.create(NodeId(self.id));
        let replica = created.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::CreateReplicaResponse { replica }))
    }

    async fn pin_leader(
        &self,
        request: Request<v1::PinLeaderRequest>,
    ) -> Result<Response<v1::PinLeaderResponse>, Status> {
        let pinned = request.into_inner().pinned;
        self.world().circle.pinned = pinned.then_some(NodeId(self.id));
        Ok(Response::new(v1::PinLeaderResponse {}))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let mut world = self.world();
        let (drained, groups_led) = (request.into_inner().drained, self.id == world.leader);
        world.circle.drained = drained.then_some(NodeId(self.id));
        Ok(Response::new(v1::DrainNodeResponse { groups_led: groups_led.into() }))
    }

    async fn get_standing(
        &self,
        _request: Request<v1::GetStandingRequest>,
    ) -> Result<Response<v1::GetStandingResponse>, Status> {
        Err(status_from_error(&Error::new(Code::WrongNode, "this node holds none")))
    }

    async fn force_recovery(
        &self,
        _request: Request<v1::ForceRecoveryRequest>,
    ) -> Result<Response<v1::ForceRecoveryResponse>, Status> {
        Err(status_from_error(&Error::new(Code::GroupNotLost, "somebody leads")))
    }

    async fn list_losses(
        &self,
        request: Request<v1::ListLossesRequest>,
    ) -> Result<Response<v1::ListLossesResponse>, Status> {
        let mut world = self.world();
        self.must_lead(&mut world)?;
        assert_eq!(request.into_inner().group, ANY_GROUP.0);
        Ok(Response::new(v1::ListLossesResponse::default()))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let mut world = self.world();
        self.must_lead(&mut world)?;
        let to_node = request.into_inner().to_node.unwrap_or(3);
        world.leader = to_node;
        Ok(Response::new(v1::TransferLeaderResponse { to_node }))
    }
}

/// A row of the table `load`, which is number 2 in presets.
pub(crate) fn load_row(uid: u64, key: &'static str) -> RowAddress {
    let table = quorate_types::TableId(2);
    RowAddress { table, uid: quorate_types::Uid(uid), key: Bytes::from_static(key.as_bytes()) }
}

/// A group that no test relies on beyond its number.
pub(crate) const ANY_GROUP: GroupId = GroupId(1);
