//! What the nodes count: read from their metrics before and after, so that the report can say what an
//! operation cost.

use std::ops::Sub;
use std::time::Duration;

use quorate_client::{Client, Tls};
use quorate_tls::{Expected, FirstWord};
use quorate_types::Code;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::Failure;

/// How long a node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Metrics are a few hundred lines.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

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
            let asking = tokio::time::timeout(ANSWER_LIMIT, metrics(&node.admin, tls.as_ref()));
            let text = match asking.await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => {
                    return Err(format!(
                        "no metrics from node {} at {}: {error}",
                        node.name, node.admin
                    ));
                }
                Err(_elapsed) => {
                    return Err(format!("no metrics from node {} at {}", node.name, node.admin));
                }
            };
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

/// The metrics of a node, over a connection of their own.
async fn metrics(address: &str, tls: Option<&Tls>) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    match tls {
        None => ask(stream, address).await,
        Some(tls) => {
            let calling = tls.connect(stream, address, Expected::AnyNode, FirstWord::Caller);
            ask(calling.await.map_err(std::io::Error::other)?, address).await
        }
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
) -> std::io::Result<String> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => {
            let status = answer.lines().next().unwrap_or("nothing").to_owned();
            Err(std::io::Error::other(format!("it answered {status}")))
        }
    }
}

/// The sum of a metric over its labels.
fn sum(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (labelled, value) = line.rsplit_once(' ')?;
        let found = labelled.split('{').next()?;
        (found == name).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

/// CPU time of this process so far, in seconds; 0 where the system does not say.
fn own_cpu_s() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels() {
        let text = "# HELP quorate_peer_frames Frames.\nquorate_peer_frames_total{peer=\"1\"} 3\n\
                    quorate_peer_frames_total{peer=\"3\"} 4.5\nquorate_log_syncs_total 7\n";
        assert!((sum(text, "quorate_peer_frames_total") - 7.5).abs() < 1e-9);
        assert!((sum(text, "quorate_log_syncs_total") - 7.0).abs() < 1e-9);
        assert!(sum(text, "quorate_log").abs() < 1e-9);
    }
}
