//! What a node says about its health to balancers and generic tools, on real sockets.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::collections::BTreeSet;

use common::{Cluster, within};
use futures::StreamExt;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn channel(cluster: &Cluster, name: &str) -> Channel {
    let node = cluster.topology.node_by_name(name).expect("known");
    let address = format!("http://{}", node.client);
    within(async || Channel::from_shared(address.clone()).ok()?.connect().await.ok()).await
}

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn check(client: &mut HealthClient<Channel>, service: &str) -> Result<ServingStatus, Code> {
    let answer = client.check(asked(service)).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

/// Goal: a unit serves through a node exactly as long as the node knows leaders for the groups of it;
/// the node itself can be used without them, and a watch tells the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_serves_as_long_as_its_leaders_are_known() {
    let mut cluster = Cluster::start().await;
    let names = cluster.names();
    let units: Vec<String> =
        cluster.topology.units().map(|unit| format!("quorate.unit.{}", unit.name)).collect();
    assert!(units.contains(&"quorate.unit.RZ00".to_owned()));
    for name in &names {
        let mut client = HealthClient::new(channel(&cluster, name).await);
        assert_eq!(check(&mut client, "").await, Ok(ServingStatus::Serving));
        for unit in &units {
            // A follower hears of a leader a moment after it serves.
            within(async || {
                (check(&mut client, unit).await == Ok(ServingStatus::Serving)).then_some(())
            })
            .await;
        }
        for unknown in ["quorate.unit.RZ99", "RZ00"] {
            assert_eq!(check(&mut client, unknown).await, Err(Code::NotFound));
        }
    }
    let mut client = HealthClient::new(channel(&cluster, &names[2]).await);
    let mut watch = client.watch(asked("quorate.unit.RZ00")).await.expect("watch").into_inner();
    let first = watch.next().await.expect("a status").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    for name in &names[..2] {
        cluster.abort_node(name).await;
    }
    // While the leases run there may be a change to another leader and back.
    while watch.next().await.expect("a change").expect("a status").status()
        != ServingStatus::NotServing
    {}
    for unit in &units {
        within(async || {
            (check(&mut client, unit).await == Ok(ServingStatus::NotServing)).then_some(())
        })
        .await;
    }
    assert_eq!(check(&mut client, "").await, Ok(ServingStatus::Serving), "the node itself is fine");
}

/// Goal: generic tools find every service of the client port, and the messages of each.
#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service() {
    let cluster = Cluster::start().await;
    let mut client = ServerReflectionClient::new(channel(&cluster, "n1").await);
    let mut ask = async |message| {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let requests = futures::stream::iter([request]);
        let answers = client.server_reflection_info(requests).await.expect("reflection");
        let answer = answers.into_inner().next().await.expect("an answer").expect("an answer");
        answer.message_response.expect("a message")
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let found: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["Kv", "Bank", "Cuts", "Topology", "Admin"] {
        let name = format!("quorate.v1.{name}");
        assert!(found.contains(&name), "{name} is not among {found:?}");
        let described = ask(MessageRequest::FileContainingSymbol(name)).await;
        assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)));
    }
    assert!(found.contains("grpc.health.v1.Health"), "{found:?}");
}

/// Goal: a real node exports what the alert rules and the dashboard name, and nothing under a name that
/// OpenMetrics forbids.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_name_exported_metrics_only() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.put("load", quorate_types::Uid(1), "a", "one").await.expect("put");
    client.get("load", quorate_types::Uid(1), "a").await.expect("get");
    let mut exported = BTreeSet::new();
    for node in cluster.topology.nodes() {
        let text = scrape(&node.admin).await;
        assert!(text.ends_with("# EOF\n"), "the scrape is complete");
        exported.extend(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()),
        );
    }
    for name in ["quorate_request_seconds_bucket", "quorate_group_survives"] {
        assert!(exported.contains(name), "{name} is not among {exported:?}");
    }
    for file in ["prometheus/quorate.rules.yml", "grafana/quorate.json"] {
        let path = format!("{}/../../deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the file is there");
        let named = metrics_in(&text);
        assert!(5 < named.len(), "{file} names {named:?}");
        // Only nodes with certificates export it: `security.rs` looks there.
        let named: BTreeSet<String> =
            named.into_iter().filter(|name| name != "quorate_certificate_left_seconds").collect();
        let missing: Vec<&String> = named.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}, which no node exports");
    }
}

/// Every word that looks like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("quorate_")).map(str::to_owned).collect()
}

async fn scrape(address: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.split_once("\r\n\r\n").expect("head and body").1.to_owned()
}
