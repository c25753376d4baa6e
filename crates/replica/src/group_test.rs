//! A leader of three replicas, driven by hand: what its driver may answer, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use quorate_log::{Log, LogOptions, SimDisk};
use quorate_paxos::message::{Accept, Accepted, Heartbeat, HeartbeatAck, PreVoteAck, Promise};
use quorate_paxos::{Batch, BatchKind, Health, Membership, Message, Standing, Timing};
use quorate_store::Twin;
use quorate_txn::cross::Decide;
use quorate_types::{
    AccountAddress, AccountSettings, Age, Attempt, Code, CrossBody, CutId, CutRange, Error,
    FoundRow, LogTime, Mutation, Part, PartReply, ReplicaKind, RequestBody, RequestId, RowAddress,
    ScanRange, SessionId, Value, WantedRow,
};

use super::*;
use crate::event::CutStatus;

#[path = "group_cuts_test.rs"]
mod cuts;

const SECOND: u64 = 1_000_000_000;

/// Shows each time once, and the last one for ever: a pause between two looks at the clock.
struct Pausing {
    looks: AtomicU64,
    first: BootTime,
    after: BootTime,
}

impl Clock for Pausing {
    fn now(&self) -> BootTime {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 0 { self.first } else { self.after }
    }
}

/// A leader elected at 2 s.
fn leader() -> GroupDriver {
    let at = BootTime(2 * SECOND);
    let (driver, _) = elected(at);
    assert!(driver.serving(at).is_ok(), "the script elects the leader");
    driver
}

/// A replica that starts at 1 s and to which nothing happens before it is elected; what it sent then.
fn elected(at: BootTime) -> (GroupDriver, Effects) {
    let (_writer, reader, _found) =
        Log::open(SimDisk::new().mount(), LogOptions::small(), 1).expect("a fresh disk");
    let group = GroupId(1);
    let store = Arc::new(Store::open(Arc::new(Twin::new()), [group]).expect("a fresh engine"));
    let ids = [1, 2, 3].map(ReplicaId);
    let options = GroupOptions {
        paxos: Options {
            group,
            replica: ids[0],
            kind: ReplicaKind::Full,
            timing: Timing::lan(),
            pinned: false,
            log_budget_bytes: u64::MAX,
        },
        slice_of: Arc::new(|_, _| SliceId(0)),
        group_of: Arc::new(move |_, uid| Some(if uid == Uid(99) { GroupId(2) } else { group })),
        numbering: group,
        check_every: Duration::ZERO,
    };
    let start = BootTime(SECOND);
    let fresh = Restored::fresh(Membership::of_voters(ids.map(|id| (id, id.0 as u16))));
    let mut driver = GroupDriver::new(start, options, fresh, store, reader).expect("restored");
    let mut fx = Effects { disk_ok_at: at, ..Effects::default() };
    let peer = ids[1];
    let ballot = Ballot { round: 1, replica: ids[0] };
    let standing = Standing {
        replica: peer,
        health: Health::default(),
        last: EntryId::ZERO,
        log_bytes: 0,
        pinned: false,
        rank: 2,
    };
    let ack = PreVoteAck { ballot, granted: true, promised: Ballot::ZERO, standing };
    let promise = Promise { ballot, last: EntryId::ZERO, slot_committed: Slot::ZERO, seats: None };
    let slot_synced = Slot(1);
    let (slot_verified, slot_refilling) = (Slot(1), None);
    let heard =
        HeartbeatAck { ballot, sent_at: at, slot_verified, slot_synced, slot_refilling, standing };
    for input in [
        Input::Tick,
        Input::Message { from: peer, message: Message::PreVoteAck(ack) },
        Input::PromiseSynced { ballot },
        Input::Message { from: peer, message: Message::Promise(promise) },
        Input::Synced { write: 1 },
        Input::Message { from: peer, message: Message::Accepted(Accepted { ballot, slot_synced }) },
        Input::Message { from: peer, message: Message::HeartbeatAck(heard) },
    ] {
        driver.step(at, input, &mut fx).expect("nothing fails");
    }
    (driver, fx)
}

/// Asks for a row under a clock that shows `first`, then `after`; the answer, if one was given.
fn read(first: BootTime, after: BootTime) -> Option<Answer> {
    let clock = Pausing { looks: AtomicU64::new(0), first, after };
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let request = Request { id: None, body: RequestBody::Get(at) };
    let (send, receive) = mpsc::channel();
    let reply = ReplyTo::new(None, move |answer| send.send(answer).expect("the test waits"));
    let mut fx = Effects::default();
    leader()
        .request(&clock, Asked { request, reply, parked_at: None }, true, &mut fx)
        .expect("nothing fails");
    receive.try_recv().ok()
}

/// Goal: a lease is checked with a clock read after the view was taken. A pause between the two may have
/// let another leader write, so a lease that was valid before the pause must not release the read.
#[test]
fn a_read_is_not_released_by_a_lease_that_ended_before_its_view() {
    let leased = BootTime(2 * SECOND + SECOND / 2);
    let ended = BootTime(12 * SECOND);
    assert!(matches!(read(leased, leased), Some(Ok(_))), "under the lease it is answered at once");
    assert!(!matches!(read(leased, ended), Some(Ok(_))), "a stale read was released");
}

/// Goal: whatever steps a group, its core knows first when the disk was last seen to work. A follower whose
/// deadline only ever moved away is elected by a message, not by a timer: did it take its disk for stalled,
/// it would lead without a heartbeat, and so without a lease.
#[test]
fn a_leader_elected_long_after_its_start_sends_heartbeats_at_once() {
    let (_driver, fx) = elected(BootTime(60 * SECOND));
    let sent = fx.messages.values().flatten();
    let heartbeats = sent.filter(|sent| matches!(sent.message, Message::Heartbeat(_))).count();
    assert_eq!(heartbeats, 2, "one to each follower");
}

/// Goal: what a round staged before it hands over is proposed, not dropped: the hand-over may not come
/// about, the ballot goes on, and then everything that belongs to it is still there.
#[test]
fn a_hand_over_that_fails_takes_nothing_with_it() {
    let mut driver = leader();
    let now = BootTime(2 * SECOND + SECOND / 10);
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let mutations = vec![Mutation::Put(at, Value::Integer(1))];
    let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
    let reply = ReplyTo::new(None, |answer| panic!("nobody decided: {answer:?}"));
    let asked = Asked { request: Request { id: None, body }, reply, parked_at: None };
    let mut fx = Effects { disk_ok_at: now, ..Effects::default() };
    driver.request(&clock, asked, true, &mut fx).expect("nothing fails");
    let health = Health { serious_faults: 1, ..Health::default() };
    driver.set_health(now, health, &mut fx).expect("nothing fails");
    driver.give_way(now, &mut fx).expect("nothing fails");
    assert!(driver.serving(now).is_err(), "it is handing over");
    assert!(driver.proposals.is_empty() && driver.overlay.entries() == 1, "it was proposed");

    let later = now + Timing::lan().round + Duration::from_millis(1);
    fx.disk_ok_at = later;
    driver.step(later, Input::Tick, &mut fx).expect("nothing fails");
    assert!(driver.serving(later).is_ok(), "nobody took over");
    assert!(driver.cross.rules.leads() && driver.overlay.entries() == 1);
}

/// Goal: an answer without an entry is a read of what is in flight: nobody hears of an account before the
/// entry that creates it is chosen, and then both callers do.
#[test]
fn an_answer_without_an_entry_waits_for_what_it_saw() {
    let at = BootTime(2 * SECOND);
    let clock = Pausing { looks: AtomicU64::new(0), first: at, after: at };
    let mut driver = leader();
    let mut fx = Effects::default();
    let account = AccountAddress::new(Uid(1), 840);
    let body = RequestBody::CreateAccount(account, AccountSettings::default());
    let request = Request { id: None, body };
    let mut ask = || {
        let (send, receive) = mpsc::channel();
        let reply = ReplyTo::new(None, move |answer| send.send(answer).expect("the test waits"));
        driver
            .request(
                &clock,
                Asked { request: request.clone(), reply, parked_at: None },
                true,
                &mut fx,
            )
            .expect("nothing fails");
        receive
    };
    let (first, second) = (ask(), ask());
    driver.propose(at, &mut fx).expect("nothing fails");
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "nothing is chosen");

    let (_, write) = *fx.writes.last().expect("the entry is written");
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let accepted = Accepted { ballot, slot_synced: Slot(2) };
    for input in [
        Input::Synced { write },
        Input::Message { from: ReplicaId(2), message: Message::Accepted(accepted) },
    ] {
        driver.step(at, input, &mut fx).expect("nothing fails");
    }
    let told = |answers: mpsc::Receiver<Answer>| {
        let reply = answers.try_recv().expect("it is chosen").expect("it is no refusal");
        assert!(matches!(reply.body, ReplyBody::Account(Some(found)) if found.address == account));
        (reply.at, reply.replayed)
    };
    let entry = EntryId { ballot, slot: Slot(2) };
    assert_eq!((told(first), told(second)), ((entry, false), (entry, true)));
}

/// Goal: a part whose rows are not all ours is refused by an entry, whatever its sender routes by: money
/// must not go to rows that nobody looks at.
#[test]
fn a_part_with_rows_of_others_is_refused() {
    let now = BootTime(2 * SECOND);
    let vote_on = |uid| {
        let mut driver = leader();
        let at = RowAddress { table: TableId(1), uid: Uid(uid), key: Bytes::from_static(b"k") };
        let mutations = vec![Mutation::Put(at, Value::Integer(1))];
        let part = Part { mutations, ..Part::default() };
        let (here, there) = (driver.group, GroupId(2));
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        let attempt = Attempt { group: there, ballot, counter: 1 };
        let session = SessionId { group: there, slot: Slot(1) };
        let age = Age { first_ms: 1, session, sequence: 1 };
        let participants = vec![here, there];
        let body = CrossBody::Prepare { attempt, age, watermark: attempt, participants, part };
        let message = CrossMessage { from: there, to: here, cut: CutId::NONE, body };
        driver.receive_cross(now, message, true, &mut Effects::default()).expect("nothing fails");
        driver.stage_cross(now).expect("it is staged");
        let payload = driver.proposals.pop().expect("a vote is proposed");
        EntryPayload::decode(&payload, here).expect("our own entry")
    };
    assert!(matches!(vote_on(1), EntryPayload::Cross(CrossEntry::Prepare(_))));
    assert!(matches!(vote_on(99), EntryPayload::Cross(CrossEntry::Refuse(_))));
}

/// Asks under a clock that stands still; where the answer comes.
fn ask(
    driver: &mut GroupDriver,
    now: BootTime,
    body: RequestBody,
    fx: &mut Effects,
) -> mpsc::Receiver<Answer> {
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    let (send, receive) = mpsc::channel();
    // Whoever asked may have heard enough.
    let reply = ReplyTo::new(None, move |answer| drop(send.send(answer)));
    let asked = Asked { request: Request { id: None, body }, reply, parked_at: None };
    driver.request(&clock, asked, true, fx).expect("nothing fails");
    receive
}

/// Goal: a session whose transaction over several groups is under way is in use, between two attempts, too;
/// the metrics say what is kept and who waits.
#[test]
fn a_session_is_in_use_while_its_transaction_is_under_way() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let opened = ask(&mut driver, now, RequestBody::OpenSession, &mut fx);
    choose(&mut driver, now, &mut fx);
    let opened = opened.try_recv().expect("it is chosen").expect("there is room");
    let ReplyBody::Session(session) = opened.body else { panic!("{opened:?}") };
    let row = |uid| RowAddress { table: TableId(1), uid: Uid(uid), key: Bytes::from_static(b"k") };
    let mutations = [1, 99].map(|uid| Mutation::Put(row(uid), Value::Integer(1))).to_vec();
    let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
    let id = Some(RequestId { session, sequence: 1, lowest_unanswered: 1 });
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    let asked =
        Asked { request: Request { id, body }, reply: ReplyTo::new(None, drop), parked_at: None };
    driver.request(&clock, asked, true, &mut fx).expect("nothing fails");
    assert!(driver.cross.is_in_use(session));
    assert!(!driver.cross.is_in_use(SessionId { slot: session.slot.next(), ..session }));

    // A read waits for its lock, and somebody for a cut.
    driver.stage_cross(now).expect("it is staged");
    choose(&mut driver, now, &mut fx);
    let _waits = ask(&mut driver, now, RequestBody::Get(row(1)), &mut fx);
    let cut = cut_after_writes(&mut driver, now, &mut fx);
    let _waits = ask(&mut driver, now, RequestBody::PinCut(CutId(cut.0 + 9)), &mut fx);
    let later = now + Duration::from_millis(1500);
    let status = driver.status(later);
    assert_eq!((status.attempts, status.locked_rows, status.parked), (1, 1, 1));
    let CutStatus { views, oldest_ms, waiting } = status.cuts;
    assert_eq!((views, oldest_ms, waiting), (1, 1500, 1));

    let lost: Answer = Err(Error::new(Code::NotLeader, "another one leads"));
    driver.lose_cross(&lost, &lost);
    assert!(!driver.cross.is_in_use(session), "whoever leads next knows better");
}

/// A new cut behind what is in flight.
fn cut_after_writes(driver: &mut GroupDriver, now: BootTime, fx: &mut Effects) -> CutId {
    let made = ask(driver, now, RequestBody::NewCut, fx);
    choose(driver, now, fx);
    let made = made.try_recv().expect("it is chosen").expect("it is made");
    let ReplyBody::Cut(cut) = made.body else { panic!("{made:?}") };
    cut
}

/// Proposes what was asked for as one batch, and lets it be chosen.
fn choose(driver: &mut GroupDriver, now: BootTime, fx: &mut Effects) {
    driver.propose(now, fx).expect("nothing fails");
    let (_, write) = *fx.writes.last().expect("the batch is written");
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let slot_synced = driver.overlay.last_slot().expect("something is in flight");
    let accepted = Message::Accepted(Accepted { ballot, slot_synced });
    for input in [Input::Synced { write }, Input::Message { from: ReplicaId(2), message: accepted }]
    {
        driver.step(now, input, fx).expect("nothing fails");
    }
}

fn put(number: i64) -> RequestBody {
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let mutations = vec![Mutation::Put(at, Value::Integer(number))];
    RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() }
}

/// Goal: where the engine writes rows more slowly than they change, memory does not fill: writes are refused until
/// it has caught up. Reads go on.
#[test]
fn writes_wait_for_an_engine_that_is_behind() {
    let (mut driver, mut fx) = (leader(), Effects::default());
    let now = BootTime(2 * SECOND + SECOND / 10);
    let row = |number: i64| {
        let key = Bytes::from(number.to_be_bytes().to_vec());
        let at = RowAddress { table: TableId(1), uid: Uid(1), key };
        let value = Value::Bytes(vec![7; 64 * 1024].into());
        let mutations = vec![Mutation::Put(at, value)];
        RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() }
    };
    let mut number = 0;
    let refused = loop {
        let answered = ask(&mut driver, now, row(number), &mut fx);
        if let Ok(answer) = answered.try_recv() {
            break answer.expect_err("nothing is chosen yet");
        }
        choose(&mut driver, now, &mut fx);
        answered.try_recv().expect("it is chosen").expect("it is written");
        number += 1;
        assert!(number < 100, "memory fills");
    };
    assert_eq!((refused.code, refused.retry_after.is_some()), (Code::Overloaded, true));
    assert!(10 < number, "{number} were taken");
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let read = ask(&mut driver, now, RequestBody::Get(at), &mut fx);
    assert!(read.try_recv().is_ok_and(|answer| answer.is_ok()), "reads go on");

    let checkpoint = driver.store.begin_checkpoint(Vec::new).expect("rows have changed");
    let durability = quorate_store::Durability::Buffered;
    assert!(ask(&mut driver, now, row(0), &mut fx).try_recv().is_ok(), "they are being written");
    driver.store.write_checkpoint(&checkpoint, durability).expect("the twin writes");
    driver.store.finish_checkpoint(checkpoint);
    assert!(ask(&mut driver, now, row(0), &mut fx).try_recv().is_err(), "it is taken");
}

/// Goal: a driver notes where it deleted rows, so that a row that came and went is told from one that
/// never was; and it answers nobody about a row that somebody is about to change, known or not.
#[test]
fn rows_are_as_known_unless_they_came_and_went_or_are_locked() {
    let (mut driver, mut fx) = (leader(), Effects::default());
    let now = BootTime(2 * SECOND + SECOND / 10);
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let look = |driver: &mut GroupDriver, known, fx: &mut Effects| {
        let rows = vec![WantedRow { at: at.clone(), known }];
        let answered = ask(driver, now, RequestBody::GetMany { rows, cut: CutId::NONE }, fx);
        let reply = answered.try_recv().ok()?.expect("it leads");
        let ReplyBody::Rows(found) = reply.body else { panic!("{reply:?}") };
        found.rows.into_iter().next()
    };
    let Some(FoundRow::Is(never, None)) = look(&mut driver, None, &mut fx) else {
        panic!("nobody wrote it")
    };
    assert_eq!(look(&mut driver, Some(never), &mut fx), Some(FoundRow::AsKnown));
    for mutation in [Mutation::Put(at.clone(), Value::Integer(1)), Mutation::Delete(at.clone())] {
        let (conditions, reads) = (Vec::new(), Vec::new());
        let body = RequestBody::Transact { conditions, mutations: vec![mutation], reads };
        ask(&mut driver, now, body, &mut fx);
        choose(&mut driver, now, &mut fx);
    }
    let again = look(&mut driver, Some(never), &mut fx);
    let Some(FoundRow::Is(gone, None)) = again else { panic!("it came and went: {again:?}") };
    assert_eq!(look(&mut driver, Some(gone), &mut fx), Some(FoundRow::AsKnown));

    let mutations = vec![Mutation::Put(at.clone(), Value::Integer(2))];
    let part = Part { mutations, ..Part::default() };
    let (here, there) = (driver.group, GroupId(2));
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let attempt = Attempt { group: there, ballot, counter: 1 };
    let age = Age { first_ms: 1, session: SessionId { group: there, slot: Slot(1) }, sequence: 1 };
    let participants = vec![here, there];
    let body = CrossBody::Prepare { attempt, age, watermark: attempt, participants, part };
    let message = CrossMessage { from: there, to: here, cut: CutId::NONE, body };
    driver.receive_cross(now, message, true, &mut fx).expect("nothing fails");
    assert_eq!(look(&mut driver, Some(gone), &mut fx), None, "its vote is evaluated");
    assert_eq!(look(&mut driver, None, &mut fx), None);
}

/// Goal: a leader that was cut off or paused believes that it serves; what it lacks others may have said,
/// so it calls no position unknown before it knows that it still leads.
#[test]
fn a_leader_whose_lease_is_over_calls_no_position_unknown() {
    let (mut driver, mut fx) = (leader(), Effects::default());
    let now = BootTime(12 * SECOND); // It was paused: another one leads by now, and has written slot 50.
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    let (send, receive) = mpsc::channel();
    let reply = ReplyTo::new(None, move |answer: Answer| drop(send.send(answer)));
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let request = Request { id: None, body: RequestBody::Get(at) };
    let elsewhere =
        quorate_types::Elsewhere { at_least: Slot(50), stale_max: None, around_locks: false };
    driver
        .read_elsewhere(&clock, (request, reply), elsewhere, true, &mut fx)
        .expect("nothing fails");
    let answer = receive.try_recv();
    let is_final = matches!(&answer, Ok(Err(error)) if error.code == Code::InvalidRequest);
    assert!(!is_final, "{answer:?}");
}

/// Goal: the answer to transfers of which none can be carried out names the slot of what it saw.
#[test]
fn refused_transfers_to_another_group_name_the_slot_they_rest_on() {
    use quorate_types::{Transfer, TransferBatch, TransferId};
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let account = AccountAddress::new(Uid(1), 840);
    let body = RequestBody::CreateAccount(account, AccountSettings::default());
    let _created = ask(&mut driver, now, body, &mut fx);
    let there = AccountAddress::new(Uid(99), 840);
    let batch = TransferBatch::new(&[Transfer::post(TransferId(1), account, there, 5)]);
    let refused = ask(&mut driver, now, RequestBody::Transfers(batch), &mut fx);
    assert!(refused.try_recv().is_err(), "it waits for what it saw");
    choose(&mut driver, now, &mut fx);
    let reply = refused.try_recv().expect("it is chosen").expect("an answer");
    assert!(Slot(2) <= reply.at.slot, "{reply:?} saw the account of slot 2");
}

/// Goal: while a leadership moves, callers wait where it is about to be instead of coming back again and
/// again: at the old leader until the token is out, and then they hear who leads next.
#[test]
fn requests_wait_until_it_is_known_who_leads() {
    let now = BootTime(2 * SECOND);
    let hand_over = || {
        let (mut driver, mut fx) = (leader(), Effects { disk_ok_at: now, ..Effects::default() });
        let written = ask(&mut driver, now, put(1), &mut fx);
        driver.hand_over(now, Some(NodeId(2)), &mut fx).expect("nothing fails");
        let waits = ask(&mut driver, now, put(2), &mut fx);
        tick(&mut driver, now, &mut fx);
        assert!(written.try_recv().is_err() && waits.try_recv().is_err(), "the token is not out");
        (driver, fx, waits)
    };

    // r2 has everything, and the token goes out.
    let (mut driver, mut fx, waits) = hand_over();
    choose(&mut driver, now, &mut fx);
    tick(&mut driver, now, &mut fx);
    let refused = waits.try_recv().expect("it is known").expect_err("we have given up");
    assert_eq!((refused.code, refused.facts["leader_node"].as_str()), (Code::NotLeader, "2"));

    // It comes to nothing: after a while nobody waits any more, but who asks late is let in.
    let (mut driver, mut fx, waits) = hand_over();
    let round = Timing::lan().round;
    let late = now + round * 9 / 10;
    assert!(driver.next_deadline() < late, "the shard looks in time");
    tick(&mut driver, late, &mut fx);
    assert_eq!(waits.try_recv().expect("it took too long").unwrap_err().code, Code::NotLeader);
    let waits = ask(&mut driver, late, put(3), &mut fx);
    let over = now + round + Duration::from_millis(1);
    fx.disk_ok_at = over;
    driver.step(over, Input::Tick, &mut fx).expect("nothing fails");
    tick(&mut driver, over, &mut fx);
    assert!(waits.try_recv().is_err() && driver.proposals.len() == 1, "it is let in");
}

/// Looks after those who wait for a leader.
fn tick(driver: &mut GroupDriver, now: BootTime, fx: &mut Effects) {
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    driver.tick_arrivals(&clock, true, fx).expect("nothing fails");
}

/// Goal: a session is not closed while a request of it waits for a lock, however long its client has said
/// nothing else; one that nobody uses is.
#[test]
fn a_session_that_waits_for_a_lock_is_not_idle() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let sessions = [(); 3].map(|()| {
        let opened = ask(&mut driver, now, RequestBody::OpenSession, &mut fx);
        choose(&mut driver, now, &mut fx);
        match opened.try_recv().expect("it is chosen").expect("there is room").body {
            ReplyBody::Session(session) => session,
            other => panic!("{other:?}"),
        }
    });
    let clock = Pausing { looks: AtomicU64::new(0), first: now, after: now };
    let row = |uid| RowAddress { table: TableId(1), uid: Uid(uid), key: Bytes::from_static(b"k") };
    let mut write = |driver: &mut GroupDriver, session, users: &[u64]| {
        let put = |uid: &u64| Mutation::Put(row(*uid), Value::Integer(1));
        let mutations = users.iter().map(put).collect();
        let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
        let id = Some(RequestId { session, sequence: 1, lowest_unanswered: 1 });
        let reply = ReplyTo::new(None, drop);
        let asked = Asked { request: Request { id, body }, reply, parked_at: None };
        driver.request(&clock, asked, true, &mut fx).expect("nothing fails");
        driver.stage_cross(now).expect("it is staged");
        if !driver.proposals.is_empty() {
            choose(driver, now, &mut fx);
        }
    };
    let [holder, waiter, idle] = sessions;
    write(&mut driver, holder, &[1, 99]);
    write(&mut driver, waiter, &[1]);
    assert_eq!(driver.cross.parked(), 1, "the row is locked");

    driver.expire(now + SESSION_IDLE * 2).expect("nothing fails");
    let payload = driver.proposals.pop().expect("somebody is idle");
    let expired = EntryPayload::decode(&payload, driver.group).expect("our own entry");
    assert_eq!(expired, EntryPayload::ExpireSessions(vec![idle.slot]));
}
