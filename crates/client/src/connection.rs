//! Connections: at most one for each address, opened when somebody asks, shared by all calls.
//!
//! `call` asks for a connection with its stream; `status` and the search for a topology take a bare
//! channel. A connection whose stream broke is replaced at the next call. Calls that find a dial
//! under way wait for it instead of dialling too, and the dial goes on when they give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::status::TopologyText;
use quorate_proto::v1;
use quorate_proto::v1::topology_client::TopologyClient;
use quorate_topology::Topology;
use quorate_types::{ClusterId, Code, Error, limits};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::builder::Options;
use crate::error::show;
use crate::mux::Mux;
use crate::retry::End;

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A channel with the stream on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) mux: Mux,
}

/// The connections of a client, by address.
#[derive(Debug)]
pub(crate) struct Pool {
    dialer: Dialer,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
}

/// What it takes to dial.
#[derive(Clone, Debug)]
struct Dialer {
    cluster: Option<ClusterId>,
    connect_timeout: Duration,
    keep_alive: Duration,
    in_flight: (usize, usize),
    near: Option<String>,
    #[cfg(not(madsim))]
    tls: Option<quorate_tls::Tls>,
}

type Dialled = Result<Arc<Connection>, Error>;

#[derive(Debug, Default)]
struct Peer {
    state: Mutex<PeerState>,
}

#[derive(Debug, Default)]
enum PeerState {
    #[default]
    Down,
    Dialling(Shared<oneshot::Receiver<Dialled>>),
    Up(Arc<Connection>),
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(crate) fn new(options: &Options) -> Pool {
        let dialer = Dialer {
            cluster: options.cluster,
            connect_timeout: options.connect_timeout,
            keep_alive: options.keep_alive,
            in_flight: (options.in_flight_max, options.in_flight_bytes_max),
            near: options.near.clone(),
            #[cfg(not(madsim))]
            tls: options.tls.clone(),
        };
        Pool { dialer, peers: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peer(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.lock();
        if let Some(peer) = peers.get(address) {
            return Arc::clone(peer);
        }
        let peer = Arc::new(Peer::default());
        peers.insert(address.to_owned(), Arc::clone(&peer));
        peer
    }

    /// The connection to an address; dials if there is none.
    pub(crate) async fn connection(&self, address: &str) -> Dialled {
        let peer = self.peer(address);
        let dialling = {
            let mut state = peer.lock();
            match &*state {
                PeerState::Up(connection) if !connection.mux.is_broken() => {
                    return Ok(Arc::clone(connection));
                }
                PeerState::Dialling(dialling) => dialling.clone(),
                PeerState::Up(_) | PeerState::Down => {
                    let dialling =
                        start_dial(self.dialer.clone(), address.to_owned(), Arc::clone(&peer));
                    *state = PeerState::Dialling(dialling.clone());
                    dialling
                }
            }
        };
        dialling.await.unwrap_or_else(|_| {
            Err(Error::new(Code::Unreachable, format!("the dial of {address} was given up")))
        })
    }

    /// A channel for unary calls: that of the connection if there is one, otherwise a new one.
    pub(crate) async fn channel(&self, address: &str) -> Result<Channel, Error> {
        let known = self.lock().get(address).map(Arc::clone);
        if let Some(peer) = known
            && let PeerState::Up(connection) = &*peer.lock()
            && !connection.mux.is_broken()
        {
            return Ok(connection.channel.clone());
        }
        self.dialer.dial(address).await
    }

    /// The longest time that dialling or a first unary call may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.dialer.connect_timeout
    }
}

/// Dials in a task of its own, so that a caller who gives up does not stop it for the others.
fn start_dial(
    dialer: Dialer,
    address: String,
    peer: Arc<Peer>,
) -> Shared<oneshot::Receiver<Dialled>> {
    let (tell, dialled) = oneshot::channel();
    tokio::spawn(async move {
        let result = open(dialer, &address).await;
        *peer.lock() = match &result {
            Ok(connection) => PeerState::Up(Arc::clone(connection)),
            Err(_) => PeerState::Down,
        };
        let _everybody_has_given_up = tell.send(result).is_err();
    });
    dialled.shared()
}

async fn open(dialer: Dialer, address: &str) -> Dialled {
    let channel = dialer.dial(address).await?;
    let Dialer { cluster, connect_timeout, in_flight, near, .. } = dialer;
    let opening = Mux::open(channel.clone(), address, cluster, in_flight, near.as_deref());
    let mux = timeout(connect_timeout, opening)
        .await
        .map_err(|_| too_slow("the stream to", address, connect_timeout))??;
    Ok(Arc::new(Connection { channel, mux }))
}

impl Dialer {
    async fn dial(&self, address: &str) -> Result<Channel, Error> {
        let malformed = |error: tonic::transport::Error| {
            Error::new(Code::InvalidRequest, format!("address {address:?} is malformed: {error}"))
        };
        // The scheme is a word in headers; what `connect` returns decides about TLS.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(malformed)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true);
        match timeout(self.connect_timeout, self.connect(&endpoint)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(of_transport(&error).unwrap_or_else(|| {
                let message = format!("cannot connect to {address}: {}", innermost(&error));
                Error::new(Code::Unreachable, message)
            })),
            Err(_) => Err(too_slow("connecting to", address, self.connect_timeout)),
        }
    }

    #[cfg(not(madsim))]
    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        match self.tls.clone() {
            Some(tls) => {
                let dial = quorate_tls::Dial::new(tls, quorate_tls::Expected::AnyNode);
                endpoint.connect_with_connector(dial).await
            }
            None => endpoint.connect().await,
        }
    }

    #[cfg(madsim)]
    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect().await
    }
}

/// The coded error that a transport carries, or means: a connection in TLS that failed, or a server that
/// wants one.
fn of_transport(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(coded) = error.downcast_ref::<Error>() {
            return Some(coded.clone());
        }
        #[cfg(not(madsim))]
        if quorate_tls::is_refusal_of_plain_text(&error.to_string()) {
            return Some(Error::new(
                Code::TlsMismatch,
                "the server speaks TLS, this client does not",
            ));
        }
        at = error.source();
    }
    None
}

/// What a status means that did not come from our server but from the transport: an error of its own, or
/// that the connection failed.
pub(crate) fn of_status(status: &Status, otherwise: impl FnOnce(&str) -> String) -> Error {
    of_transport(status)
        .unwrap_or_else(|| Error::new(Code::Unreachable, otherwise(status.message())))
}

/// The cause at the bottom: "connection refused" instead of "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().to_lowercase()
}

fn too_slow(what: &str, address: &str, limit: Duration) -> Error {
    Error::new(Code::Unreachable, format!("{what} {address} took longer than {}", show(limit)))
}

/// How a unary call ended that did not end well.
pub(crate) fn end_of_unary(address: &str, status: &Status) -> End {
    match error_from_status(status) {
        Some(error) => End::Refused(error),
        None => {
            End::Lost(of_status(status, |said| format!("the call to {address} failed: {said}")))
        }
    }
}

/// Asks a node for the cluster file; `None` if it has the version that is known.
pub(crate) async fn fetch_topology(
    pool: &Pool,
    address: &str,
    known_version: u64,
    cluster: Option<ClusterId>,
) -> Result<Option<Arc<Topology>>, Error> {
    let channel = pool.channel(address).await?;
    let mut client =
        TopologyClient::new(channel).max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
    let request = v1::GetTopologyRequest { known_version };
    let response = timeout(pool.connect_timeout(), client.get_topology(request))
        .await
        .map_err(|_| too_slow("asking for the topology at", address, pool.connect_timeout()))?
        .map_err(|status| match end_of_unary(address, &status) {
            End::NotSent(error) | End::Lost(error) | End::Refused(error) => error,
        })?;
    let text = TopologyText::from_wire(response.into_inner())?;
    if let Some(wanted) = cluster
        && wanted != text.cluster
    {
        let message = format!("{address} belongs to cluster {}, not {wanted}", text.cluster);
        let error = Error::new(Code::ClusterMismatch, message);
        return Err(error.with("cluster_id", text.cluster).with("expected_cluster_id", wanted));
    }
    let Some(toml) = text.toml else { return Ok(None) };
    let topology = Topology::parse_named(&format!("cluster file of {address}"), &toml)?;
    if topology.cluster_id() != text.cluster {
        let message = format!("{address} names cluster {} but its file does not", text.cluster);
        return Err(Error::new(Code::ClusterMismatch, message));
    }
    Ok(Some(Arc::new(topology)))
}
