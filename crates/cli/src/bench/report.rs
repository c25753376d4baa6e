//! What a run came to, from what was measured. Pure.

use std::time::Duration;

use serde::Serialize;

use super::counters::Counters;
use super::drive::Measured;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Setting {
    pub(super) workload: &'static str,
    pub(super) callers: usize,
    /// Requests a second of an open loop.
    pub(super) rate: Option<u64>,
    pub(super) keys: u64,
    pub(super) zipf: Option<f64>,
    pub(super) value_bytes: usize,
    pub(super) batch: u64,
    pub(super) nodes: usize,
    pub(super) groups: usize,
}

/// What the machine does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    /// Median of a 4 KiB write with a sync; known only where the nodes run here.
    pub(super) sync: Option<Duration>,
    /// Median time to open a connection to a node.
    pub(super) round_trip: Option<Duration>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

/// What one operation cost, over all nodes unless it says otherwise.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    /// Bytes written to the log of each node.
    pub(super) log_bytes_per_node: f64,
    /// Syncs of the log of each node.
    pub(super) syncs_per_node: f64,
    /// Frames between nodes.
    pub(super) peer_frames: f64,
    /// Bytes that reached devices, log and checkpoints, as the system counts them.
    pub(super) device_bytes: f64,
    /// CPU time of the nodes.
    pub(super) server_cpu_us: f64,
    /// CPU time of this process.
    pub(super) client_cpu_us: f64,
}

/// A figure beside what physics would allow.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bound {
    pub(super) what: &'static str,
    pub(super) measured: f64,
    pub(super) bound: f64,
    /// Measured over bound; 1 is perfect.
    pub(super) ratio: f64,
    /// How the bound is reckoned.
    pub(super) because: &'static str,
}

/// Requests that failed alike.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failed {
    pub(super) code: &'static str,
    pub(super) count: u64,
    pub(super) first: String,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) setting: Setting,
    pub(super) seconds: f64,
    pub(super) operations: u64,
    pub(super) ops_per_second: f64,
    pub(super) latency_us: Latency,
    pub(super) errors: u64,
    pub(super) failed: Vec<Failed>,
    /// In an open loop: requests that were due and never sent.
    pub(super) unsent: u64,
    pub(super) cost: Cost,
    /// What a log thread needs to write and sync, on average.
    pub(super) log_sync_us: f64,
    /// The same of an idle disk.
    pub(super) device_sync_us: Option<f64>,
    pub(super) round_trip_us: Option<f64>,
    /// Little's law: calls a second times mean latency, over the calls in flight. 1 if the harness
    /// counts right; meant for closed loops.
    pub(super) littles_law: Option<f64>,
    pub(super) bounds: Vec<Bound>,
}

/// Bytes of a row's key as the caller wrote it.
pub(super) const KEY_BYTES: usize = 2;
/// The protocol sends a batch to each follower and takes an answer from each.
const FRAMES_PER_FOLLOWER: f64 = 2.0;

impl Report {
    /// The report of a run.
    pub(super) fn new(
        setting: Setting,
        measured: &Measured,
        spent: Counters,
        machine: Machine,
    ) -> Report {
        let seconds = measured.elapsed.as_secs_f64();
        let operations = measured.operations.max(1) as f64;
        let nodes = setting.nodes.max(1) as f64;
        let times = &measured.latency_us;
        let latency_us = Latency {
            mean: times.mean(),
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            p999: times.value_at_quantile(0.999),
            max: times.max(),
        };
        let cost = Cost {
            log_bytes_per_node: spent.log_bytes / operations / nodes,
            syncs_per_node: spent.log_syncs / operations / nodes,
            peer_frames: spent.peer_frames / operations,
            device_bytes: spent.device_bytes / operations,
            server_cpu_us: spent.server_cpu_s * 1e6 / operations,
            client_cpu_us: spent.client_cpu_s * 1e6 / operations,
        };
        let calls_per_second = measured.calls as f64 / seconds;
        let in_flight = calls_per_second * latency_us.mean / 1e6;
        let is_closed = setting.rate.is_none();
        let failed: Vec<Failed> = measured
            .errors
            .iter()
            .map(|(code, (count, first))| Failed { code, count: *count, first: first.clone() })
            .collect();
        Report {
            seconds,
            operations: measured.operations,
            ops_per_second: measured.operations as f64 / seconds,
            latency_us,
            errors: failed.iter().map(|failed| failed.count).sum(),
            failed,
            unsent: measured.unsent,
            log_sync_us: spent.log_busy_s * 1e6 / spent.log_syncs.max(1.0),
            device_sync_us: machine.sync.map(micros),
            round_trip_us: machine.round_trip.map(micros),
            littles_law: is_closed.then(|| in_flight / setting.callers.max(1) as f64),
            bounds: bounds(&setting, &latency_us, &cost, machine),
            cost,
            setting,
        }
    }
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// What the cheapest protocol would need for the same.
fn bounds(setting: &Setting, latency: &Latency, cost: &Cost, machine: Machine) -> Vec<Bound> {
    let mut bounds = Vec::new();
    let mut add = |what, measured: f64, bound: f64, because| {
        bounds.push(Bound { what, measured, bound, ratio: measured / bound, because });
    };
    let is_write = matches!(setting.workload, "put" | "txn" | "transfer");
    let trip = machine.round_trip.map(micros);
    if is_write {
        let (payload, what) = match setting.workload {
            "transfer" => (setting.value_bytes, "what is asked, once"),
            _ => (KEY_BYTES + setting.value_bytes, "key and value, once"),
        };
        add("log bytes a node", cost.log_bytes_per_node, payload as f64, what);
        let together = setting.callers as f64 * setting.batch as f64;
        let syncs = 1.0 / together;
        add("syncs a node", cost.syncs_per_node, syncs, "one for all that is in flight");
        let followers = setting.nodes.saturating_sub(1) as f64;
        if 0.0 < followers {
            let frames = FRAMES_PER_FOLLOWER * followers / together;
            add("peer frames", cost.peer_frames, frames, "out and back for all that is in flight");
        }
        if let (Some(sync), Some(trip)) = (machine.sync.map(micros), trip) {
            let trips = if 0.0 < followers { 2.0 } else { 1.0 };
            let floor = sync + trips * trip;
            add(
                "latency p50",
                latency.p50 as f64,
                floor,
                "a sync, a trip to peers if any, one to us",
            );
        }
    } else if let Some(trip) = trip {
        add("latency p50", latency.p50 as f64, trip, "a round trip");
    }
    bounds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::Histogram;

    use super::*;

    #[test]
    fn costs_are_per_operation_and_the_harness_is_checked() {
        let mut latency_us = Histogram::new_with_bounds(1, 1_000_000, 3).expect("bounds");
        latency_us.record_n(1000, 2000).expect("in bounds");
        let measured = Measured {
            elapsed: Duration::from_secs(2),
            operations: 2000,
            calls: 2000,
            latency_us,
            errors: BTreeMap::from([("OVERLOADED", (3, "too much".to_owned()))]),
            unsent: 0,
        };
        let spent = Counters {
            log_bytes: 1_800_000.0,
            log_syncs: 6000.0,
            log_busy_s: 0.6,
            peer_frames: 8000.0,
            device_bytes: 4e6,
            server_cpu_s: 0.1,
            client_cpu_s: 0.05,
        };
        let setting = Setting {
            workload: "put",
            callers: 1,
            rate: None,
            keys: 10,
            zipf: None,
            value_bytes: 256,
            batch: 1,
            nodes: 3,
            groups: 5,
        };
        let machine = Machine {
            sync: Some(Duration::from_micros(300)),
            round_trip: Some(Duration::from_micros(100)),
        };
        let report = Report::new(setting, &measured, spent, machine);
        assert!((report.ops_per_second - 1000.0).abs() < 1e-6);
        assert!((report.cost.log_bytes_per_node - 300.0).abs() < 1e-6);
        assert!((report.cost.syncs_per_node - 1.0).abs() < 1e-6);
        assert!((report.cost.server_cpu_us - 50.0).abs() < 1e-6);
        assert!((report.log_sync_us - 100.0).abs() < 1e-6);
        assert_eq!(report.errors, 3);
        let law = report.littles_law.expect("a closed loop");
        assert!((law - 1.0).abs() < 0.01, "{law}");
        let p50 = report.bounds.iter().find(|it| it.what == "latency p50").expect("known");
        assert!((p50.ratio - 2.0).abs() < 0.01, "{p50:?}");
    }
}
