//! The admin port: liveness, readiness line by line, metrics.
//!
//! Where the node has certificates the port speaks TLS. Whether a node lives and is ready is told to
//! everybody, because load balancers and supervisors have no certificates; its metrics are for members.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use quorate_tls::{Admitted, FirstWord};
use quorate_types::Error;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::warn;

use crate::access::Caller;
use crate::context::NodeContext;
use crate::listen::{bind_error, parse};
use crate::metrics;
use crate::peer_network::PeerNetwork;
use crate::secured::{Guard, Secured};

/// A shard that does not answer this long is stuck.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

struct Admin {
    context: Arc<NodeContext>,
    network: Arc<PeerNetwork>,
}

/// Binds the admin address.
pub(crate) async fn bind(address: &str) -> Result<TcpListener, Error> {
    let socket = parse(address)?;
    TcpListener::bind(socket).await.map_err(|error| bind_error(address, &error))
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    context: Arc<NodeContext>,
    network: Arc<PeerNetwork>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let guard = context.tls.clone().map(|tls| {
        let context = Arc::clone(&context);
        Guard { context, tls, admitted: Admitted::Everybody, first_word: FirstWord::Caller }
    });
    let admin = Arc::new(Admin { context, network });
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(serve_metrics))
        .with_state(admin)
        .into_make_service_with_connect_info::<Caller>();
    let served = match guard {
        None => axum::serve(listener, router).with_graceful_shutdown(shutdown).await,
        Some(guard) => {
            let address = listener.local_addr();
            let secured = SecuredListener { secured: guard.secure(listener.into()), address };
            axum::serve(secured, router).with_graceful_shutdown(shutdown).await
        }
    };
    if let Err(error) = served {
        warn!(%error, "the admin port stopped");
    }
}

/// The port with certificates.
struct SecuredListener {
    secured: mpsc::Receiver<Secured>,
    address: io::Result<SocketAddr>,
}

impl axum::serve::Listener for SecuredListener {
    type Io = Secured;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Secured, Option<SocketAddr>) {
        match self.secured.recv().await {
            Some(secured) => {
                let address = secured.caller.address;
                (secured, address)
            }
            // Nobody comes any more; the shutdown ends the wait.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &self.address {
            Ok(address) => Ok(Some(*address)),
            Err(error) => Err(io::Error::from(error.kind())),
        }
    }
}

impl Connected<IncomingStream<'_, SecuredListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, SecuredListener>) -> Caller {
        stream.io().caller.clone()
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Caller {
        Caller { address: Some(*stream.remote_addr()), ..Caller::default() }
    }
}

/// Alive if the shard answers.
async fn livez(State(admin): State<Arc<Admin>>) -> Response {
    match tokio::time::timeout(ALIVE_WITHIN, admin.context.shard.status()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ok\n").into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(_elapsed) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the shard does not answer\n").into_response()
        }
    }
}

#[derive(Deserialize)]
struct ReadyQuery {
    /// `?verbose`, with or without a value.
    verbose: Option<String>,
}

/// Ready if the node has room, is not leaving, and every group of it knows a leader.
async fn readyz(State(admin): State<Arc<Admin>>, Query(query): Query<ReadyQuery>) -> Response {
    let status = match admin.context.shard.status().await {
        Ok(status) => status,
        Err(error) => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("[-]shard {error}\n"))
                .into_response();
        }
    };
    let leaderless: Vec<String> = status
        .groups
        .iter()
        .filter(|g| g.core.leader.is_none())
        .map(|g| g.group.to_string())
        .collect();
    let checks = [
        ("shard", None),
        ("draining", status.draining.then(|| "the node is leaving".to_owned())),
        ("log_disk", (!status.has_room).then(|| "the disk reserve is reached".to_owned())),
        (
            "leaders",
            (!leaderless.is_empty())
                .then(|| format!("no leader known for {}", leaderless.join(", "))),
        ),
    ];
    let ready = checks.iter().all(|(_, problem)| problem.is_none());
    let mut body = String::new();
    if query.verbose.is_some() || !ready {
        for (name, problem) in &checks {
            match problem {
                None => body.push_str(&format!("[+]{name} ok\n")),
                Some(problem) => body.push_str(&format!("[-]{name} {problem}\n")),
            }
        }
    }
    body.push_str(if ready { "ready\n" } else { "not ready\n" });
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, body).into_response()
}

async fn serve_metrics(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Response {
    if let Err(error) = admin.context.admit(&caller, "metrics") {
        return (StatusCode::FORBIDDEN, format!("{error}\n")).into_response();
    }
    match metrics::render(&admin.context, &admin.network).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
