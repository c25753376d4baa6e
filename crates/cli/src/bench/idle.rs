//! What nodes spend while nobody asks: leases, heartbeats, timers.

use std::time::Duration;

use quorate_client::Client;
use serde::Serialize;

use super::counters::Counters;
use crate::exit::Failure;
use crate::output::{Document, Output, Table};

/// What idle nodes cost.
#[derive(Clone, Debug, Serialize)]
struct Idle {
    workload: &'static str,
    seconds: u64,
    nodes: usize,
    groups: usize,
    /// Share of one core that a node takes, on average.
    cpu_cores_per_node: f64,
    /// Frames between nodes each second, all together.
    peer_frames_per_second: f64,
    /// Bytes written to devices each second, all together.
    device_bytes_per_second: f64,
}

/// Waits, and reports what that cost.
pub(super) async fn measure(
    warm_up: Duration,
    seconds: u64,
    client: &Client,
    out: &Output,
) -> Result<(), Failure> {
    let topology = client.topology();
    tokio::time::sleep(warm_up).await;
    let before = Counters::read(client).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let spent = Counters::read(client).await? - before;

    let nodes = topology.nodes().count();
    let idle = idle(seconds, nodes, topology.groups().count(), &spent);
    let mut table = Table::new(&["GROUPS", "CPU OF A NODE", "FRAMES/S", "TO DEVICES/S"]);
    table.row([
        idle.groups.to_string(),
        format!("{:.2} % of a core", idle.cpu_cores_per_node * 100.0),
        format!("{:.0}", idle.peer_frames_per_second),
        format!("{:.0} B", idle.device_bytes_per_second),
    ]);
    out.table(&table);
    let item = serde_json::to_value(&idle).unwrap_or_default();
    out.document(&Document::new("bench").of_cluster(topology.cluster_id()).item(item));
    Ok(())
}

fn idle(seconds: u64, nodes: usize, groups: usize, spent: &Counters) -> Idle {
    let span = seconds.max(1) as f64;
    Idle {
        workload: "idle",
        seconds,
        nodes,
        groups,
        cpu_cores_per_node: spent.server_cpu_s / span / nodes.max(1) as f64,
        peer_frames_per_second: spent.peer_frames / span,
        device_bytes_per_second: spent.device_bytes / span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_by_second_and_cpu_by_node() {
        // Goal: the sums over all nodes become what the heads of the table say.
        let spent = Counters {
            server_cpu_s: 0.6,
            peer_frames: 500.0,
            device_bytes: 40_960.0,
            ..Counters::default()
        };
        let idle = idle(10, 3, 5, &spent);
        assert!((idle.cpu_cores_per_node - 0.02).abs() < 1e-9);
        assert!((idle.peer_frames_per_second - 50.0).abs() < 1e-9);
        assert!((idle.device_bytes_per_second - 4_096.0).abs() < 1e-9);
    }
}
