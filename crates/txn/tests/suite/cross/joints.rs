//! Scripts of what random schedules hardly meet: numbers of a session that are used twice or given up,
//! entries that would be too large, an attempt in doubt among many that are over.

use bytes::Bytes;
use quorate_store::{Keyspace, Row, View};
use quorate_types::limits::ENTRY_BYTES_MAX;
use quorate_types::{
    Age, Attempt, BootTime, CrossBody, CrossMessage, CutId, GroupId, Mutation, Part, Refusal,
    ReplyBody, Request, RequestBody, RequestId, RowAddress, SessionId, SliceId, TableId, Uid,
    Value, Vote, Watermark,
};

use super::group::{Caller, GROUPS, Group, group_of};

const NOW: BootTime = BootTime(1_000_000_000);
const TABLE: TableId = TableId(1);

struct Small {
    groups: Vec<Group>,
}

fn row(uid: u64) -> RowAddress {
    RowAddress { table: TABLE, uid: Uid(uid), key: Bytes::from_static(b"balance") }
}

fn add(uid: u64, delta: i64) -> Mutation {
    Mutation::Add { at: row(uid), delta, floor: Some(0), ceiling: None }
}

fn transact(mutations: Vec<Mutation>, reads: Vec<RowAddress>) -> RequestBody {
    RequestBody::Transact { conditions: Vec::new(), mutations, reads }
}

impl Small {
    fn new() -> Small {
        Small { groups: (1..=u32::try_from(GROUPS).expect("small")).map(Group::new).collect() }
    }

    fn at(&mut self, uid: u64) -> &mut Group {
        let id = group_of(TABLE, Uid(uid)).expect("it has one");
        self.groups.iter_mut().find(|it| it.id == id).expect("it exists")
    }

    fn ask(&mut self, uid: u64, number: usize, id: Option<RequestId>, body: RequestBody) {
        self.at(uid).leader().ask(NOW, Caller { number, request: Request { id, body } });
    }

    fn choose(&mut self, uid: u64) {
        self.at(uid).choose(NOW, usize::MAX);
    }

    fn put(&mut self, uid: u64, value: Value) {
        self.ask(uid, 0, None, transact(vec![Mutation::Put(row(uid), value)], Vec::new()));
        self.choose(uid);
        self.at(uid).leader().told.clear();
    }

    fn session(&mut self, uid: u64) -> SessionId {
        self.ask(uid, 0, None, RequestBody::OpenSession);
        self.choose(uid);
        let (_, told) = self.at(uid).leader().told.pop().expect("told");
        match told.expect("it leads").expect("it opens").body {
            ReplyBody::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers what was sent, but not to `lost`.
    fn deliver(&mut self, lost: Option<u32>) {
        let mut sent: Vec<CrossMessage> = Vec::new();
        for group in &mut self.groups {
            sent.append(&mut group.leader().sent);
        }
        for message in sent {
            if Some(message.to.0) == lost {
                continue;
            }
            let to = self.groups.iter_mut().find(|it| it.id == message.to).expect("it exists");
            let leader = to.leader();
            let out = leader.cross.receive(NOW, message);
            leader.carry_out(NOW, out);
        }
    }

    fn sum(&mut self, uid: u64) -> i64 {
        self.ask(uid, 99, None, RequestBody::Get(row(uid)));
        let (_, told) = self.at(uid).leader().told.pop().expect("told");
        match told.expect("it leads").expect("it answers").body {
            ReplyBody::Row(Some(value)) => match value {
                Value::Integer(number) => number,
                Value::Bytes(_) => panic!("bytes"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn id(session: SessionId, sequence: u64, lowest_unanswered: u64) -> RequestId {
    RequestId { session, sequence, lowest_unanswered }
}

#[test]
fn a_commit_in_flight_acknowledges_numbers_that_writes_behind_it_carry() {
    // Goal: no entry in flight acknowledges the number of a write that is evaluated now.
    let mut world = Small::new();
    for uid in [0, 1, 4] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    // Number 2 was given up by its caller and is still on its way. Number 5 says so.
    world.ask(0, 5, Some(id(session, 5, 3)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0); // PREPARE of the coordinator
    world.deliver(None);
    world.choose(1); // PREPARE of the other
    world.deliver(None); // COMMIT is proposed, not chosen
    assert_eq!(world.at(0).leader().proposed.len(), 1, "COMMIT is in flight");
    world.ask(0, 2, Some(id(session, 2, 1)), transact(vec![add(4, -10)], Vec::new()));
    world.ask(0, 9, None, transact(vec![add(4, -10)], Vec::new()));
    world.choose(0); // ApplyError::Diverged on every replica
}

#[test]
fn one_number_takes_effect_once_whatever_rows_it_names() {
    // Goal: a request under the number of a running attempt is that attempt.
    let mut world = Small::new();
    for uid in [0, 1, 4] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0);
    world.ask(0, 2, Some(id(session, 1, 1)), transact(vec![add(4, -10)], Vec::new()));
    world.choose(0);
    for _ in 0..4 {
        world.deliver(None);
        world.choose(0);
        world.choose(1);
    }
    let effects = u32::from(world.sum(0) != 100) + u32::from(world.sum(4) != 100);
    assert_eq!(effects, 1, "number 1 took effect {effects} times");
}

#[test]
fn strangers_decide_nothing() {
    // Goal: votes count from participants, questions and watermarks from coordinators, decisions from the
    // coordinator of the attempt; whatever else arrives changes nothing.
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0);
    world.deliver(None);
    world.choose(1); // Both have PREPARE yes; the coordinator has not heard of the other's.
    let attempt = world.at(1).leader().cross.locks().attempts().next().expect("it is prepared");
    let next = Attempt { counter: attempt.counter + 1, ..attempt };
    let age = Age { first_ms: 1, session, sequence: 9 };
    let (here, there, stranger) = (GroupId(1), GroupId(2), GroupId(3));
    let participants = vec![here, there];
    let part = Part { mutations: vec![add(5, 1)], ..Part::default() };
    let watermark = Watermark::below(next);
    let cut = CutId::NONE;
    for (to, body) in [
        (there, CrossBody::Decide { attempt, commit: false, cut }),
        (there, CrossBody::Decide { attempt, commit: true, cut }),
        (there, CrossBody::Clear { watermark }),
        (there, CrossBody::Voted { attempt, vote: Vote::No(Refusal::Unknown), cut }),
        (there, CrossBody::Prepare { attempt: next, age, watermark: next, participants, part }),
        (here, CrossBody::Voted { attempt, vote: Vote::No(Refusal::Unknown), cut }),
        (here, CrossBody::Decide { attempt, commit: false, cut }),
        (here, CrossBody::Decided { attempt }),
    ] {
        let shown = format!("{body:?}");
        let message = CrossMessage { from: stranger, to, cut, body };
        let group = world.groups.iter_mut().find(|it| it.id == to).expect("it exists");
        let out = group.leader().cross.receive(NOW, message);
        let is_quiet = out.entries.is_empty() && out.evaluate.is_empty() && out.settled.is_empty();
        assert!(is_quiet, "{shown} did something: {out:?}");
    }
    let out = world.at(1).leader().cross.clean();
    assert!(out.entries.is_empty(), "a stranger's watermark counts: {:?}", out.entries);
    world.deliver(None);
    world.choose(0);
    let told = world.at(0).leader().told.pop().expect("it is committed");
    assert!(matches!(told, (1, Some(Ok(_)))), "{told:?}");
}

#[test]
fn an_answer_given_again_says_so() {
    // Goal: a caller that asks again learns that an earlier attempt took effect, from the attempt that is
    // committed and from the session afterwards, and each time the first result.
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    let body = transact(vec![add(0, -1), add(1, 1)], Vec::new());
    world.ask(0, 1, Some(id(session, 1, 1)), body.clone());
    world.choose(0);
    world.deliver(None);
    world.choose(1);
    world.deliver(None); // Committed; COMMIT is in flight.
    world.ask(0, 2, Some(id(session, 1, 1)), body.clone());
    world.choose(0);
    world.ask(0, 3, Some(id(session, 1, 1)), body);
    let told = std::mem::take(&mut world.at(0).leader().told);
    let replies: Vec<_> =
        told.into_iter().map(|(_, told)| told.expect("it leads").expect("it is done")).collect();
    let replayed: Vec<bool> = replies.iter().map(|reply| reply.replayed).collect();
    assert_eq!(replayed, [false, true, true]);
    assert!(replies.iter().all(|it| it.at == replies[0].at && it.body == replies[0].body));
}

#[test]
fn no_entry_is_larger_than_an_entry_may_be() {
    // Goal: what is proposed fits the log and a frame to a peer, whatever a client asks for.
    let mut world = Small::new();
    let big = Value::Bytes(Bytes::from(vec![7; 500 * 1024]));
    for uid in 0..8 {
        world.put(uid, big.clone());
    }
    let session = world.session(0);
    let reads = (0..8).map(row).collect();
    world.ask(0, 1, Some(id(session, 1, 1)), transact(Vec::new(), reads));
    world.choose(0);
    world.deliver(None);
    (1..4).for_each(|uid| world.choose(uid));
    world.deliver(None);
    for payload in &world.at(0).leader().proposed {
        assert!(payload.len() <= ENTRY_BYTES_MAX, "an entry of {} bytes", payload.len());
    }
}

#[test]
fn a_prepare_is_no_larger_than_an_entry_may_be() {
    // Goal: the same for PREPARE: what is read and what is written share one entry.
    let mut world = Small::new();
    let big = Value::Bytes(Bytes::from(vec![7; 500 * 1024]));
    for uid in [0, 4] {
        world.put(uid, big.clone());
    }
    let session = world.session(0);
    let put = |uid| Mutation::Put(row(uid), big.clone());
    let body = transact(vec![put(8), put(12), add(1, 1)], vec![row(0), row(4)]);
    world.ask(0, 1, Some(id(session, 1, 1)), body);
    for payload in &world.at(0).leader().proposed {
        assert!(payload.len() <= ENTRY_BYTES_MAX, "an entry of {} bytes", payload.len());
    }
}

#[test]
fn one_group_that_is_down_does_not_keep_the_records_of_all_others() {
    // Goal: records of attempts that are over go, though an older attempt is in doubt.
    let mut world = Small::new();
    for uid in 0..8 {
        world.put(uid, Value::Integer(1_000_000));
    }
    let session = world.session(0);
    // Group 2 is down: the attempt stays in doubt.
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0);
    world.deliver(Some(2));
    for sequence in 2..500 {
        let body = transact(vec![add(4, -1), add(2, 1)], Vec::new());
        world.ask(0, 2, Some(id(session, sequence, sequence)), body);
        for _ in 0..4 {
            world.choose(0);
            world.choose(2);
            world.deliver(Some(2));
        }
        for uid in [0, 2] {
            let out = world.at(uid).leader().cross.clean();
            world.at(uid).leader().carry_out(NOW, out);
        }
    }
    assert_eq!(world.sum(2), 1_000_498);
    let (here, there) =
        (world.at(0).leader().cross.table().len(), world.at(2).leader().cross.table().len());
    assert!(here < 50 && there < 50, "{here} and {there} records are kept");
}

#[test]
fn a_number_used_twice_does_not_stop_the_group() {
    // Goal: a write under the number of an attempt whose COMMIT is in flight is never evaluated.
    let mut world = Small::new();
    for uid in [0, 1, 4] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0);
    world.deliver(None);
    world.choose(1);
    world.deliver(None); // COMMIT is in flight
    world.ask(0, 2, Some(id(session, 1, 1)), transact(vec![add(4, -10)], Vec::new()));
    world.ask(0, 3, None, transact(vec![add(4, -10)], Vec::new()));
    world.choose(0); // ApplyError::Diverged on every replica
}

#[test]
fn the_next_leader_knows_which_requests_have_an_attempt() {
    // Goal: a coordinator that changes nothing itself has no lock that would stop a second attempt; the
    // next leader must know of the first. (Catches dropping `by_request` in `Cross::lead`.)
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    let body = transact(vec![add(1, -10)], vec![row(0)]);
    world.ask(0, 1, Some(id(session, 1, 1)), body.clone());
    world.choose(0);
    world.deliver(None);
    world.choose(1);
    world.deliver(Some(1)); // The yes is lost.
    world.at(0).elect(NOW, 1, 0, false);
    world.ask(0, 2, Some(id(session, 1, 1)), body);
    assert_eq!(world.at(0).leader().cross.running(), 1, "one attempt at a request at a time");
}

#[test]
fn a_message_from_behind_a_cut_waits_for_the_cut() {
    // Goal: what a group hears from behind a cut stands behind it in its own log, too; a yes says which
    // cut it stands behind, and the decision the greatest.
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    world.ask(0, 0, None, RequestBody::NewCut);
    world.choose(0);
    let cut = world.at(0).leader().cross.table().cut();
    assert!(CutId::NONE < cut);
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -1), add(1, 1)], Vec::new()));
    world.choose(0);
    world.deliver(None);
    let other = world.at(1).leader();
    assert_eq!((other.proposed.len(), other.cross.locks().rows()), (1, 0), "the cut, and no vote");
    world.choose(1);
    assert_eq!(world.at(1).leader().cross.table().cut(), cut);
    world.choose(1); // PREPARE, asked for by the message that waited
    world.deliver(None);
    world.choose(0);
    let record = world.at(0).leader().cross.table().records().next().expect("it is kept").1;
    assert!(record.state.is_committed());
    assert_eq!(record.cut, cut, "it belongs to later cuts only");
}

#[test]
fn a_view_at_a_cut_learns_what_was_in_doubt_there() {
    // Goal: a transaction whose PREPAREs all precede the cut belongs to it, though it is decided later;
    // the view is not shown before.
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let session = world.session(0);
    world.ask(0, 1, Some(id(session, 1, 1)), transact(vec![add(0, -7), add(1, 7)], Vec::new()));
    world.choose(0);
    world.deliver(None);
    world.choose(1); // Both have PREPARE yes, and nobody knows of both.
    world.ask(0, 0, None, RequestBody::NewCut);
    world.choose(0);
    let cut = world.at(0).leader().cross.table().cut();
    assert!(!world.at(0).leader().cuts[&cut].1.is_settled(), "one attempt is open");
    world.deliver(None); // The vote
    world.choose(0); // COMMIT
    world.ask(0, 2, Some(id(session, 2, 2)), transact(vec![add(0, -50)], Vec::new()));
    world.choose(0);
    assert_eq!(world.sum(0), 43);
    let (records, view) = &world.at(0).leader().cuts[&cut];
    assert!(view.is_settled());
    let key = Keyspace::first(GroupId(1)).row(SliceId(0), TABLE, Uid(0), b"balance");
    let bytes = view.over(records).get(&key).expect("memory").expect("it exists");
    assert_eq!(Row::decode(&bytes).expect("a row").value, Value::Integer(93), "without the 50");
}

#[test]
fn a_session_is_in_use_while_its_attempt_runs() {
    // Goal: nobody expires the session of an attempt in doubt, whoever leads meanwhile: the result has no
    // other place.
    let mut world = Small::new();
    for uid in [0, 1] {
        world.put(uid, Value::Integer(100));
    }
    let (session, other) = (world.session(0), world.session(0));
    assert!(!world.at(0).leader().cross.is_in_use(session));
    let body = transact(vec![add(0, -1), add(1, 1)], Vec::new());
    world.ask(0, 1, Some(id(session, 7, 1)), body.clone());
    assert!(world.at(0).leader().cross.is_in_use(session), "before its PREPARE is chosen");
    world.choose(0);
    world.deliver(Some(2)); // The other group does not hear of it.
    world.at(0).elect(NOW, 1, 0, false);
    world.choose(0);
    assert!(world.at(0).leader().cross.is_in_use(session), "the next leader takes it up");
    assert!(!world.at(0).leader().cross.is_in_use(other));
    for replica in &world.at(0).replicas {
        assert!(replica.leads() || !replica.cross.is_in_use(session), "it may be over");
    }

    for _ in 0..4 {
        let out = world.at(0).leader().cross.tick(NOW + std::time::Duration::from_secs(1));
        world.at(0).leader().carry_out(NOW, out);
        world.deliver(None);
        world.choose(0);
        world.choose(1);
    }
    assert!(
        !world.at(0).leader().cross.is_in_use(session),
        "nobody had heard of it: it is aborted"
    );
    world.ask(0, 2, Some(id(session, 7, 1)), body);
    assert!(world.at(0).leader().cross.is_in_use(session), "it is asked for again");
}
