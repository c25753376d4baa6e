//! Random sessions: every replica ends with the same records, and no id takes effect twice.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_txn::{Applied, expire_idle};
use quorate_types::{
    Code, EntryId, LogTime, Reply, ReplyBody, Request, RequestBody, RequestId, SessionId, Slot,
    Value,
};

use crate::common::{Entry, Leader, Replica, Submitted, add, close, request, row, transact, write};

const IDLE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// By number of opening; may be closed already.
    Close(usize),
    /// A count under a session. Retries happen because numbers repeat.
    Count {
        session: usize,
        sequence: u64,
        behind: u64,
    },
    /// A count that nobody can retry.
    CountAnonymously,
    Wait(u64),
    Expire,
    Apply(usize),
    /// An entry of the log comes a second time, as no leader of ours would let it.
    Repeat(usize),
    LoseBallot,
    /// The second replica writes a checkpoint.
    Checkpoint,
    /// The second replica starts from its last checkpoint, and replays the log above it.
    Restart,
}

/// One leader, one replica without checkpoints, one that restarts.
struct Cluster {
    leader: Leader,
    steady: Replica,
    restarted: Replica,
    /// The second replica as of its last checkpoint, and the entries it applied since.
    saved: Replica,
    replay: Vec<Entry>,
    log: Vec<Entry>,
    sessions: Vec<SessionId>,
    /// The first reply of each request that took effect.
    results: BTreeMap<(Slot, u64), Reply>,
    counted: i64,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            leader: Leader::new(),
            steady: Replica::new(),
            restarted: Replica::new(),
            saved: Replica::new(),
            replay: Vec::new(),
            log: Vec::new(),
            sessions: Vec::new(),
            results: BTreeMap::new(),
            counted: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                self.leader.submit(&Request { id: None, body: RequestBody::OpenSession });
            }
            Step::Close(number) => {
                if let Some(session) = self.sessions.get(number) {
                    self.leader.submit(&close(*session));
                }
            }
            Step::Count { session, sequence, behind } => {
                if let Some(session) = self.sessions.get(session) {
                    self.count(request(*session, sequence, sequence.saturating_sub(behind)));
                }
            }
            Step::CountAnonymously => {
                self.leader.submit(&write(None, vec![add("total", 1)]));
            }
            Step::Wait(milliseconds) => {
                self.leader.now = LogTime(self.leader.now.0 + milliseconds);
            }
            Step::Expire => {
                let Leader { replica, pending, now, .. } = &self.leader;
                if let Some(proposal) =
                    expire_idle(&replica.sessions, pending, &|_| false, *now, IDLE)
                {
                    self.leader.append(&proposal);
                }
            }
            Step::Apply(count) => {
                for _ in 0..count.min(self.leader.in_flight.len()) {
                    self.apply();
                }
            }
            Step::Repeat(number) => self.repeat(number),
            Step::LoseBallot => self.leader.lose_ballot(),
            Step::Checkpoint => {
                self.restarted.checkpoint();
                self.saved = self.restarted.clone();
                self.replay.clear();
            }
            Step::Restart => {
                self.restarted = self.saved.clone();
                self.restarted.reload();
                for entry in &self.replay {
                    self.restarted.apply(entry);
                }
                assert_eq!(self.restarted.state(), self.steady.state());
            }
        }
    }

    fn count(&mut self, id: RequestId) {
        let reads = vec![row("total")];
        let asked = transact(Some(id), Vec::new(), vec![add("total", 1)], reads);
        let first = self.results.get(&(id.session.slot, id.sequence)).cloned();
        match self.leader.submit(&asked) {
            Submitted::Proposed(_) => assert_eq!(first, None, "{id:?} is proposed again"),
            Submitted::Replayed(reply) => {
                assert_eq!(Some(Reply { replayed: false, ..reply }), first);
            }
            Submitted::Joined(slot) => {
                assert!(self.leader.in_flight.iter().any(|(entry, _)| entry.at.slot == slot));
            }
            Submitted::Refused(error) => match error.code {
                Code::SessionExpired | Code::SequenceReused => {}
                other => panic!("{id:?} is refused with {other}"),
            },
            Submitted::Answered(body, _) | Submitted::Read(body) => {
                panic!("a write gave {body:?}")
            }
        }
    }

    /// Applies the oldest entry in flight everywhere. It was proposed, so it takes effect.
    fn apply(&mut self) {
        let (entry, applied) = self.leader.apply_next();
        self.follow(&entry, &applied);
        let reply = applied.reply.expect("what was proposed takes effect");
        assert_eq!((reply.at, reply.replayed), (entry.at, false));
        match &reply.body {
            ReplyBody::Session(session) => self.sessions.push(*session),
            ReplyBody::Committed { sums, .. } => {
                self.counted += 1;
                assert_eq!(sums, &[self.counted]);
                let id = self.id_of(&entry);
                if let Some(id) = id {
                    let before = self.results.insert((id.session.slot, id.sequence), reply);
                    assert_eq!(before, None, "{id:?} took effect twice");
                }
            }
            _ => {}
        }
        self.log.push(entry);
    }

    fn id_of(&self, entry: &Entry) -> Option<RequestId> {
        match quorate_txn::EntryPayload::decode(&entry.payload, crate::common::GROUP) {
            Ok(quorate_txn::EntryPayload::Write(write)) => write.id,
            Ok(_) => None,
            Err(error) => panic!("an entry of ours does not decode: {error}"),
        }
    }

    /// A write under an id comes again in a later slot. Only with nothing in flight, whose slots it
    /// would take.
    fn repeat(&mut self, number: usize) {
        if self.log.is_empty() || !self.leader.in_flight.is_empty() {
            return;
        }
        let entry = self.log[number % self.log.len()].clone();
        let Some(id) = self.id_of(&entry) else { return };
        let at = EntryId { slot: self.leader.next, ..entry.at };
        self.leader.next = self.leader.next.next();
        let again = Entry { at, log_time: self.leader.now, ..entry };
        let applied = self.leader.replica.apply(&again);
        self.follow(&again, &applied);
        assert_eq!(applied.changes, []);
        match applied.reply {
            Ok(reply) => {
                assert!(reply.replayed);
                let first = self.results.get(&(id.session.slot, id.sequence)).cloned();
                assert_eq!(Some(Reply { replayed: false, ..reply }), first);
            }
            Err(error) => {
                assert!(matches!(error.code, Code::SessionExpired | Code::SequenceReused));
            }
        }
    }

    fn follow(&mut self, entry: &Entry, applied: &Applied) {
        assert_eq!(&self.steady.apply(entry), applied);
        assert_eq!(&self.restarted.apply(entry), applied);
        self.replay.push(entry.clone());
        assert_eq!(self.steady, self.leader.replica);
        assert_eq!(self.restarted.state(), self.steady.state());
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        1 => (0_usize..4).prop_map(Step::Close),
        16 => (0_usize..4, 1_u64..12, 0_u64..8)
            .prop_map(|(session, sequence, behind)| Step::Count { session, sequence, behind }),
        2 => Just(Step::CountAnonymously),
        3 => (1_u64..15_000).prop_map(Step::Wait),
        2 => Just(Step::Expire),
        8 => (1_usize..8).prop_map(Step::Apply),
        3 => any::<usize>().prop_map(Step::Repeat),
        1 => Just(Step::LoseBallot),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Goal: replicas that apply the same log have the same records and sessions after every entry,
    /// restarts included; whatever a leader proposes takes effect; an id takes effect at most once
    /// and always answers the same.
    #[test]
    fn replicas_agree_and_ids_count_once(steps in vec(any_step(), 1..120)) {
        let mut cluster = Cluster::new();
        cluster.step(&Step::Open);
        cluster.step(&Step::Apply(1));
        for step in &steps {
            cluster.step(step);
        }
        cluster.step(&Step::Apply(usize::MAX));
        prop_assert!(cluster.leader.pending.is_empty());
        prop_assert!(cluster.leader.overlay.is_empty());
        let total = (cluster.counted != 0).then_some(Value::Integer(cluster.counted));
        prop_assert_eq!(cluster.leader.value(&row("total")), total);
    }
}
