//! What the client does about faults: which attempts it makes, and what it then reports.

use std::time::Duration;

use quorate_client::{Code, Outcome, Phase, Topology, Uid, Value};
use quorate_types::Error;
use tokio::time::Instant;

use super::nodes::{Fault, Nodes, load_row};

const USER: Uid = Uid(0);

pub(crate) fn refuse(code: Code) -> Fault {
    Fault::Refuse(Error::new(code, "ordered by the test"))
}

#[tokio::test]
async fn a_hint_is_followed_at_once_and_remembered() {
    // Goal: one attempt at the wrong node, one at the leader; the next call goes to the leader.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap(); // Opens the session at node 1.
    nodes.world().seen.clear();
    nodes.world().leader = 3;
    client.put("load", USER, "k", 1).await.unwrap();
    assert_eq!(nodes.nodes_asked(), [1, 3]);
    client.put("load", USER, "k", 2).await.unwrap();
    assert_eq!(nodes.nodes_asked(), [1, 3, 3]);
    assert_eq!(nodes.world().effects, 3);
}

#[tokio::test]
async fn without_a_hint_the_members_are_asked_in_turn() {
    // Goal: the leader order of the cluster file, then from the start.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [refuse(Code::NotLeader), refuse(Code::NotLeader)]);
    nodes.order(2, [refuse(Code::NotLeader)]);
    nodes.order(3, [refuse(Code::NotLeader)]);
    assert_eq!(client.get("load", USER, "k").await.unwrap(), None);
    let asked = nodes.nodes_asked();
    // The fifth is node 2, which is not ordered to hide the leader any more; it names node 1.
    assert_eq!(asked, [1, 2, 3, 1, 2, 1]);
}

#[tokio::test]
async fn a_lost_write_is_sent_again_under_its_id_and_takes_effect_once() {
    // Goal: the effect of an attempt whose stream broke is found again, not repeated.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [Fault::BreakAfter]);
    let committed = client.transaction().add("load", USER, "sum", 1).commit().await.unwrap();
    assert!(committed.replayed);
    assert_eq!(committed.sums, [1]);
    let world = nodes.world();
    assert_eq!(world.effects, 1);
    assert_eq!(world.rows[&load_row(0, "sum")], Value::Integer(1));
    let ids: Vec<_> = world.seen.iter().map(|seen| seen.id).collect();
    assert!(1 < ids.len() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_write_that_was_never_looked_at_is_sent_again() {
    // Goal: the same fault before the effect; the caller cannot tell, and need not.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [Fault::BreakBefore, Fault::BreakBefore]);
    let committed = client.transaction().add("load", USER, "sum", 1).commit().await.unwrap();
    assert_eq!((committed.replayed, committed.sums), (false, vec![1]));
    assert_eq!(nodes.world().effects, 1);
}

#[tokio::test]
async fn a_silent_node_costs_one_attempt() {
    // Goal: a node that hangs does not hold a call until its deadline.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [Fault::Swallow]);
    let started = Instant::now();
    client.put("load", USER, "k", 1).await.unwrap();
    let took = started.elapsed();
    assert!(Duration::from_millis(290) <= took && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(nodes.world().effects, 1);
}

#[tokio::test]
async fn an_unanswered_write_is_unknown_and_says_what_was_tried() {
    // Goal: at the deadline the caller learns that it may have taken effect, and everything else.
    let (nodes, client) = Nodes::with_client().await;
    for node in [1, 2, 3] {
        nodes.order(node, vec![Fault::Mute; 50]);
    }
    let hurried = client.with_timeout(Duration::from_millis(800));
    let error = hurried.put("load", USER, "k", 1).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::Unknown));
    assert_eq!(nodes.world().effects, 1, "all attempts had one id");
    assert!(2 <= error.attempts() && error.phase().is_some());
    let text = error.to_string();
    for part in [nodes.address(1), "800 ms", "attempts", "last answer", "may have taken effect"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!error.is_retryable());
    // The server was told how much time was left, less each time.
    let left: Vec<Duration> = nodes.world().seen.iter().map(|seen| seen.time_left).collect();
    assert!(left.is_sorted_by(|earlier, later| later < earlier), "{left:?}");
    assert!(left[0] <= Duration::from_millis(800));
}

#[tokio::test]
async fn a_write_refused_until_the_deadline_is_not_applied() {
    // Goal: refusals alone never make an outcome unknown; only an attempt that the deadline finds
    // on its way does.
    let (nodes, client) = Nodes::with_client().await;
    for node in [1, 2, 3] {
        nodes.order(node, vec![refuse(Code::NoQuorum); 1000]);
    }
    let hurried = client.with_timeout(Duration::from_millis(600));
    let error = hurried.put("load", USER, "k", 1).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let was_under_way = error.phase() == Some(Phase::Wait);
    assert_eq!(error.outcome() == Outcome::Unknown, was_under_way);
    assert_eq!(error.is_retryable(), !was_under_way);
    assert_eq!(error.last_answer().map(|last| last.code), Some(Code::NoQuorum));
    assert_eq!(error.endpoints().len(), 3);
    assert_eq!(nodes.world().effects, 0);
}

#[tokio::test]
async fn nothing_is_sent_when_no_time_is_left() {
    // Goal: a request whose deadline has passed before it is sent reaches no node.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap();
    nodes.world().seen.clear();
    let error = client.with_timeout(Duration::ZERO).put("load", USER, "k", 1).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::NotApplied));
    client.put("load", USER, "k", 2).await.unwrap();
    assert_eq!(nodes.nodes_asked(), [1]);
    assert_eq!(nodes.world().effects, 2);
}

#[tokio::test]
async fn an_overloaded_server_is_given_the_time_it_asks_for() {
    // Goal: `retry_after` is waited for, and reported at once if there is not so much time.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap();
    nodes.world().seen.clear();
    let overloaded = |ms| {
        let error = Error::new(Code::Overloaded, "too much to do");
        Fault::Refuse(error.after(Duration::from_millis(ms)))
    };
    nodes.order(1, [overloaded(200)]);
    let started = Instant::now();
    client.put("load", USER, "k", 1).await.unwrap();
    assert!(Duration::from_millis(200) <= started.elapsed());
    assert_eq!(nodes.nodes_asked(), [1, 1]);

    nodes.order(1, [overloaded(60_000)]);
    let started = Instant::now();
    let error = client.put("load", USER, "k", 2).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!((error.code(), error.outcome()), (Code::Overloaded, Outcome::NotApplied));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_refusal_after_a_lost_attempt_is_unknown() {
    // Goal: a lost attempt may still arrive, so a later refusal proves nothing about it.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [Fault::BreakBefore]);
    let expected = Some(Value::Integer(7));
    let error =
        client.compare_and_set("load", USER, "k", expected.clone(), None).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::OutcomeUnknown, Outcome::Unknown));
    assert_eq!(error.last_answer().map(|last| last.code), Some(Code::ConditionFailed));

    let error = client.compare_and_set("load", USER, "k", expected, None).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ConditionFailed, Outcome::NotApplied));
    assert_eq!(error.attempts(), 1);
}

#[tokio::test]
async fn an_expired_session_is_replaced_unless_an_attempt_is_open() {
    // Goal: nothing happened under the old id, so a new one is safe; otherwise it is not.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "k", 1).await.unwrap();
    nodes.world().sessions.clear();
    client.put("load", USER, "k", 2).await.unwrap();
    let sessions: Vec<_> =
        nodes.world().seen.iter().filter_map(|seen| seen.id).map(|id| id.session).collect();
    assert_eq!(sessions.len(), 3);
    assert!(sessions[0] == sessions[1] && sessions[1] != sessions[2], "{sessions:?}");

    // Now the stream breaks after the effect, and the session is gone when the client asks again.
    nodes.order(1, [Fault::BreakAfter, refuse(Code::SessionExpired)]);
    let error = client.put("load", USER, "k", 3).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::OutcomeUnknown, Outcome::Unknown));
    assert_eq!(error.last_answer().map(|last| last.code), Some(Code::SessionExpired));
    assert_eq!(nodes.world().rows[&load_row(0, "k")], Value::Integer(3), "it had taken effect");

    // The next write opens a new session.
    client.put("load", USER, "k", 4).await.unwrap();
    let last = nodes.world().seen.last().and_then(|seen| seen.id).unwrap();
    assert_ne!(last.session, sessions[2]);
}

#[tokio::test]
async fn reads_are_repeated_freely_and_have_no_effect() {
    // Goal: whatever happens to a read, its outcome is NotApplied and it may be made again.
    let (nodes, client) = Nodes::with_client().await;
    nodes.order(1, [Fault::BreakAfter, refuse(Code::OutcomeUnknown), refuse(Code::NotReady)]);
    assert_eq!(client.get("load", USER, "k").await.unwrap(), None);
    nodes.order(1, vec![Fault::Swallow; 20]);
    let hurried = client.with_timeout(Duration::from_millis(700));
    let error = hurried.get("load", USER, "k").await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::NotApplied));
    assert!(error.has_no_side_effects() && error.is_retryable());
}

#[tokio::test]
async fn a_wrong_unit_makes_the_client_fetch_the_topology() {
    // Goal: one refresh, then the request goes where the new topology says.
    let (nodes, client) = Nodes::with_client().await;
    let text = nodes.world().topology.text().replace("version = 1", "version = 2");
    nodes.world().topology = Topology::parse(&text).unwrap();
    nodes.order(1, [refuse(Code::WrongUnit)]);
    client.put("load", USER, "k", 1).await.unwrap();
    assert_eq!(client.topology().version(), 2);
    // A server that insists is believed.
    nodes.order(1, [refuse(Code::WrongUnit), refuse(Code::WrongUnit)]);
    let error = client.put("load", USER, "k", 2).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::WrongUnit, Outcome::NotApplied));
    assert_eq!(nodes.world().effects, 1);
}

#[tokio::test]
async fn a_node_that_is_down_is_passed_over() {
    // Goal: the call finds the leader among the nodes that are up.
    let nodes = Nodes::start(&[2, 3]);
    nodes.world().leader = 3;
    let client = nodes.client().await;
    client.put("load", USER, "k", 1).await.unwrap();
    assert_eq!(nodes.world().effects, 1);
    let first = client.route("load", USER).unwrap().candidates[0].0;
    assert_eq!(first.0, 3, "the leader is remembered");
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_number_back() {
    // Goal: a caller that lost interest does not stop the window of the session.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap();
    nodes.order(1, [Fault::Mute]);
    let dropped = client.put("load", USER, "k", 1);
    let waited = tokio::time::timeout(Duration::from_millis(100), dropped).await;
    assert!(waited.is_err(), "it is not answered");
    client.put("load", USER, "k", 2).await.unwrap();
    client.put("load", USER, "k", 3).await.unwrap();
    let last = nodes.world().seen.last().and_then(|seen| seen.id).unwrap();
    assert_eq!(last.lowest_unanswered, last.sequence, "nothing is open below");
}

#[tokio::test]
async fn what_is_queued_behind_a_broken_stream_is_settled() {
    // Goal: one broken stream fails nobody: every call finds its own way to the one effect.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", USER, "warm", 1).await.unwrap();
    nodes.order(1, [Fault::BreakAfter, Fault::BreakBefore, Fault::BreakAfter]);
    let add = |_| {
        let client = client.clone();
        async move { client.transaction().add("load", USER, "sum", 1).commit().await }
    };
    let committed = futures::future::join_all((0..100).map(add)).await;
    assert!(committed.iter().all(Result::is_ok));
    assert_eq!(nodes.world().rows[&load_row(0, "sum")], Value::Integer(100));
    assert_eq!(nodes.world().effects, 101);
}
