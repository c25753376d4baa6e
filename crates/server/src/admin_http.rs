//! The admin port: liveness, readiness line by line, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quorate_types::Error;
use serde::Deserialize;
use tokio::net::TcpListener;
use tracing::warn;

use crate::context::NodeContext;
use crate::listen::{bind_error, parse};
use crate::metrics;
use crate::peer_network::PeerNetwork;

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
    let admin = Arc::new(Admin { context, network });
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(serve_metrics))
        .with_state(admin);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
        warn!(%error, "the admin port stopped");
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

async fn serve_metrics(State(admin): State<Arc<Admin>>) -> Response {
    match metrics::render(&admin.context, &admin.network).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
