//! The server and its faults: what a test may rely on.
#![cfg(not(madsim))]

use std::time::{Duration, Instant};

use quorate_client::{Client, Code, Outcome, RetryPolicy, Uid, Value};
use quorate_testing::Server;
use quorate_types::Error;

const USER: Uid = Uid(42);

/// A client that never repeats, with its session open.
async fn once(server: &Server) -> Client {
    let builder = server.client_builder().retry(RetryPolicy::never());
    let client = builder.build().await.expect("it answers");
    client.put("rows", USER, "warm", 1).await.expect("nothing is ordered");
    client
}

#[tokio::test]
async fn a_server_is_there_at_once() {
    // Goal: nothing to wait for, however many there are; each is a cluster of its own.
    let started = Instant::now();
    let server = Server::start().await.unwrap();
    println!("started in {:?}", started.elapsed());
    let other = Server::start().await.unwrap();
    let (client, stranger) = (server.client().await.unwrap(), other.client().await.unwrap());
    println!("two servers and two clients after {:?}", started.elapsed());
    client.put("rows", USER, "k", 1).await.unwrap();
    assert_eq!(stranger.get("rows", USER, "k").await.unwrap(), None);
    assert_ne!(client.cluster_id(), stranger.cluster_id());
    let builder = Client::builder(other.endpoint()).cluster_id(client.cluster_id());
    assert_eq!(builder.build().await.unwrap_err().code(), Code::ClusterMismatch);
}

#[tokio::test]
async fn units_and_tables_are_as_given() {
    // Goal: what a test asks for is what its program sees.
    let server = Server::builder()
        .table("purchases")
        .global_table("rates")
        .unit("RZ00", "00-09")
        .unit("RZ01", "10-99")
        .start()
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    for (table, uid, unit) in
        [("purchases", 9, "RZ00"), ("purchases", 10, "RZ01"), ("rates", 0, "GZ")]
    {
        assert_eq!(client.route(table, Uid(uid)).unwrap().unit, unit);
        client.put(table, Uid(uid), "k", 1).await.unwrap();
    }
    let wrong = Server::builder().unit("RZ00", "00-09").start().await.unwrap_err();
    assert_eq!(wrong.code, Code::ConfigInvalid);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_effect_and_a_lost_request_does_not() {
    // Goal: the two look the same to a caller that does not ask again, and one that does takes effect once.
    let server = Server::start().await.unwrap();
    let client = once(&server).await;
    server.faults().lose_answers(1);
    let lost = client.put("rows", USER, "answer", 1).await.unwrap_err();
    server.faults().lose_requests(1);
    let never_seen = client.put("rows", USER, "request", 1).await.unwrap_err();
    for error in [lost, never_seen] {
        assert_eq!((error.code(), error.outcome()), (Code::OutcomeUnknown, Outcome::Unknown));
    }
    assert_eq!(client.get("rows", USER, "answer").await.unwrap(), Some(Value::Integer(1)));
    assert_eq!(client.get("rows", USER, "request").await.unwrap(), None);

    let patient = server.client().await.unwrap();
    patient.put("rows", USER, "warm", 1).await.unwrap();
    server.faults().lose_answers(2);
    let committed = patient.transaction().add("rows", USER, "sum", 1).commit().await.unwrap();
    assert_eq!((committed.replayed, committed.sums), (true, vec![1]));
    assert_eq!(server.faults().outstanding(), 0);
}

#[tokio::test]
async fn refusals_are_hidden_or_told_as_their_codes_say() {
    // Goal: a group without a leader is waited for, a full disk too, a lack of rights is not; nothing is
    // applied by what was refused.
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    server.faults().no_leader(3);
    server.faults().refuse(1, Code::DiskFull);
    let requests = server.faults().requests();
    client.put("rows", USER, "k", 1).await.unwrap();
    assert_eq!(server.faults().requests() - requests, 5);
    server.faults().refuse_with(1, Error::new(Code::PermissionDenied, "not you"));
    let error = client.put("rows", USER, "k", 2).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::PermissionDenied, "not you"));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(client.get("rows", USER, "k").await.unwrap(), Some(Value::Integer(1)));
}

#[tokio::test]
async fn a_slow_server_meets_deadlines() {
    // Goal: a call ends by its own deadline, says so, and the next one is as quick as ever.
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    client.put("rows", USER, "k", 1).await.unwrap();
    server.faults().slow(Duration::from_secs(60));
    let hurried = client.with_timeout(Duration::from_millis(100));
    let error = hurried.get("rows", USER, "k").await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::NotApplied));
    server.faults().clear();
    assert_eq!(client.get("rows", USER, "k").await.unwrap(), Some(Value::Integer(1)));
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    // Goal: a program is tested against the restart of its server; the same client goes on.
    let mut server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    for round in 0..3_u32 {
        let written = client.put("rows", USER, format!("k{round}"), round).await;
        written.unwrap_or_else(|error| panic!("round {round}: {error}"));
        server.restart().await.unwrap();
    }
    let rows = client.scan("rows", USER).prefix("k").collect_all().await.unwrap();
    assert_eq!(rows.len(), 3);
}
