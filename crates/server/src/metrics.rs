//! Metrics in the OpenMetrics text form, computed when asked from the same account as the status.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use quorate_replica::{GroupStatus, ShardStatus};
use quorate_types::{Code, Error};

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
struct PeerLabels {
    peer: u32,
}

type GroupGauge = Family<GroupLabels, Gauge>;
type GroupSeconds = Family<GroupLabels, Gauge<f64, AtomicU64>>;

/// The metrics of this node.
pub(crate) async fn render(context: &NodeContext, network: &PeerNetwork) -> Result<String, Error> {
    let shard = context.shard.status().await?;
    let mut registry = Registry::with_prefix("quorate");
    let has_leader = family(&mut registry, "group_has_leader", "1 if the replica knows a leader");
    let leads = family(&mut registry, "group_leads", "1 if the replica serves as leader");
    let committed = family(&mut registry, "group_slot_committed", "Chosen through this slot");
    let applied = family(&mut registry, "group_slot_applied", "Applied through this slot");
    let persisted =
        family(&mut registry, "group_slot_persisted", "In a checkpoint on disk through this slot");
    let lag = family(&mut registry, "replica_lag_slots", "Slots committed but not applied here");
    let sessions = family(&mut registry, "group_sessions", "Open sessions");
    let elections = family(&mut registry, "group_leader_changes", "Elections won since the start");
    let entries = family(&mut registry, "group_entries_applied", "Entries applied since the start");
    let lease = GroupSeconds::default();
    registry.register_with_unit(
        "group_lease_remaining",
        "Time until the lease ends",
        Unit::Seconds,
        lease.clone(),
    );
    for group in &shard.groups {
        let labels = labels(context, group);
        let set = |family: &GroupGauge, value: u64| set(family, &labels, value);
        let core = &group.core;
        set(&has_leader, u64::from(core.leader.is_some()));
        set(&leads, u64::from(core.serving));
        set(&committed, core.slot_committed.0);
        set(&applied, core.slot_applied.0);
        set(&persisted, group.slot_persisted.0);
        set(&lag, core.slot_committed.0.saturating_sub(core.slot_applied.0));
        set(&sessions, group.sessions as u64);
        set(&elections, group.leaderships);
        set(&entries, group.applied_entries);
        lease.get_or_create(&labels).set(group.lease_remaining_ms as f64 / 1000.0);
    }
    register_money(&mut registry, context, &shard);
    register_node(&mut registry, context, network, &shard);
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| Error::new(Code::Internal, format!("metrics: {error}")))?;
    Ok(text)
}

/// What groups know of transactions over several groups, of money and of cuts. What waits, waits at the
/// leader; open reservations every replica knows.
fn register_money(registry: &mut Registry, context: &NodeContext, shard: &ShardStatus) {
    let mut family = |name, help| family(registry, name, help);
    let attempts = family("group_attempts", "Cross-unit attempts remembered, decided ones too");
    let locked = family("group_locked_rows", "Rows locked by attempts");
    let parked = family("group_parked_requests", "Requests that wait for locks or for escrow");
    let escrow = family("group_escrow_transfers", "Transfers with other groups in escrow");
    let fenced = family("group_fenced_accounts", "Accounts that a read keeps new transfers out of");
    let holds = family("group_open_reservations", "Pending transfers that reserve their amount");
    let views = family("group_cut_views", "Views at cuts that are kept");
    let waiting = family("group_cut_waiting_requests", "Requests that wait for a cut or its view");
    let age = GroupSeconds::default();
    let help = "How long the oldest view at a cut has been kept";
    registry.register_with_unit("group_cut_view_age", help, Unit::Seconds, age.clone());
    for group in &shard.groups {
        let labels = labels(context, group);
        let set = |family: &GroupGauge, value: usize| set(family, &labels, value as u64);
        set(&attempts, group.attempts);
        set(&locked, group.locked_rows);
        set(&parked, group.parked);
        set(&escrow, group.escrow_transfers);
        set(&fenced, group.fences);
        set(&holds, group.open_holds);
        set(&views, group.cuts.views);
        set(&waiting, group.cuts.waiting);
        age.get_or_create(&labels).set(group.cuts.oldest_ms as f64 / 1000.0);
    }
}

/// What the node as a whole holds and does.
fn register_node(
    registry: &mut Registry,
    context: &NodeContext,
    network: &PeerNetwork,
    shard: &ShardStatus,
) {
    let dropped = Family::<PeerLabels, Gauge>::default();
    registry.register(
        "peer_messages_dropped",
        "Messages dropped from a full queue since the start",
        dropped.clone(),
    );
    let frames = Family::<PeerLabels, Counter>::default();
    registry.register("peer_frames", "Frames sent to a peer since the start", frames.clone());
    for (node, counters) in network.counters() {
        let labels = PeerLabels { peer: node.0 };
        let count = i64::try_from(counters.dropped).unwrap_or(i64::MAX);
        dropped.get_or_create(&labels).set(count);
        frames.get_or_create(&labels).inc_by(counters.frames);
    }
    node_gauge(
        registry,
        "request_held_bytes",
        "Bytes of requests held now",
        context.shard.request_bytes() as u64,
    );
    node_gauge(registry, "log_size_bytes", "Bytes of the log's segments", shard.log_bytes);
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

fn labels(context: &NodeContext, group: &GroupStatus) -> GroupLabels {
    let entry = context.topology.group(group.group);
    let unit = entry.map_or_else(String::new, |entry| entry.unit.clone());
    GroupLabels { unit, group: group.group.0 }
}

fn set(family: &GroupGauge, labels: &GroupLabels, value: u64) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn family(registry: &mut Registry, name: &str, help: &str) -> GroupGauge {
    let family = GroupGauge::default();
    registry.register(name, help, family.clone());
    family
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
