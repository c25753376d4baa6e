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
