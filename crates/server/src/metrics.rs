//! Metrics in the OpenMetrics text form, computed when asked from the same account as the status.

mod requests;
mod survival;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use quorate_replica::ShardStatus;
use quorate_types::{BootTime, Code, Error, GroupId};

use crate::context::NodeContext;
use crate::peer_network::PeerNetwork;
use crate::process;
use crate::security::seconds_left;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabels {
    unit: String,
    group: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    unit: String,
    group: u32,
    /// `agreed`, `diverged`, `no_majority` or `incomplete`.
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    peer: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SurvivalLabels {
    unit: String,
    group: u32,
    /// `node`, `zone`, `idc` or `city`.
    level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

type GroupGauge = Family<GroupLabels, Gauge>;
type GroupSeconds = Family<GroupLabels, Gauge<f64, AtomicU64>>;

/// The metrics of this node.
pub(crate) async fn render(context: &NodeContext, network: &PeerNetwork) -> Result<String, Error> {
    let shard = context.shard.status().await?;
    let mut registry = Registry::with_prefix("quorate");
    register_groups(&mut registry, context, &shard);
    register_money(&mut registry, context, &shard);
    register_refills(&mut registry, context, &shard);
    register_checks(&mut registry, context, &shard);
    register_survival(&mut registry, context, &shard);
    requests::register(&mut registry, &context.requests);
    register_network(&mut registry, network);
    register_node(&mut registry, context, &shard);
    register_clocks(&mut registry, context);
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| Error::new(Code::Internal, format!("metrics: {error}")))?;
    Ok(text)
}

/// Where each replica stands.
fn register_groups(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let has_leader = family(registry, "group_has_leader", "1 if the replica knows a leader");
    let leads = family(registry, "group_leads", "1 if the replica serves as leader");
    let help = "1 if the leader is where the leader order wants it, by the leader";
    let home = family(registry, "group_leader_home", help);
    let help = "Voters that are set aside until they are back, by the leader";
    let suspended = family(registry, "group_voters_suspended", help);
    let round = family(registry, "group_ballot_round", "Round of the highest ballot promised");
    let committed = family(registry, "group_slot_committed", "Chosen through this slot");
    let applied = family(registry, "group_slot_applied", "Applied through this slot");
    let persisted =
        family(registry, "group_slot_persisted", "In a checkpoint on disk through this slot");
    let lag = family(registry, "replica_lag_slots", "Slots committed but not applied here");
    let sessions = family(registry, "group_sessions", "Open sessions");
    let help = "Attempts at transactions over several groups that the replica knows of";
    let attempts = family(registry, "group_attempts", help);
    let locked = family(registry, "group_locked_rows", "Rows that such attempts lock");
    let parked = family(registry, "group_parked_requests", "Requests that wait for such locks");
    let elections = counters(registry, "group_leader_changes", "Elections won since the start");
    let entries = counters(registry, "group_entries_applied", "Entries applied since the start");
    let lease = GroupSeconds::default();
    let help = "Time until the lease ends";
    registry.register_with_unit("group_lease_remaining", help, Unit::Seconds, lease.clone());
    for group in &shard.groups {
        let labels = labels(context, group.group);
        let set = |family: &GroupGauge, value: u64| set(family, &labels, value);
        let core = &group.core;
        set(&has_leader, u64::from(core.leader.is_some()));
        set(&leads, u64::from(core.serving));
        if core.serving {
            let entry = context.topology.group(group.group);
            let is_home = entry.is_some_and(|entry| entry.is_home(context.node));
            set(&home, u64::from(is_home));
            set(&suspended, group.suspended as u64);
        }
        set(&round, core.promised.round);
        set(&committed, core.slot_committed.0);
        set(&applied, core.slot_applied.0);
        if group.kind.keeps_rows() {
            set(&persisted, group.slot_persisted.0);
        }
        set(&lag, core.slot_committed.0.saturating_sub(core.slot_applied.0));
        set(&sessions, group.sessions as u64);
        set(&attempts, group.attempts as u64);
        set(&locked, group.locked_rows as u64);
        set(&parked, group.parked as u64);
        elections.get_or_create(&labels).inc_by(group.leaderships);
        entries.get_or_create(&labels).inc_by(group.applied_entries);
        lease.get_or_create(&labels).set(group.lease_remaining_ms as f64 / 1000.0);
    }
}

/// What groups know of money and of cuts. What waits, waits at the leader; open reservations every replica
/// knows.
fn register_money(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let mut family = |name, help| family(registry, name, help);
    let escrow = family("group_escrow_transfers", "Transfers with other groups in escrow");
    let fenced = family("group_fenced_accounts", "Accounts that a read keeps new transfers out of");
    let holds = family("group_open_reservations", "Pending transfers that reserve their amount");
    let views = family("group_cut_views", "Views at cuts that are kept");
    let waiting = family("group_cut_waiting_requests", "Requests that wait for a cut or its view");
    let age = GroupSeconds::default();
    let help = "How long the oldest view at a cut has been kept";
    registry.register_with_unit("group_cut_view_age", help, Unit::Seconds, age.clone());
    for group in &shard.groups {
        let labels = labels(context, group.group);
        let set = |family: &GroupGauge, value: usize| set(family, &labels, value as u64);
        set(&escrow, group.escrow_transfers);
        set(&fenced, group.fences);
        set(&holds, group.open_holds);
        set(&views, group.cuts.views);
        set(&waiting, group.cuts.waiting);
        age.get_or_create(&labels).set(group.cuts.oldest_ms as f64 / 1000.0);
    }
}

/// Rows that come from other nodes.
fn register_refills(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let help = "1 if the rows are lost, or end below the log, and must come from another node";
    let missing = family(registry, "group_rows_missing", help);
    let help = "1 while rows of another node are fetched or installed";
    let under_way = family(registry, "group_refilling", help);
    let help = "How often rows of another node were installed since the start";
    let installed = counters(registry, "group_snapshots_installed", help);
    for group in &shard.groups {
        let (labels, refill) = (labels(context, group.group), group.refill);
        set(&missing, &labels, u64::from(refill.is_missing));
        set(&under_way, &labels, u64::from(refill.is_under_way));
        installed.get_or_create(&labels).inc_by(refill.installed);
    }
}

/// Comparing rows with other replicas. Checks are counted by the leader.
fn register_checks(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let checks = Family::<CheckLabels, Counter>::default();
    let help = "Checks of rows since the start, by what the leader found";
    registry.register("group_checks", help, checks.clone());
    let help =
        "1 if the rows of the replica were not those of the majority and are not replaced yet";
    let diverged = family(registry, "group_diverged", help);
    let help = "Replicas that differed in the last check, by its leader";
    let differing = family(registry, "group_check_differing", help);
    let age = GroupSeconds::default();
    let help = "Time since the last check was applied";
    registry.register_with_unit("group_check_age", help, Unit::Seconds, age.clone());
    for group in &shard.groups {
        let (labels, found) = (labels(context, group.group), group.checks);
        for (result, count) in [
            ("agreed", found.agreed),
            ("diverged", found.diverged),
            ("no_majority", found.no_majority),
            ("incomplete", found.incomplete),
        ] {
            let GroupLabels { unit, group } = labels.clone();
            checks.get_or_create(&CheckLabels { unit, group, result }).inc_by(count);
        }
        set(&diverged, &labels, u64::from(found.is_diverged));
        set(&differing, &labels, found.differing as u64);
        if let Some(ms) = found.last_ms_ago {
            age.get_or_create(&labels).set(ms as f64 / 1000.0);
        }
    }
}

/// What the groups that serve here survive.
fn register_survival(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let survives = Family::<SurvivalLabels, Gauge>::default();
    let help =
        "1 if the group survives the loss of any one more place of this level, by its leader";
    registry.register("group_survives", help, survives.clone());
    for (group, level, is_survived) in survival::survival(&context.topology, &shard.groups) {
        let GroupLabels { unit, group } = labels(context, group);
        let level = level.word().to_lowercase();
        let labels = SurvivalLabels { unit, group, level };
        survives.get_or_create(&labels).set(i64::from(is_survived));
    }
}

fn labels(context: &NodeContext, group: GroupId) -> GroupLabels {
    let entry = context.topology.group(group);
    GroupLabels { unit: entry.map_or_else(String::new, |entry| entry.unit.clone()), group: group.0 }
}

/// What went to each peer.
fn register_network(registry: &mut Registry, network: &PeerNetwork) {
    let dropped = Family::<PeerLabels, Counter>::default();
    let help = "Messages dropped from a full queue since the start";
    registry.register("peer_messages_dropped", help, dropped.clone());
    let frames = Family::<PeerLabels, Counter>::default();
    registry.register("peer_frames", "Frames sent to a peer since the start", frames.clone());
    for (node, counters) in network.counters() {
        let labels = PeerLabels { peer: node.0 };
        dropped.get_or_create(&labels).inc_by(counters.dropped);
        frames.get_or_create(&labels).inc_by(counters.frames);
    }
}

/// The clocks of this machine at the moment of the scrape, so that they can be compared with others.
/// Nothing in a node depends on the wall clock; leases depend on the rate of the boot clock.
fn register_clocks(registry: &mut Registry, context: &NodeContext) {
    let now = context.clock.now();
    let uptime = now.since(context.started_at);
    seconds(registry, "uptime", "Time since the process started", uptime.as_secs_f64());
    let boot = now.since(BootTime(0)).as_secs_f64();
    seconds(registry, "boot_clock", "The machine's boot clock, which leases are measured by", boot);
    let wall = context.clock.wall_ms() as f64 / 1000.0;
    seconds(registry, "wall_clock", "The machine's wall clock since 1970", wall);
}

/// What the node as a whole holds and does.
fn register_node(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let build = Family::<BuildLabels, Gauge>::default();
    registry.register("build_info", "1, with the version of the program", build.clone());
    build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
    node_gauge(
        registry,
        "request_held_bytes",
        "Bytes of requests held now",
        context.shard.request_bytes() as u64,
    );
    node_gauge(registry, "log_size_bytes", "Bytes of the log's segments", shard.log_bytes);
    node_gauge(registry, "log_cap_bytes", "Most bytes the log may have", context.log_bytes_cap);
    let help = "1 if log and disk have room above the reserve";
    node_gauge(registry, "log_has_room", help, u64::from(shard.has_room));
    let log = &shard.log;
    node_counter(registry, "log_written_bytes", "Bytes written to the log", log.written_bytes);
    node_counter(registry, "log_writes", "Writes of the log", log.writes);
    node_counter(registry, "log_syncs", "Syncs of the log", log.syncs);
    node_seconds(registry, "log_busy", "Time the log took to write and sync", shard.log_busy);
    if let Some(usage) = process::usage() {
        node_seconds(registry, "process_cpu", "CPU time of the process", usage.cpu);
        let help = "Bytes the process caused to be written to disks";
        node_counter(registry, "process_written_bytes", help, usage.written_bytes);
        let help = "Resident memory of the process";
        node_gauge(registry, "process_resident_bytes", help, usage.resident_bytes);
    }
    node_gauge(
        registry,
        "disk_free_bytes",
        "Bytes free on the disk",
        context.disk.free_bytes().unwrap_or(0),
    );
    node_gauge(
        registry,
        "disk_total_bytes",
        "Bytes of the disk",
        context.disk.total_bytes().unwrap_or(0),
    );
    let help = "1 if this start found damaged rows and moved them aside";
    node_gauge(registry, "rows_repaired", help, u64::from(context.repaired.is_some()));
    let help = "Groups whose log was damaged, and whose replica here does not vote until it is whole again";
    let suspect = shard.groups.iter().filter(|group| group.log_suspect).count();
    node_gauge(registry, "log_suspect_groups", help, suspect as u64);
    let help = "Replicas that have left their groups, whose rows and log are still here because a member may need them";
    node_gauge(registry, "departed_replicas", help, shard.departed as u64);
    let help = "Bytes of rows that compactions will have to rewrite as things are";
    node_gauge(registry, "compaction_pending_bytes", help, shard.compaction_pending_bytes);
    node_gauge(registry, "draining", "1 if the node is leaving", u64::from(shard.draining));
    if let (Some(access), Some(tls)) = (&context.access, &context.tls) {
        let (requests, connections) = access.refused();
        node_counter(registry, "requests_refused", "Requests without the right", requests);
        let help = "Connections without a certificate that is accepted";
        node_counter(registry, "connections_refused", help, connections);
        let help = "Seconds until the certificate of the node ends";
        node_gauge(registry, "certificate_left_seconds", help, seconds_left(tls));
    }
    let health = shard.health;
    let is_slow = u64::from(0 < health.serious_faults);
    node_gauge(registry, "log_disk_slow", "1 if syncs took over 100 ms on average lately", is_slow);
    let hangs = u64::from(0 < health.fatal_faults);
    node_gauge(registry, "log_disk_hangs", "1 if a write has run for over 5 s", hangs);
    node_gauge(
        registry,
        "topology_version",
        "Version of the cluster file",
        context.topology.version(),
    );
}

fn set(family: &GroupGauge, labels: &GroupLabels, value: u64) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn family(registry: &mut Registry, name: &str, help: &str) -> GroupGauge {
    let family = GroupGauge::default();
    registry.register(name, help, family.clone());
    family
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Family<GroupLabels, Counter> {
    let family = Family::<GroupLabels, Counter>::default();
    registry.register(name, help, family.clone());
    family
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

fn node_counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn node_seconds(registry: &mut Registry, name: &str, help: &str, value: Duration) {
    let counter = Counter::<f64, AtomicU64>::default();
    counter.inc_by(value.as_secs_f64());
    registry.register_with_unit(name, help, Unit::Seconds, counter);
}

fn node_gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}
