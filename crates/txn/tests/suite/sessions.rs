//! Sessions: a request takes effect once, whatever is retried, restarted or expired.

use std::time::Duration;

use crate::common::{
    BALLOT, Entry, GROUP, Leader, SPACE, Submitted, add, add_above, close, is_row, put, request,
    row, sums, transact, write,
};
use quorate_store::{Change, StoreError};
use quorate_txn::{EntryPayload, Evaluation, SessionTable, expire_idle};
use quorate_types::limits::{GROUP_SESSIONS_MAX, SESSION_IN_FLIGHT_MAX};
use quorate_types::{
    Code, Condition, EntryId, GroupId, LogTime, Reply, ReplyBody, Request, RequestBody, SessionId,
    Slot, Value,
};

const IDLE: Duration = Duration::from_secs(600);

fn proposed(submitted: Submitted) -> EntryId {
    match submitted {
        Submitted::Proposed(at) => at,
        other => panic!("expected a proposal, got {other:?}"),
    }
}

#[test]
fn a_retry_gets_the_first_result() {
    // Goal: the same id gives the first reply, read values included: after apply, after a restart,
    // after the rows changed. Once acknowledged, the number is used up, also after a restart.
    let mut leader = Leader::new();
    let session = leader.open();
    let id = |sequence, lowest| Some(request(session, sequence, lowest));
    let first = transact(id(1, 1), Vec::new(), vec![add("n", 5)], vec![row("n")]);
    let reply = leader.run(&first).expect("it may run");
    let body = ReplyBody::Committed { reads: vec![None], sums: vec![5] };
    assert_eq!(reply, Reply { at: reply.at, replayed: false, body });

    let again = Submitted::Replayed(Reply { replayed: true, ..reply });
    assert_eq!(leader.submit(&first), again);
    leader.run(&write(id(2, 1), vec![put("n", Value::Integer(100))])).expect("it may run");
    assert_eq!(leader.submit(&first), again);
    leader.replica.reload();
    assert_eq!(leader.submit(&first), again);

    leader.run(&write(id(3, 2), vec![add("n", 1)])).expect("it may run");
    assert_eq!(leader.submit(&first).code(), Some(Code::SequenceReused));
    leader.replica.reload();
    assert_eq!(leader.submit(&first).code(), Some(Code::SequenceReused));
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(101)));
}

#[test]
fn a_retry_in_flight_joins_the_first_attempt() {
    // Goal: while the first attempt is uncommitted, a retry waits for it and adds no entry.
    let mut leader = Leader::new();
    let session = leader.open();
    let asked = write(Some(request(session, 1, 1)), vec![add("n", 5)]);
    let at = proposed(leader.submit(&asked));
    assert_eq!(leader.submit(&asked), Submitted::Joined(at.slot));
    leader.apply_all();
    assert!(leader.pending.is_empty());
    assert!(matches!(leader.submit(&asked), Submitted::Replayed(reply) if reply.at == at));
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(5)));
}

#[test]
fn after_a_lost_ballot_a_retry_is_evaluated_anew() {
    // Goal: an entry that was never chosen leaves nothing behind that blocks or answers the retry.
    let mut leader = Leader::new();
    let session = leader.open();
    let asked = write(Some(request(session, 1, 1)), vec![add("n", 5)]);
    leader.submit(&asked);
    leader.lose_ballot();
    assert_eq!(leader.run(&asked).expect("it may run").body, sums(&[5]));
}

#[test]
fn a_refused_request_may_be_asked_again() {
    // Goal: a refusal leaves no result, so the same id can succeed once the rows allow it.
    let mut leader = Leader::new();
    let session = leader.open();
    let asked = write(Some(request(session, 1, 1)), vec![add_above("n", -1, 0)]);
    assert_eq!(leader.submit(&asked).code(), Some(Code::GuardFailed));
    leader.run(&write(None, vec![add("n", 1)])).expect("it may run");
    assert_eq!(leader.run(&asked).expect("1 is there").body, sums(&[0]));
}

#[test]
fn a_transaction_with_an_id_has_a_result_even_if_it_changes_nothing() {
    // Goal: an id always answers the same, so a read under an id is an entry; it also keeps the
    // session alive.
    let mut leader = Leader::new();
    let session = leader.open();
    leader.now = LogTime(5000);
    let id = Some(request(session, 1, 1));
    let asked = transact(id, vec![Condition::Absent(row("n"))], Vec::new(), vec![row("n")]);
    let reply = leader.run(&asked).expect("it may run");
    leader.run(&write(None, vec![add("n", 1)])).expect("it may run");
    assert_eq!(leader.run(&asked), Ok(Reply { replayed: true, ..reply }));
    let idle = leader.replica.sessions.expired(LogTime(6000), Duration::from_millis(1001));
    assert_eq!(idle, []);
}

#[test]
fn wrong_ids_are_refused() {
    // Goal: every id that cannot be answered has its own code and proposes nothing.
    let mut leader = Leader::new();
    let session = leader.open();
    let elsewhere = SessionId { group: GroupId(8), ..session };
    let unknown = SessionId { slot: Slot(999), ..session };
    let cases = [
        (request(elsewhere, 1, 1), Code::InvalidRequest),
        (request(unknown, 1, 1), Code::SessionExpired),
        (request(session, 0, 0), Code::InvalidRequest),
        (request(session, 1, 2), Code::InvalidRequest),
    ];
    for (id, code) in cases {
        assert_eq!(leader.submit(&write(Some(id), vec![add("n", 1)])).code(), Some(code), "{id:?}");
    }
    assert_eq!(leader.submit(&close(elsewhere)).code(), Some(Code::InvalidRequest));
    assert_eq!(leader.submit(&close(unknown)).code(), Some(Code::SessionExpired));
}

#[test]
fn a_request_in_flight_already_acknowledges() {
    // Goal: a number that an entry in flight acknowledges is not proposed behind it, where it would
    // be skipped while others were decided on top of it.
    let mut leader = Leader::new();
    let session = leader.open();
    proposed(leader.submit(&write(Some(request(session, 5, 4)), vec![add("n", 1)])));
    let late = |sequence| write(Some(request(session, sequence, 1)), vec![add("n", 1)]);
    assert_eq!(leader.submit(&late(3)).code(), Some(Code::SequenceReused));
    proposed(leader.submit(&late(4)));
    for applied in leader.apply_all() {
        applied.reply.expect("what was proposed takes effect");
    }
}

#[test]
fn a_full_session_refuses_and_never_evicts() {
    // Goal: at SESSION_IN_FLIGHT_MAX held or in flight the session refuses; acknowledging makes room;
    // every result not acknowledged is still there.
    let limit = u64::try_from(SESSION_IN_FLIGHT_MAX).expect("it is small");
    let mut leader = Leader::new();
    let session = leader.open();
    let asked =
        |sequence, lowest| write(Some(request(session, sequence, lowest)), vec![add("n", 1)]);
    for sequence in 1..=limit / 2 {
        leader.run(&asked(sequence, 1)).expect("there is room");
    }
    for sequence in limit / 2 + 1..=limit {
        proposed(leader.submit(&asked(sequence, 1)));
    }
    assert_eq!(leader.submit(&asked(limit + 1, 1)).code(), Some(Code::SessionFull));
    leader.apply_all();
    assert_eq!(leader.submit(&asked(limit + 1, 1)).code(), Some(Code::SessionFull));
    assert!(matches!(leader.submit(&asked(1, 1)), Submitted::Replayed(_)));

    let reply = leader.run(&asked(limit + 1, 2)).expect("one was acknowledged");
    assert_eq!(reply.body, sums(&[i64::try_from(limit + 1).expect("it is small")]));
    assert_eq!(leader.submit(&asked(limit + 2, 2)).code(), Some(Code::SessionFull));
    for sequence in 2..=limit {
        assert!(matches!(leader.submit(&asked(sequence, 2)), Submitted::Replayed(_)), "{sequence}");
    }
}

#[test]
fn a_group_takes_so_many_sessions() {
    // Goal: open sessions and those being opened count together; closing one makes room.
    let mut leader = Leader::new();
    let open = Request { id: None, body: RequestBody::OpenSession };
    let session = leader.open();
    for _ in 1..GROUP_SESSIONS_MAX {
        proposed(leader.submit(&open));
    }
    assert_eq!(leader.submit(&open).code(), Some(Code::SessionLimit));
    leader.apply_all();
    assert_eq!(leader.submit(&open).code(), Some(Code::SessionLimit));
    assert_eq!(leader.replica.sessions.len(), GROUP_SESSIONS_MAX);
    assert_eq!(leader.run(&close(session)).expect("it is open").body, ReplyBody::SessionClosed);
    proposed(leader.submit(&open));
}

#[test]
fn closing_takes_the_results_along() {
    // Goal: a closed session leaves no record, takes no more writes from the moment its end is
    // proposed, and a second close joins the first.
    let mut leader = Leader::new();
    let empty = leader.replica.records.clone();
    let session = leader.open();
    let asked = |sequence| write(Some(request(session, sequence, 1)), vec![add("n", 1)]);
    let clean = write(None, vec![quorate_types::Mutation::Delete(row("n"))]);
    leader.run(&asked(1)).expect("it may run");
    leader.replica.checkpoint();
    let before = proposed(leader.submit(&asked(2)));
    let at = proposed(leader.submit(&close(session)));
    assert_eq!(leader.submit(&close(session)), Submitted::Joined(at.slot));
    assert_eq!(leader.submit(&asked(2)), Submitted::Joined(before.slot));
    assert_eq!(leader.submit(&asked(3)).code(), Some(Code::SessionExpired));
    for applied in leader.apply_all() {
        applied.reply.expect("what was proposed takes effect");
    }
    assert_eq!(leader.submit(&asked(2)).code(), Some(Code::SessionExpired));
    assert_eq!(leader.submit(&close(session)).code(), Some(Code::SessionExpired));
    leader.run(&clean).expect("it may run");
    leader.replica.checkpoint();
    assert_eq!(leader.replica.records, empty);
    assert!(leader.pending.is_empty());
}

#[test]
fn idle_sessions_end_by_an_entry_only() {
    // Goal: passing the limit alone changes nothing; the entry does; use, requests in flight and
    // attempts over several groups keep a session.
    let mut leader = Leader::new();
    let idle = leader.open();
    let used = leader.open();
    let in_flight = leader.open();
    let asked = |session, sequence| write(Some(request(session, sequence, 1)), vec![add("n", 1)]);
    leader.now = LogTime(600_000);
    leader.run(&asked(used, 1)).expect("it may run");
    proposed(leader.submit(&asked(in_flight, 1)));

    let Leader { replica, pending, .. } = &leader;
    let just_before = LogTime(599_999);
    let nobody = |_| false;
    assert!(expire_idle(&replica.sessions, pending, &nobody, just_before, IDLE).is_none());
    assert_eq!(replica.sessions.expired(leader.now, IDLE), [idle.slot, in_flight.slot]);
    let somebody = |session| session == idle;
    assert!(expire_idle(&replica.sessions, pending, &somebody, leader.now, IDLE).is_none());
    let proposal = expire_idle(&replica.sessions, pending, &nobody, leader.now, IDLE);
    let proposal = proposal.expect("one session is idle");
    let payload = EntryPayload::decode(proposal.payload(), GROUP);
    assert_eq!(payload, Ok(EntryPayload::ExpireSessions(vec![idle.slot])));

    let evaluation = leader.evaluate(&asked(idle, 1));
    assert!(matches!(evaluation, Evaluation::Propose(_)), "it is not expired yet");
    leader.append(&proposal);
    assert_eq!(leader.submit(&asked(idle, 1)).code(), Some(Code::SessionExpired));
    leader.apply_all();
    leader.replica.reload();
    assert!(!leader.replica.sessions.contains(idle.slot));
    assert_eq!(leader.submit(&asked(idle, 1)).code(), Some(Code::SessionExpired));
    leader.run(&asked(used, 2)).expect("it is open");
    leader.run(&asked(in_flight, 2)).expect("it is open");
}

#[test]
fn a_write_behind_the_end_of_its_session_has_no_effect() {
    // Goal: whatever a log holds, apply never writes for a session that ended before, nor twice for
    // one id: the same on every replica, because only applied entries decide it.
    let mut leader = Leader::new();
    let session = leader.open();
    let asked =
        |sequence, lowest| write(Some(request(session, sequence, lowest)), vec![add("n", 1)]);
    let entry = |leader: &mut Leader, request: &Request| {
        leader.submit(request);
        leader.apply_next()
    };
    let (first, applied) = entry(&mut leader, &asked(1, 1));
    let reply = applied.reply.expect("it may run");
    let at = EntryId { ballot: BALLOT, slot: Slot(100) };
    let repeated = Entry { at, ..first };
    let before = leader.replica.clone();
    let applied = leader.replica.apply(&repeated);
    assert_eq!((applied.changes, applied.reply), (vec![], Ok(Reply { replayed: true, ..reply })));
    assert_eq!(leader.replica, before);

    entry(&mut leader, &asked(2, 2));
    let applied = leader.replica.apply(&repeated);
    let code = applied.reply.expect_err("it was acknowledged").code;
    assert_eq!((applied.changes, code), (vec![], Code::SequenceReused));

    leader.run(&close(session)).expect("it is open");
    let applied = leader.replica.apply(&repeated);
    let code = applied.reply.expect_err("its session is closed").code;
    assert_eq!((applied.changes, code), (vec![], Code::SessionExpired));
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(2)));
}

#[test]
fn sessions_reach_the_store_with_checkpoints_only() {
    // Goal: entries change rows alone; a checkpoint writes a session and what is not acknowledged of
    // it, whatever came and went before; what it wrote before and is gone, the next one removes.
    let mut leader = Leader::new();
    let session = leader.open();
    let ask = |leader: &mut Leader, sequence: u64, lowest| {
        leader.submit(&write(Some(request(session, sequence, lowest)), vec![add("n", 1)]));
        let (_, applied) = leader.apply_next();
        assert!(applied.changes.iter().all(is_row), "{:?}", applied.changes);
    };
    let result = |sequence| SPACE.result(session.slot, sequence);
    let keys = |leader: &mut Leader| {
        let changes = leader.replica.sessions.take_changes();
        leader.replica.records.change(&changes);
        let key = |change: Change| (change.key, change.value.is_some());
        changes.into_iter().map(key).collect::<Vec<_>>()
    };
    for sequence in 1..=100 {
        ask(&mut leader, sequence, sequence.saturating_sub(2).max(1));
    }
    let first: Vec<_> = [SPACE.session(session.slot), result(98), result(99), result(100)]
        .into_iter()
        .map(|key| (key, true))
        .collect();
    assert_eq!(keys(&mut leader), first);
    assert_eq!(keys(&mut leader), [], "nothing changed since");

    ask(&mut leader, 101, 100);
    let second = [(98, false), (99, false)].map(|(sequence, is_put)| (result(sequence), is_put));
    let second: Vec<_> = second
        .into_iter()
        .chain([(SPACE.session(session.slot), true), (result(101), true)])
        .collect();
    assert_eq!(keys(&mut leader), second);
    leader.replica.reload();

    let short = leader.open();
    leader.run(&close(short)).expect("it is open");
    leader.run(&close(session)).expect("it is open");
    let last = [result(100), result(101), SPACE.session(session.slot)].map(|key| (key, false));
    assert_eq!(keys(&mut leader), last, "the short one leaves nothing to remove");
}

#[test]
fn unsaved_results_are_counted() {
    // Goal: what the table holds for the next checkpoint is known in bytes, so that large replies
    // bring it about; acknowledged, closed and saved ones count no more.
    let mut leader = Leader::new();
    let session = leader.open();
    let opened = leader.replica.sessions.unsaved_bytes();
    assert!(0 < opened);
    let large = Value::Bytes(vec![7; 10_000].into());
    leader.run(&write(None, vec![put("big", large)])).expect("it may run");
    let ask = |leader: &mut Leader, sequence, lowest| {
        let id = Some(request(session, sequence, lowest));
        leader.run(&transact(id, vec![], vec![add("n", 1)], vec![row("big")])).expect("it may run");
        leader.replica.sessions.unsaved_bytes()
    };
    let one = ask(&mut leader, 1, 1) - opened;
    assert!((10_000..10_500).contains(&one), "{one} bytes");
    assert_eq!(ask(&mut leader, 2, 1), opened + 2 * one);
    assert_eq!(ask(&mut leader, 3, 3), opened + one);
    leader.replica.checkpoint();
    assert_eq!(ask(&mut leader, 4, 4), opened + one, "the saved one is not subtracted again");
    leader.run(&close(session)).expect("it is open");
    leader.replica.checkpoint();
    assert_eq!(leader.replica.sessions.unsaved_bytes(), 0);
}

#[test]
fn damaged_records_do_not_load() {
    // Goal: a result without its session, or bytes that are no record, stop the load with an error.
    let mut leader = Leader::new();
    let session = leader.open();
    leader.run(&write(Some(request(session, 1, 1)), vec![add("n", 1)])).expect("it may run");
    leader.replica.checkpoint();
    let key = SPACE.session(session.slot);

    let mut orphaned = leader.replica.records.clone();
    orphaned.0.remove(&key);
    let error = SessionTable::load(&orphaned, SPACE);
    assert!(matches!(error, Err(StoreError::Damaged { .. })));

    let mut damaged = leader.replica.records.clone();
    damaged.0.insert(key, vec![9, 9, 9].into());
    let error = SessionTable::load(&damaged, SPACE);
    assert!(matches!(error, Err(StoreError::Damaged { .. })));
}
