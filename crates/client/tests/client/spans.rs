//! What somebody who listens learns of a call, and what a node learns of the trace it is in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quorate_client::{Client, Code, SPAN_FIELDS, Uid};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::nodes::{Fault, Nodes};
use super::retries::refuse;

const USER: Uid = Uid(0);
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type Fields = BTreeMap<&'static str, String>;

/// Keeps the spans of calls.
#[derive(Clone, Default)]
struct Listener {
    next: Arc<AtomicU64>,
    spans: Arc<Mutex<BTreeMap<u64, Fields>>>,
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "quorate_client::call"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut Into(&mut fields));
        self.spans.lock().expect("no test panics while it holds this").insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.spans.lock().expect("no test panics while it holds this");
        values.record(&mut Into(spans.get_mut(&span.into_u64()).expect("it was made here")));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, _event: &Event<'_>) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

impl Listener {
    fn last(&self) -> Fields {
        self.spans
            .lock()
            .expect("no test panics while it holds this")
            .values()
            .last()
            .cloned()
            .expect("there was a call")
    }
}

#[tokio::test]
async fn every_call_tells_what_became_of_it() {
    // Goal: the fields of a span, by the names that are promised, after success and after failure.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap();
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    nodes.order(1, [refuse(Code::NotReady)]);
    client.put("load", USER, "k", 1).await.unwrap();
    let route = client.route("load", USER).unwrap();
    let group = route.group.0.to_string();
    let wanted = ["put", "0", group.as_str(), route.unit.as_str(), "2", "applied", "OK"];
    let wanted: BTreeMap<_, _> = SPAN_FIELDS.into_iter().zip(wanted.map(str::to_owned)).collect();
    assert_eq!(listener.last(), wanted);
    client.get("load", USER, "k").await.unwrap();
    let told = listener.last();
    assert_eq!((told["operation"].as_str(), told["outcome"].as_str()), ("get", "read"));

    let conflict = client.compare_and_set("load", USER, "k", None, None).await;
    let told = listener.last();
    assert_eq!(told["code"], conflict.unwrap_err().code().name());
    let told = ["operation", "outcome"].map(|name| told[name].clone());
    assert_eq!(told, ["compare_and_set", "not_applied"]);
    for node in [1, 2, 3] {
        nodes.order(node, vec![Fault::Mute; 50]);
    }
    let hurried = client.with_timeout(std::time::Duration::from_millis(100));
    hurried.delete("load", USER, "k").await.unwrap_err();
    let told = ["operation", "outcome", "code"].map(|name| listener.last()[name].clone());
    assert_eq!(told, ["delete", "unknown", "DEADLINE_EXCEEDED"]);
}

#[tokio::test]
async fn the_context_of_a_trace_goes_with_its_request_and_with_no_other() {
    // Goal: nodes learn of the trace of a sampled request; retries carry the same; requests without a trace
    // share their stream as always.
    let nodes = Nodes::start(&[1, 2, 3]);
    nodes.client().await; // Returns when the servers are up.
    let context = Arc::new(Mutex::new(None::<String>));
    let asked = Arc::clone(&context);
    let builder =
        Client::builder(nodes.address(1)).trace_context(move || asked.lock().unwrap().clone());
    let client = builder.build().await.unwrap();
    client.put("load", USER, "k", 1).await.unwrap();
    let shared = nodes.world().traceparents.clone();
    assert_eq!(shared, [None]);
    nodes.order(1, [refuse(Code::NotReady)]);
    *context.lock().unwrap() = Some(SAMPLED.to_owned());
    client.put("load", USER, "k", 2).await.unwrap();
    let sampled = Some(SAMPLED.to_owned());
    assert_eq!(nodes.world().traceparents, [None, sampled.clone(), sampled.clone()]);
    for said in [SAMPLED.replace("-01", "-00"), "nonsense".to_owned()] {
        *context.lock().unwrap() = Some(said);
        client.put("load", USER, "k", 3).await.unwrap();
    }
    assert_eq!(nodes.world().traceparents.len(), 3, "they took the shared stream");
    *context.lock().unwrap() = Some(SAMPLED.to_owned());
    nodes.order(1, [Fault::BreakAfter]);
    let committed = client.transaction().add("load", USER, "sum", 1).commit().await.unwrap();
    assert_eq!((committed.replayed, committed.sums), (true, vec![1]), "once, as ever");
}
