//! One node: opens its promises, log and rows, wires its groups, serves.
//!
//! Disk, engine and clock are handed in, so that the same code runs in a process and in a simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_log::{
    Disk, GroupRecord, LogError, LogMark, LogReader, LogTrust, MembershipRecord, NodeRecord,
    Opened, PromiseFile, Recovered,
};
use quorate_paxos::{MembershipAt, Options};
use quorate_proto::v1;
use quorate_replica::force::{Fate, membership_of, record_of};
use quorate_replica::{
    Clock, Departed, GroupOptions, LogThread, Restore, Shard, ShardOptions, Stop, restore,
};
use quorate_store::{Engine, Store};
use quorate_topology::{Group, Topology};
use quorate_types::{
    Ballot, Code, EntryId, Error, GroupId, Incarnation, NodeId, ReplicaId, ReplicaKind, SliceId,
    TableId, cut_group, limits,
};
use tonic::transport::Server;
use tracing::{info, warn};

#[cfg(not(madsim))]
use crate::access::Access;
use crate::admin_service::AdminService;
use crate::bank_service::BankService;
use crate::context::{Given, MakeOptions, NodeContext};
use crate::cut_service::CutService;
use crate::damaged_log::Judge;
use crate::directory::{Directory, genesis, kind_on};
use crate::far_links::FarLinks;
use crate::kv_service::KvService;
use crate::leave;
use crate::links::Links;
use crate::listen::{Listener, Port};
use crate::options::{Profile, Tuning, timing};
use crate::peer_network::PeerNetwork;
use crate::peer_service::PeerService;
use crate::repair::Repaired;
use crate::snapshots::SnapshotOptions;
use crate::topology_service::TopologyService;

/// What a node is made of.
pub struct NodeParts {
    /// The cluster file.
    pub topology: Arc<Topology>,
    /// Which node of it this is.
    pub node: NodeId,
    /// How much memory and disk it may use.
    pub profile: Profile,
    /// What is wanted otherwise than the profile has it.
    pub tuning: Tuning,
    /// The disk of its log and its promises.
    pub disk: Arc<dyn Disk>,
    /// The engine of its rows.
    pub engine: Arc<dyn Engine>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Random bits: the incarnation of a fresh data folder and the number of a fresh log.
    pub random: [u64; 2],
    /// What happens to messages on their way here; `None` in a process.
    pub links: Option<Arc<dyn Links>>,
    /// What is done to streams that reach it; `None` where nobody may ask for that.
    pub far_links: Option<Arc<FarLinks>>,
    /// What to do when the node cannot go on.
    pub stop: Stop,
    /// Damaged rows that this start has moved aside.
    pub repaired: Option<Repaired>,
    /// How it tells its callers apart; `None`: not at all.
    #[cfg(not(madsim))]
    pub security: Option<crate::security::NodeSecurity>,
}

/// A node that has recovered and is ready to run.
pub struct Node {
    context: Arc<NodeContext>,
    network: Arc<PeerNetwork>,
    shard: Shard,
    client_listener: Listener,
    peer_listener: Listener,
}

impl Node {
    /// Opens everything and starts the log loop through `spawn_log`.
    ///
    /// # Errors
    /// Coded, with what to do: a folder of another cluster or node, damage, ports in use.
    pub fn open(parts: NodeParts, spawn_log: impl FnOnce(LogLoop)) -> Result<Node, Error> {
        let tuning = parts.tuning;
        #[cfg(not(madsim))]
        let security = parts.security;
        let NodeParts { topology, node, profile, disk, engine, clock, random, .. } = parts;
        let NodeParts { links, far_links, stop, repaired, .. } = parts;
        let entry = topology.node(node).ok_or_else(|| {
            Error::new(Code::ConfigInvalid, format!("the cluster file has no node {node}"))
        })?;
        let lease_ns = lease_ns(&topology);
        let (mut promises, mut record, lease_ns_max) =
            open_record(&disk, &topology, node, lease_ns, random[0])?;
        let is_known = |group: &GroupId| topology.group(*group).is_some();
        let known = record.groups.keys().copied().filter(is_known);
        let store = Store::open(engine, known.collect::<Vec<_>>())
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        let store = Arc::new(store);
        let is_wanted = tuning.repair_log;
        let judge =
            Judge { record: &mut record, promises: &mut promises, store: &store, is_wanted };
        let (writer, reader, recovered) = judge.open_log(&disk, tuning.log(profile), random[1])?;
        let groups: BTreeMap<GroupId, GroupRecord> =
            record.groups.clone().into_iter().filter(|(group, _)| is_known(group)).collect();
        let reborn = record.reborn;

        let client_listener = Listener::bind(&entry.client)?;
        let peer_listener = Listener::bind(&entry.peer)?;
        // All of them: groups talk about cross-unit transactions, wherever they are.
        let others = topology.nodes().map(|other| other.id).filter(|other| *other != node);
        let directory = Arc::new(Directory::new(Arc::clone(&topology)));
        let network = Arc::new(PeerNetwork::new(Arc::clone(&directory), others));
        let incarnation = record.incarnation;
        let options = ShardOptions {
            node,
            members: topology.groups().map(|it| (it.id, directory.leaders(it.id))).collect(),
            clock: Arc::clone(&clock),
            network: network.clone(),
            store: Arc::clone(&store),
            reader: reader.clone(),
            checkpoints: tuning.checkpoints.unwrap_or_else(|| profile.checkpoints()),
            request_bytes_max: tuning.request_bytes_max(profile),
            peer_bytes_max: 4 * limits::PEER_QUEUE_BYTES_MAX,
            log_keep_max: tuning.log_keep_max(profile),
            stop: stop.clone(),
        };
        let log = LogThread { writer, promises, record, disk: Arc::clone(&disk), stop };
        let (mut shard, log_loop) = Shard::new(options, log);
        let log_budget = tuning.log_keep_max(profile) / groups.len().max(1) as u64;
        let make_options = options_maker(&topology, tuning, log_budget);
        let found = Found { groups, recovered: &recovered, lease_ns_max, reader, store };
        found.add_to(&mut shard, &make_options)?;
        spawn_log(Box::pin(log_loop));
        let log_bytes_cap = tuning.log(profile).bytes_cap;
        let snapshots = snapshot_options(tuning, random);
        #[cfg(madsim)]
        let access = None;
        #[cfg(not(madsim))]
        let (tls, access) = {
            let (tls, rights) = security.map(|it| (it.tls, it.rights)).unzip();
            (tls, rights.map(Access::new))
        };
        let given = Given {
            clock,
            disk,
            links,
            far_links,
            log_bytes_cap,
            access,
            snapshots,
            directory,
            make_options,
            reborn,
            repaired,
            #[cfg(not(madsim))]
            tls,
        };
        let context =
            Arc::new(NodeContext::new(topology, node, incarnation, shard.handle(), given));
        Ok(Node { context, network, shard, client_listener, peer_listener })
    }

    /// What the services share.
    #[must_use]
    pub fn context(&self) -> Arc<NodeContext> {
        Arc::clone(&self.context)
    }

    /// Messages dropped to each peer because its queue was full. Metrics exist in real processes only.
    #[cfg(not(madsim))]
    #[must_use]
    pub(crate) fn network(&self) -> Arc<PeerNetwork> {
        Arc::clone(&self.network)
    }

    /// Serves until `shutdown` resolves. To leave without failing a request, call
    /// `NodeContext::drain` before and wait until nothing is led any more.
    ///
    /// # Errors
    /// `INTERNAL` if a listener fails.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + Clone + 'static,
    ) -> Result<(), Error> {
        let Node { context, network, shard, client_listener, peer_listener } = self;
        let stopping = Arc::clone(&context);
        network.connect(&context);
        context.look_for_places();
        tokio::spawn(leave::keep_leaving(Arc::clone(&context)));
        let kv = v1::kv_server::KvServer::new(KvService::new(Arc::clone(&context)))
            .max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX)
            .max_encoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
        let bank = BankService::new(KvService::new(Arc::clone(&context)));
        let bank = v1::bank_server::BankServer::new(bank)
            .max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX)
            .max_encoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
        let cuts = v1::cuts_server::CutsServer::new(CutService::new(Arc::clone(&context)))
            .max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX)
            .max_encoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
        let peer = v1::peer_server::PeerServer::new(PeerService::new(Arc::clone(&context)))
            .max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX)
            .max_encoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
        #[cfg(not(madsim))]
        let health = crate::health::service(Arc::clone(&context));
        let clients = server()
            .add_service(kv)
            .add_service(bank)
            .add_service(cuts)
            .add_service(v1::topology_server::TopologyServer::new(TopologyService::new(
                Arc::clone(&context),
            )))
            .add_service(v1::admin_server::AdminServer::new(AdminService::new(context)));
        #[cfg(not(madsim))]
        let clients = clients.add_service(health).add_service(reflection()?);
        let peers = server().add_service(peer);
        let shard = tokio::spawn(shard.run(shutdown.clone()));
        let (members, nodes) = (Port::of_clients(&stopping), Port::of_peers(&stopping));
        let serving = futures::future::try_join(
            client_listener.serve(clients, members, shutdown.clone()),
            peer_listener.serve(peers, nodes, shutdown.clone()),
        );
        let ended = tokio::select! {
            biased;
            served = serving => served.map(|_both| ()),
            // Open streams of clients must not keep the process.
            () = shutdown => Ok(()),
            ended = shard => ended.map_err(|error| Error::new(Code::Internal, format!("the shard ended: {error}"))),
        };
        stopping.stop();
        ended
    }
}

/// The loop that writes the log; to be run where the disk may block.
pub type LogLoop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
}

/// gRPC reflection, so that generic tools can list and call the services.
#[cfg(not(madsim))]
fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
    Error,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::new(Code::Internal, format!("reflection: {error}")))
}

/// The lease this version grants, in nanoseconds; 0 without leases.
fn lease_ns(topology: &Topology) -> u64 {
    let length = topology.lease().length().unwrap_or_default();
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// The promises of the node, made if the folder is fresh, and the longest lease it ever granted.
fn open_record(
    disk: &Arc<dyn Disk>,
    topology: &Topology,
    node: NodeId,
    lease_ns: u64,
    random: u64,
) -> Result<(PromiseFile, NodeRecord, u64), Error> {
    let (mut promises, opened) =
        PromiseFile::open(Arc::clone(disk)).map_err(|error| log_error(&error))?;
    let (mut record, lease_ns_max, fresh) = match opened {
        Opened::Fresh => (fresh_record(topology, node, random), 0, true),
        Opened::Valid(record) => {
            let lease_ns_max = record.lease_ns_max;
            (record, lease_ns_max, false)
        }
        Opened::Unreadable { reason } => {
            return Err(Error::new(
                Code::PromisesUnreadable,
                format!("the promise file is unreadable: {reason}"),
            ));
        }
    };
    check_owner(&record, topology, node)?;
    let mut changed = fresh || record.lease_ns_max < lease_ns;
    record.lease_ns_max = record.lease_ns_max.max(lease_ns);
    for group in topology.groups_of_node(node) {
        changed |= !record.groups.contains_key(&group.id);
        record.groups.entry(group.id).or_insert_with(|| GroupRecord {
            replica: ReplicaId::first_on(node),
            kind: kind_on(group, node),
            promised: Ballot::ZERO,
            pinned: false,
            log: LogTrust::default(),
            membership: born_with(group),
        });
    }
    if changed {
        // Before anything is granted under the new lease, and before a log exists beside no promises.
        promises.store(&record).map_err(|error| log_error(&error))?;
    }
    Ok((promises, record, lease_ns_max))
}

/// What the disk has of the groups of a node.
struct Found<'a> {
    groups: BTreeMap<GroupId, GroupRecord>,
    recovered: &'a Recovered,
    lease_ns_max: u64,
    reader: LogReader,
    store: Arc<Store>,
}

impl Found<'_> {
    /// Restores every group and hands it to the shard.
    fn add_to(self, shard: &mut Shard, make_options: &MakeOptions) -> Result<(), Error> {
        let Found { groups, recovered, lease_ns_max, reader, store } = self;
        for (group, GroupRecord { replica, kind, promised, pinned, log, membership }) in groups {
            let found = recovered.groups.get(&group);
            let (membership, fate) = membership_of(&membership)?;
            if fate == Fate::Gone {
                forget(&store, group)?;
                info!(%group, %replica, %kind, since = %membership.id, "a replica of this node has left for good");
                let departed = Departed { group, replica, since: membership };
                shard.add_gone(departed, kind, promised);
                continue;
            }
            let is_outlived = fate == Fate::Outlived;
            let log_suspect = log.suspect;
            let from = Restore {
                group,
                promised,
                membership,
                is_outlived,
                lease_ns_max,
                kind,
                log_suspect,
                found,
            };
            let restored =
                restore(from, &reader, &store).map_err(|e| Error::new(e.code(), e.to_string()))?;
            if restored.log_suspect {
                warn!(%group, last = %restored.tail.id, code = Code::LogDamaged.name(),
                    "the log may lack what was acknowledged: this replica does not vote before it has it from its leader");
            }
            if restored.rows_missing {
                let (rows, log) = (restored.slot_applied, restored.trimmed.slot);
                warn!(%group, %rows, %log, "rows are missing below the log: they must come from another node");
            }
            info!(
                %group, %replica, %kind, promised = %restored.promised,
                last = %restored.tail.id, applied = %restored.slot_applied, "group restored"
            );
            let options = make_options(group, replica, kind);
            let mut options = options.expect("a group of the cluster file");
            options.paxos.pinned = pinned;
            shard
                .add(options, restored)
                .map_err(|error| Error::new(error.code(), error.to_string()))?;
            if fate == Fate::Awaited {
                shard.note_awaited(group);
            }
        }
        Ok(())
    }
}

/// Goes on with giving up the rows of a replica that has left.
fn forget(store: &Store, group: GroupId) -> Result<(), Error> {
    store
        .give_up(group)
        .and_then(|()| store.purge())
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    Ok(())
}

/// Who takes part in a group at first, for the promise file.
pub(crate) fn born_with(group: &Group) -> MembershipRecord {
    record_of(&MembershipAt { id: EntryId::ZERO, membership: genesis(group) }, Fate::Present)
}

/// Refuses the data folder of another cluster or node.
pub(crate) fn check_owner(
    record: &NodeRecord,
    topology: &Topology,
    node: NodeId,
) -> Result<(), Error> {
    if record.cluster != topology.cluster_id() {
        let (theirs, ours) = (record.cluster, topology.cluster_id());
        let message =
            format!("the data folder belongs to cluster {theirs}, the cluster file is of {ours}");
        return Err(Error::new(Code::ClusterMismatch, message));
    }
    if record.node != node {
        let message = format!("the data folder belongs to {}, this node is {node}", record.node);
        return Err(Error::new(Code::NodeMismatch, message));
    }
    Ok(())
}

pub(crate) fn fresh_record(topology: &Topology, node: NodeId, random: u64) -> NodeRecord {
    NodeRecord {
        version: 0,
        cluster: topology.cluster_id(),
        node,
        incarnation: Incarnation(random),
        lease_ns_max: 0,
        log: LogMark::default(),
        reborn: false,
        peers: BTreeMap::new(),
        groups: BTreeMap::new(),
    }
}

fn snapshot_options(tuning: Tuning, random: [u64; 2]) -> SnapshotOptions {
    SnapshotOptions {
        bytes_per_second: tuning.snapshot_bytes_per_second,
        served_max: tuning.snapshots_served_max,
        start: random[0] ^ random[1].rotate_left(32),
    }
}

/// Makes the options of replicas, now and while the node runs.
fn options_maker(topology: &Arc<Topology>, tuning: Tuning, log_budget: u64) -> MakeOptions {
    let topology = Arc::clone(topology);
    Arc::new(move |group, replica, kind| {
        let replica = (replica, kind);
        group_options(&topology, group, replica, tuning, log_budget)
    })
}

/// The options of a replica; `None` if the cluster file has no such group.
fn group_options(
    topology: &Arc<Topology>,
    group: GroupId,
    (replica, kind): (ReplicaId, ReplicaKind),
    tuning: Tuning,
    log_budget_bytes: u64,
) -> Option<GroupOptions> {
    topology.group(group)?;
    let (slices, groups) = (Arc::clone(topology), Arc::clone(topology));
    Some(GroupOptions {
        paxos: Options {
            group,
            replica,
            kind,
            timing: tuning.timing.unwrap_or_else(|| timing(topology.lease())),
            pinned: false,
            log_budget_bytes,
        },
        slice_of: Arc::new(move |table, uid| match slices.route(table, uid) {
            Err(_no_table) if table == TableId::ACCOUNTS => slices.slice_of(uid),
            Ok(route) => route.slice,
            // The edge refuses unknown tables; nothing else evaluates.
            Err(_unknown) => SliceId::UNSHARDED,
        }),
        group_of: Arc::new(move |table, uid| match table {
            TableId::ACCOUNTS => Some(groups.group_of_accounts(uid).ok()?.id),
            table => Some(groups.route(table, uid).ok()?.group.id),
        }),
        check_every: tuning.check_interval,
        numbering: cut_group(topology.groups().map(|group| group.id)).unwrap_or(group),
    })
}

pub(crate) fn log_error(error: &LogError) -> Error {
    Error::new(error.code(), error.to_string())
}
