//! What the nodes count: read from their metrics before and after, so that the report can say what an
//! operation cost.

use std::ops::Sub;

use quorate_client::Client;
use quorate_types::Code;

use crate::exit::Failure;
use crate::scrape::{metrics, sum};

/// Sums over all nodes, and of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) log_bytes: f64,
    pub(super) log_syncs: f64,
    pub(super) log_busy_s: f64,
    pub(super) peer_frames: f64,
    pub(super) device_bytes: f64,
    pub(super) server_cpu_s: f64,
    pub(super) client_cpu_s: f64,
}

impl Sub for Counters {
    type Output = Counters;

    fn sub(self, before: Counters) -> Counters {
        Counters {
            log_bytes: self.log_bytes - before.log_bytes,
            log_syncs: self.log_syncs - before.log_syncs,
            log_busy_s: self.log_busy_s - before.log_busy_s,
            peer_frames: self.peer_frames - before.peer_frames,
            device_bytes: self.device_bytes - before.device_bytes,
            server_cpu_s: self.server_cpu_s - before.server_cpu_s,
            client_cpu_s: self.client_cpu_s - before.client_cpu_s,
        }
    }
}

impl Counters {
    /// Asks every node.
    ///
    /// # Errors
    /// `UNREACHABLE` with the node that did not answer, and why.
    pub(super) async fn read(client: &Client) -> Result<Counters, Failure> {
        Counters::read_all(client).await.map_err(|reason| {
            Failure::new(Code::Unreachable, reason)
                .with_fix("check that the admin ports of the cluster file can be reached from here")
        })
    }

    async fn read_all(client: &Client) -> Result<Counters, String> {
        let (topology, tls) = (client.topology(), client.tls());
        let mut all = Counters { client_cpu_s: own_cpu_s(), ..Counters::default() };
        for node in topology.nodes() {
            let text = metrics(&node.admin, tls.as_ref()).await.map_err(|error| {
                format!("no metrics from node {} at {}: {error}", node.name, node.admin)
            })?;
            all.log_bytes += sum(&text, "quorate_log_written_bytes_total");
            all.log_syncs += sum(&text, "quorate_log_syncs_total");
            all.log_busy_s += sum(&text, "quorate_log_busy_seconds_total");
            all.peer_frames += sum(&text, "quorate_peer_frames_total");
            all.device_bytes += sum(&text, "quorate_process_written_bytes_total");
            all.server_cpu_s += sum(&text, "quorate_process_cpu_seconds_total");
        }
        Ok(all)
    }
}

/// CPU time of this process so far, in seconds; 0 where the system does not say.
fn own_cpu_s() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}
