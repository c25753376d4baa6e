//! A server process: opens real disk, engine and sockets around a `Node`, and shuts it down in order.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use quorate_log::{Disk, RealDisk};
use quorate_paxos::MemberStatus;
use quorate_replica::{GroupStatus, Stop};
use quorate_store::{Engine, Rocks, RocksOptions};
use quorate_topology::Topology;
use quorate_types::{Code, Error, NodeId};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::admin_http;
use crate::boot_clock::BootClock;
use crate::context::NodeContext;
use crate::damaged_rows;
use crate::far_links::FarLinks;
use crate::folder::check_filled;
use crate::mount::tell_of_discards;
use crate::node::{LogLoop, Node, NodeParts};
use crate::options::{Profile, Security, ServerOptions};
use crate::repair::{Repaired, is_damage};
use crate::security;

/// A member that answered no heartbeat for this long takes nothing over.
const HEARD_WITHIN_MS: u64 = 1000;
/// How long the end waits for the data folder to be let go of.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// Answers that are on their way get this long after the last hand-over.
const LINGER: Duration = Duration::from_millis(300);

/// Runs a server until `shutdown` resolves; then hands leaderships over, lets answers out and returns.
///
/// # Errors
/// Coded: a wrong cluster file, a data folder of another cluster or node, a port in use, damage.
pub async fn serve(
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let topology = Arc::new(read_cluster_file(&options.cluster_file)?);
    let entry = topology
        .node_by_name(&options.node)
        .ok_or_else(|| unknown_node(&topology, &options.node))?;
    let (node_id, admin) = (entry.id, entry.admin.clone());
    // Before anything is opened or written.
    match &options.security {
        Security::Insecure => {
            warn!("insecure: connections are neither encrypted nor authenticated");
        }
        Security::Tls { dir } => drop(security::open(dir, &topology, entry)?),
    }
    let far_links = match &options.far_links {
        Some(links) => {
            warn!("faults are allowed: everybody who may call may delay and cut links");
            Some(Arc::new(FarLinks::new(Arc::clone(&topology), links.clone())?))
        }
        None => None,
    };
    let opened = open_repaired(&options, &topology, node_id, far_links.as_ref())?;
    let Opened { node, disk: disk_in_use, engine: engine_in_use } = opened;
    let admin_listener = admin_http::bind(&admin).await?;
    tell_of_discards(&options.data);
    let context = node.context();
    let network = node.network();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = stopped.map(|_| ()).shared();
    if let Security::Tls { dir } = options.security {
        tokio::spawn(security::watch(Arc::clone(&context), dir));
    }
    let running = tokio::spawn(node.run(stopped.clone()));
    tokio::spawn(admin_http::serve(admin_listener, Arc::clone(&context), network, stopped));
    info!(node = %options.node, data = %options.data.display(), "ready");

    tokio::pin!(running);
    tokio::select! {
        biased;
        () = shutdown => {}
        ended = &mut running => return finish(ended),
    }
    leave(&context, options.tuning.leave_timeout).await;
    let _gone = stop.send(()).is_err(); // The node ended by itself meanwhile.
    let ended = finish(running.await);
    drop(context);
    // The folder is free for another process, or another start in this one, once nobody holds it.
    let freed = async {
        while disk_in_use.strong_count() + engine_in_use.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(RELEASE_LIMIT, freed).await.is_err() {
        warn!("the data folder is still in use");
    }
    ended
}

/// A node that is open, and what tells whether it has let go of its folder.
struct Opened {
    node: Node,
    disk: Weak<dyn Disk>,
    engine: Weak<dyn Engine>,
}

/// Opens the node; if its rows are damaged, once more without them.
fn open_repaired(
    options: &ServerOptions,
    topology: &Arc<Topology>,
    node: NodeId,
    far_links: Option<&Arc<FarLinks>>,
) -> Result<Opened, Error> {
    let open = |repaired| open(options, topology, node, far_links.map(Arc::clone), repaired);
    let is_wanted = options.tuning.repair_rows;
    let reason = match damaged_rows::marked(&options.data)? {
        Some(reason) => reason,
        None => match open(None) {
            Err(error) if error.code == Code::StoreDamaged => error.message,
            opened => return opened,
        },
    };
    // Nobody else may use the folder meanwhile.
    let disk = RealDisk::open(&options.data)
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let members = damaged_rows::known_members(&disk, topology, node)?;
    damaged_rows::may_repair(&members, node, is_wanted, &reason)?;
    let repaired = damaged_rows::move_aside(&options.data, reason)?;
    drop(disk);
    open(Some(repaired))
}

fn open(
    options: &ServerOptions,
    topology: &Arc<Topology>,
    node: NodeId,
    far_links: Option<Arc<FarLinks>>,
    repaired: Option<Repaired>,
) -> Result<Opened, Error> {
    let security = match &options.security {
        Security::Insecure => None,
        Security::Tls { dir } => {
            let entry = topology.node(node).ok_or_else(|| unknown_node(topology, &options.node))?;
            Some(security::open(dir, topology, entry)?)
        }
    };
    let disk = RealDisk::open(&options.data)
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    check_filled(&options.data)?;
    let profile = match options.profile {
        Profile::Normal => RocksOptions::normal(),
        Profile::Small => RocksOptions::small(),
    };
    let profile = RocksOptions {
        background_bytes_per_second: Some(options.tuning.compaction_bytes_per_second),
        ..profile
    };
    let engine = Rocks::open(&options.data.join(damaged_rows::ROWS), &profile)
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let (disk_in_use, engine_in_use) = (Arc::downgrade(&disk), Arc::downgrade(&engine));
    let data = options.data.clone();
    let parts = NodeParts {
        topology: Arc::clone(topology),
        node,
        profile: options.profile,
        tuning: options.tuning,
        disk,
        engine,
        clock: Arc::new(BootClock),
        random: rand::random(),
        links: None,
        far_links,
        stop: Stop::new(move |reason| stop(&data, reason)),
        repaired,
        security,
    };
    let node = Node::open(parts, spawn_log_thread)?;
    Ok(Opened { node, disk: disk_in_use, engine: engine_in_use })
}

/// The node cannot go on. If its rows are the reason, the next start does without them.
fn stop(data: &Path, reason: &(dyn std::error::Error + 'static)) {
    if is_damage(reason) {
        damaged_rows::mark(data, &reason.to_string());
    }
    abort(reason);
}

fn finish(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.map_err(|error| Error::new(Code::Internal, format!("the node ended: {error}")))?
}

/// Hands leaderships over, and waits until nothing is led or the limit is reached.
async fn leave(context: &NodeContext, limit: Duration) {
    info!("leaving");
    if context.drain().is_err() {
        return;
    }
    let handed_over = async {
        loop {
            match context.shard.status().await {
                Ok(status) if status.groups.iter().any(can_be_handed_over) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(_) | Err(_) => return,
            }
        }
    };
    match tokio::time::timeout(limit, handed_over).await {
        Ok(()) => info!("nothing is left to hand over"),
        Err(_elapsed) => warn!("leaving with leaderships that nobody took over"),
    }
    tokio::time::sleep(LINGER).await;
}

/// True for a group that is led here and could be led by somebody else: when the whole cluster leaves at
/// once, nobody waits for another.
fn can_be_handed_over(group: &GroupStatus) -> bool {
    let heard = |index: usize| match group.heard_ms_ago.get(index) {
        Some((_, Some(ms))) => *ms < HEARD_WITHIN_MS,
        Some((_, None)) | None => false,
    };
    let members = group.core.members.iter().enumerate();
    let leaves = |member: &MemberStatus| member.health.is_some_and(|health| health.draining);
    let mut takers = members.filter(|(index, member)| !leaves(member) && heard(*index));
    group.core.role == "leader" && takers.next().is_some()
}

/// The log has a thread of its own: its writes and syncs block.
fn spawn_log_thread(log_loop: LogLoop) {
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(log_loop),
            Err(error) => abort(&error),
        }
    });
    if let Err(error) = spawned {
        abort(&error);
    }
}

/// The node cannot go on: a failed write must never be taken for a durable one (trap 3).
fn abort(reason: &(dyn std::error::Error + 'static)) {
    error!(%reason, "the node stops at once: it cannot go on without risking what it acknowledged");
    std::process::exit(1);
}

fn read_cluster_file(path: &Path) -> Result<Topology, Error> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Code::ConfigInvalid, format!("cluster file {name} cannot be read: {error}"))
    })?;
    let topology = Topology::parse_named(&name, &text).map_err(Error::from)?;
    for problem in topology.warnings() {
        warn!(file = %name, %problem, "cluster file");
    }
    Ok(topology)
}

fn unknown_node(topology: &Topology, name: &str) -> Error {
    let names: Vec<&str> = topology.nodes().map(|node| node.name.as_str()).collect();
    let message = format!("the cluster file has no node {name:?}; it has {}", names.join(", "));
    Error::new(Code::ConfigInvalid, message)
}
