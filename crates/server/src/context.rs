//! What every service of a node knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quorate_log::Disk;
use quorate_proto::PEER_PROTOCOL_VERSION;
use quorate_proto::convert::{FACT_LEADER_NODE, Hello};
use quorate_replica::{Clock, GroupOptions, PeerFolders, ShardHandle};
use quorate_topology::{Node as NodeEntry, Topology};
use quorate_types::{BootTime, Error, GroupId, Incarnation, NodeId, ReplicaId, ReplicaKind};
use tokio::sync::watch;

use crate::access::Access;
use crate::directory::Directory;
use crate::far_links::FarLinks;
use crate::links::Links;
use crate::repair::Repaired;
use crate::requests::Requests;
use crate::snapshots::{SnapshotOptions, Snapshots};

/// The options of a replica of a group with this id and kind, if the cluster has the group.
pub(crate) type MakeOptions =
    Arc<dyn Fn(GroupId, ReplicaId, ReplicaKind) -> Option<GroupOptions> + Send + Sync>;

/// What a node is given and its services use.
pub struct Given {
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// What happens to messages on their way here; `None` leaves that to the network.
    pub links: Option<Arc<dyn Links>>,
    /// What is done to streams that reach it; `None` where nobody may ask for that.
    pub far_links: Option<Arc<FarLinks>>,
    /// Most bytes its log may have.
    pub log_bytes_cap: u64,
    /// Who may do what; `None` if callers are not told apart.
    pub access: Option<Access>,
    /// What it may spend on rows for others, and random bits of this start.
    pub snapshots: SnapshotOptions,
    /// Where groups are.
    pub(crate) directory: Arc<Directory>,
    /// Makes the options of a replica of a group on this node.
    pub(crate) make_options: MakeOptions,
    /// The data folder is not the first under the node's name.
    pub(crate) reborn: bool,
    /// Damaged rows that this start has moved aside.
    pub repaired: Option<Repaired>,
    /// The certificates of the node, where there is `access`.
    #[cfg(not(madsim))]
    pub tls: Option<quorate_tls::Tls>,
}

/// Shared by the services of one node.
pub struct NodeContext {
    /// The cluster file, as this node serves it.
    pub topology: Arc<Topology>,
    /// This node.
    pub node: NodeId,
    /// Its data folder.
    pub incarnation: Incarnation,
    /// The way to its groups.
    pub shard: ShardHandle,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// What happens to messages on their way here; `None` leaves that to the network.
    pub links: Option<Arc<dyn Links>>,
    /// What is done to streams that reach it; `None` where nobody may ask for that.
    pub far_links: Option<Arc<FarLinks>>,
    /// Most bytes its log may have.
    pub log_bytes_cap: u64,
    /// Who may do what; `None` if callers are not told apart.
    pub access: Option<Access>,
    /// The certificates of the node, where there is `access`.
    #[cfg(not(madsim))]
    pub tls: Option<quorate_tls::Tls>,
    /// When it started.
    pub started_at: BootTime,
    pub(crate) requests: Arc<Requests>,
    /// Where groups are.
    pub(crate) directory: Arc<Directory>,
    /// Makes the options of a replica of a group on this node.
    pub(crate) make_options: MakeOptions,
    /// The data folder is not the first under the node's name.
    pub(crate) reborn: AtomicBool,
    /// It is being found out, or was.
    pub(crate) rebirth_begun: AtomicBool,
    /// The data folders of peers.
    pub(crate) folders: watch::Receiver<PeerFolders>,
    /// Groups in which this node asks for a place.
    pub(crate) joining: Mutex<BTreeSet<GroupId>>,
    /// Rows on their way to other nodes.
    pub(crate) snapshots: Arc<Snapshots>,
    /// Damaged rows that this start has moved aside.
    pub(crate) repaired: Option<Repaired>,
    /// How often somebody was sent on to a node that has a group.
    hints: AtomicUsize,
    draining: AtomicBool,
    stopped: watch::Sender<bool>,
}

impl NodeContext {
    /// The context of a node that has recovered.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        node: NodeId,
        incarnation: Incarnation,
        shard: ShardHandle,
        given: Given,
    ) -> NodeContext {
        let requests = Arc::new(Requests::new(Arc::clone(&given.clock)));
        let started_at = given.clock.now();
        let folders = shard.folders();
        let log = shard.clone();
        let log_waits = move || log.log_waits();
        let draining = AtomicBool::new(false);
        let (stopped, _) = watch::channel(false);
        NodeContext {
            topology,
            node,
            incarnation,
            shard,
            clock: given.clock,
            disk: given.disk,
            links: given.links,
            far_links: given.far_links,
            log_bytes_cap: given.log_bytes_cap,
            access: given.access,
            #[cfg(not(madsim))]
            tls: given.tls,
            started_at,
            requests,
            directory: given.directory,
            make_options: given.make_options,
            reborn: AtomicBool::new(given.reborn),
            rebirth_begun: AtomicBool::new(given.reborn),
            folders,
            joining: Mutex::default(),
            snapshots: Arc::new(Snapshots::new(node, given.snapshots, log_waits)),
            repaired: given.repaired,
            hints: AtomicUsize::new(0),
            draining,
            stopped,
        }
    }

    /// Ends every stream of the node.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        self.snapshots.clear();
    }

    /// Resolves once the node has stopped.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _stopped = stopped.wait_for(|stopped| *stopped).await.is_ok();
    }

    /// This node in the cluster file.
    ///
    /// # Panics
    /// Never: a node that is not in the file does not start.
    #[must_use]
    pub fn entry(&self) -> &NodeEntry {
        self.topology.node(self.node).expect("checked when the node started")
    }

    /// Says that the node is leaving, and hands its leaderships over.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if it has left already.
    pub fn drain(&self) -> Result<(), Error> {
        self.draining.store(true, Ordering::Release);
        self.shard.drain()
    }

    /// True once `drain` was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The greeting to a peer.
    #[must_use]
    pub fn hello(&self, to_node: NodeId) -> Hello {
        Hello {
            protocol_version: PEER_PROTOCOL_VERSION,
            cluster: self.topology.cluster_id(),
            node: self.node,
            incarnation: self.incarnation,
            to_node,
            topology_version: self.topology.version(),
            lease_ms: lease_ms(&self.topology),
            reborn: self.reborn.load(Ordering::Acquire),
            folders: BTreeMap::clone(&self.folders.borrow()),
        }
    }

    /// Adds the client address of a node that has a group, because this one has not: it may lead, or knows who does.
    /// Another one each time, because the first one may be down, and who asked would be sent to it again and again.
    #[must_use]
    pub(crate) fn with_member_address(&self, group: GroupId, error: Error) -> Error {
        let mut nodes = self.directory.nodes(group);
        nodes.retain(|node| *node != self.node);
        let turn = self.hints.fetch_add(1, Ordering::Relaxed);
        match turn.checked_rem(nodes.len()).and_then(|place| nodes.get(place)) {
            Some(node) => self.with_leader_address(error.with(FACT_LEADER_NODE, node.0)),
            None => error,
        }
    }

    /// Adds the client address of the leader that an error names.
    #[must_use]
    pub fn with_leader_address(&self, error: Error) -> Error {
        match quorate_proto::convert::LeaderHint::from_facts(&error) {
            Some(mut hint) => match self.topology.node(hint.node) {
                Some(node) => {
                    hint.address.clone_from(&node.client);
                    hint.add_to(error)
                }
                None => error,
            },
            None => error,
        }
    }
}

/// The lease this node grants, in milliseconds; 0 without leases.
fn lease_ms(topology: &Topology) -> u64 {
    let length = topology.lease().length().unwrap_or_default();
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
