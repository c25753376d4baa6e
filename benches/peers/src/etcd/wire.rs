//! etcd's messages and calls, and connections to it.

use std::time::Duration;

use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

/// What the build script generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(super) mod v3 {
    tonic::include_proto!("etcdserverpb");
}

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that may be under way to us in one call, and over one connection: no answer waits for these.
const CALL_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// No connection.
#[derive(Debug, Error)]
#[error("cannot connect to etcd at {address}")]
pub(crate) struct ConnectError {
    address: String,
    source: tonic::transport::Error,
}

/// Opens a connection.
///
/// # Errors
/// If nobody listens there.
pub(super) async fn connect(address: &str) -> Result<Channel, ConnectError> {
    let cannot = |source| ConnectError { address: address.to_owned(), source };
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(cannot)?
        .connect_timeout(CONNECT_LIMIT)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .map_err(cannot)
}

/// Opens so many connections, to each address in turn.
///
/// # Errors
/// If nobody listens at one of them.
pub(super) async fn connect_all(
    addresses: &[String],
    count: usize,
) -> Result<Vec<Channel>, ConnectError> {
    let mut channels = Vec::with_capacity(count);
    for address in addresses.iter().cycle().take(count) {
        channels.push(connect(address).await?);
    }
    Ok(channels)
}
