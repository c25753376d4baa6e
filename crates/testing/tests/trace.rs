//! A trace on its way: from the caller through the client to what the node logs. In a program of its own,
//! because the node logs in a thread of its own.
#![cfg(not(madsim))]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use quorate_client::Uid;
use quorate_proto::v1::GetRequest;
use quorate_proto::v1::kv_client::KvClient;
use quorate_testing::Server;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENTS: [&str; 2] = ["00f067aa0ba902b7", "00f067aa0ba902b8"];

type Fields = BTreeMap<&'static str, String>;

/// Keeps what nodes log of requests.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Fields>>>);

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "quorate_server::request"
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        self.0.lock().expect("no test panics while it holds this").push(fields);
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

#[tokio::test]
async fn a_node_logs_requests_under_the_span_of_their_caller() {
    // Goal: trace and parent as the caller gave them, from our client and from a plain unary call; a
    // request without a trace is not logged.
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let server = Server::start().await.unwrap();
    let traceparent = |parent: &str| format!("00-{TRACE}-{parent}-01");
    let ours = traceparent(PARENTS[0]);
    let client = server.client_builder().trace_context(move || Some(ours.clone()));
    let client = client.build().await.unwrap();
    let untraced = server.client().await.unwrap();
    untraced.put("rows", Uid(42), "k", 1).await.unwrap();
    client.get("rows", Uid(42), "k").await.unwrap();

    let endpoint = format!("http://{}", server.endpoint());
    let mut plain = KvClient::connect(endpoint).await.unwrap();
    let get = GetRequest { uid: 42, key: b"k".to_vec().into(), ..GetRequest::default() };
    let mut request = tonic::Request::new(GetRequest { table: "rows".to_owned(), ..get });
    let header = traceparent(PARENTS[1]).parse().unwrap();
    request.metadata_mut().insert("traceparent", header);
    plain.get(request).await.unwrap();

    let told = log.0.lock().unwrap().clone();
    let parents: Vec<&str> = told.iter().map(|fields| fields["parent_id"].as_str()).collect();
    assert_eq!(parents, PARENTS);
    for fields in told {
        assert_eq!((fields["trace_id"].as_str(), fields["code"].as_str()), (TRACE, "OK"));
    }
}
