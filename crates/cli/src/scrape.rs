//! The metrics of a node, read over its admin port.

use std::time::Duration;

use quorate_client::Tls;
use quorate_tls::{Expected, FirstWord};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Metrics are a few hundred lines.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The metrics of a node, over a connection of their own: with the certificate of a client, or in plain
/// text.
///
/// # Errors
/// Why there are none; `TimedOut` after 5 s.
pub(crate) async fn metrics(address: &str, tls: Option<&Tls>) -> std::io::Result<String> {
    let asking = tokio::time::timeout(ANSWER_LIMIT, connect_and_ask(address, tls));
    asking.await.unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()))
}

async fn connect_and_ask(address: &str, tls: Option<&Tls>) -> std::io::Result<String> {
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
pub(crate) fn sum(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (labelled, value) = line.rsplit_once(' ')?;
        let found = labelled.split('{').next()?;
        (found == name).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
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
