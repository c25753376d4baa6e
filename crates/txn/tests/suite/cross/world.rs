//! A world of groups and callers under a random schedule, and what must hold of it.
//!
//! Every user starts with the same balance. Callers move money between users of several groups, or
//! read all balances in one transaction. Each transfer adds one to a row of its own in every group that
//! it touches: it must end at the same number everywhere, and at one if the caller was told so. Now and
//! then somebody makes a cut and puts the views of all groups together (`cuts.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_store::{Keyspace, View};
use quorate_txn::EntryPayload;
use quorate_txn::cross::{CrossEntry, Decide};
use quorate_types::{
    Attempt, BootTime, Code, Condition, CrossMessage, CutId, GroupId, Mutation, Reply, ReplyBody,
    Request, RequestBody, RequestId, RowAddress, SessionId, TableId, Uid, Value,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::cuts::Cutting;
use super::group::{Caller, GROUPS, Group, group_of};
use super::looks::{Look, Looked, looker};

pub(super) const ACCOUNTS: TableId = TableId(1);
const MARKS: TableId = TableId(2);
pub(super) const USERS: u64 = 8;
const CALLERS: usize = 6;
pub(super) const START: i64 = 100;
/// The number of whoever looks at single rows.
const GLANCER: usize = usize::MAX;
/// The number of whoever makes cuts.
pub(super) const CUTTER: usize = usize::MAX - 1;
/// Rounds in which everything must settle once nothing is broken any more.
const SETTLE_ROUNDS: usize = 3000;

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) committed: u64,
    /// Cuts of which all groups had a view.
    pub(super) cuts: u64,
    /// Reads in two rounds that succeeded.
    pub(super) looks: u64,
}

/// What a caller does.
struct Running {
    request: Request,
    /// The users it pays from and to; none for an audit.
    pays: bool,
}

pub(super) struct Run {
    pub(super) rng: SmallRng,
    pub(super) now: BootTime,
    pub(super) groups: Vec<Group>,
    network: Vec<CrossMessage>,
    callers: Vec<Option<Running>>,
    /// The session of each caller in each group, and the last number it used there.
    sessions: BTreeMap<(usize, GroupId), (SessionId, u64)>,
    pub(super) next_mark: u64,
    /// The users that each transfer touches, by its mark.
    pub(super) touched: BTreeMap<u64, BTreeSet<u64>>,
    /// Marks of transfers that a caller was told are committed, and of those told refused.
    pub(super) told_committed: BTreeSet<u64>,
    told_refused: BTreeSet<u64>,
    pub(super) cutting: Option<Cutting>,
    pub(super) counts: Counts,
    pub(super) is_settling: bool,
    pub(super) steps: u64,
    pub(super) looks: Vec<Option<Look>>,
    /// What reads in two rounds saw, and which transfers each cut holds.
    pub(super) looked: Vec<Looked>,
    pub(super) at_cuts: Vec<BTreeSet<u64>>,
}

pub(super) struct World;

impl World {
    /// Runs a seed; panics where something is wrong.
    pub(super) fn run(seed: u64, steps: usize) -> Counts {
        let mut world = Run {
            rng: SmallRng::seed_from_u64(seed),
            now: BootTime(1_000_000_000),
            groups: (1..=u32::try_from(GROUPS).expect("small")).map(Group::new).collect(),
            network: Vec::new(),
            callers: (0..CALLERS).map(|_| None).collect(),
            sessions: BTreeMap::new(),
            next_mark: 1,
            touched: BTreeMap::new(),
            cutting: None,
            told_committed: BTreeSet::new(),
            told_refused: BTreeSet::new(),
            counts: Counts::default(),
            is_settling: false,
            steps: 0,
            looks: Vec::new(),
            looked: Vec::new(),
            at_cuts: Vec::new(),
        };
        world.open();
        for _ in 0..steps {
            world.step();
        }
        world.settle();
        world.judge();
        world.counts
    }
}

pub(super) fn account(uid: u64) -> RowAddress {
    RowAddress { table: ACCOUNTS, uid: Uid(uid), key: Bytes::from_static(b"balance") }
}

/// The mark of a transfer with a user: one row for each group it touches, and user.
pub(super) fn mark(uid: u64, number: u64) -> RowAddress {
    RowAddress { table: MARKS, uid: Uid(uid), key: Bytes::from(number.to_be_bytes().to_vec()) }
}

fn add(at: RowAddress, delta: i64, floor: Option<i64>) -> Mutation {
    Mutation::Add { at, delta, floor, ceiling: None }
}

impl Run {
    /// Gives every user money and every caller a session in every group.
    fn open(&mut self) {
        for uid in 0..USERS {
            let body = RequestBody::Transact {
                conditions: Vec::new(),
                mutations: vec![Mutation::Put(account(uid), Value::Integer(START))],
                reads: Vec::new(),
            };
            self.now_at(uid, Request { id: None, body });
        }
        for caller in 0..CALLERS {
            for group in 1..=GROUPS {
                let request = Request { id: None, body: RequestBody::OpenSession };
                let reply = self.now_at(group - 1, request);
                let ReplyBody::Session(session) = reply.body else {
                    panic!("no session: {reply:?}")
                };
                self.sessions.insert((caller, session.group), (session, 0));
            }
        }
    }

    /// Asks the group of a user and lets it answer at once.
    fn now_at(&mut self, uid: u64, request: Request) -> Reply {
        let now = self.now;
        let group = group_of(ACCOUNTS, Uid(uid)).expect("it has one");
        let group = self.groups.iter_mut().find(|it| it.id == group).expect("it exists");
        group.leader().ask(now, Caller { number: 0, request });
        group.choose(now, usize::MAX);
        let (_, told) = group.leader().told.pop().expect("it is answered");
        told.expect("it leads").expect("it takes effect")
    }

    fn step(&mut self) {
        self.steps += 1;
        self.now = self.now + Duration::from_millis(self.rng.random_range(0..40));
        let draw = self.rng.random_range(0..100);
        match draw {
            0..30 => (0..self.rng.random_range(1..8)).for_each(|_| self.deliver()),
            30..55 => (0..self.rng.random_range(1..5)).for_each(|_| self.choose()),
            55..75 => self.call(),
            75..83 => self.tick(),
            83..87 => self.again(),
            87..90 => self.clean(),
            90..94 if !self.is_settling => self.elect(),
            94..96 => self.catch_up(),
            96..98 => self.cut(),
            _ => self.lose(),
        }
        if self.rng.random_bool(0.7) {
            self.look_at_cut();
        }
        if self.rng.random_bool(0.5) {
            self.look();
        }
        self.hear_callers();
    }

    fn pick(&mut self) -> usize {
        self.rng.random_range(0..self.groups.len())
    }

    /// A message arrives: at the leader, or at one that believes to be it. It may come again.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.network.len());
        let is_doubled = !self.is_settling && self.rng.random_bool(0.15);
        let message =
            if is_doubled { self.network[index].clone() } else { self.network.swap_remove(index) };
        let to = self.groups.iter().position(|it| it.id == message.to).expect("it exists");
        let group = &mut self.groups[to];
        let believers: Vec<usize> =
            (0..group.replicas.len()).filter(|it| group.replicas[*it].leads()).collect();
        let at = believers[self.rng.random_range(0..believers.len())];
        let at = if self.rng.random_bool(0.7) { group.leader } else { at };
        let replica = &mut group.replicas[at];
        let out = replica.cross.receive(self.now, message);
        replica.carry_out(self.now, out);
        self.collect();
    }

    pub(super) fn deliver_all(&mut self) {
        while !self.network.is_empty() {
            self.deliver();
        }
    }

    fn lose(&mut self) {
        if !self.is_settling && !self.network.is_empty() {
            let index = self.rng.random_range(0..self.network.len());
            self.network.swap_remove(index);
        }
    }

    fn choose(&mut self) {
        let index = self.pick();
        let count = self.rng.random_range(1..6);
        let now = self.now;
        self.groups[index].choose(now, count);
        self.collect();
    }

    fn tick(&mut self) {
        let now = self.now;
        for group in &mut self.groups {
            for replica in &mut group.replicas {
                let out = replica.cross.tick(now);
                replica.carry_out(now, out);
            }
        }
        self.collect();
    }

    fn clean(&mut self) {
        let index = self.pick();
        let now = self.now;
        let leader = self.groups[index].leader();
        let out = leader.cross.clean();
        leader.carry_out(now, out);
        self.collect();
    }

    fn again(&mut self) {
        let now = self.now;
        for group in &mut self.groups {
            let leader = group.leader();
            if let Some(request) = leader.again.pop() {
                leader.try_again(now, request);
            }
        }
        self.collect();
    }

    fn elect(&mut self) {
        let index = self.pick();
        let next = self.rng.random_range(0..self.groups[index].replicas.len());
        let adopted = self.rng.random_range(0..4);
        let is_unaware = self.rng.random_bool(0.5);
        let now = self.now;
        self.groups[index].elect(now, next, adopted, is_unaware);
        self.collect();
    }

    fn catch_up(&mut self) {
        let index = self.pick();
        let replica = self.rng.random_range(0..self.groups[index].replicas.len());
        let is_restart = self.rng.random_bool(0.3);
        let now = self.now;
        self.groups[index].catch_up(now, replica, is_restart);
        self.collect();
    }

    /// What replicas sent is on its way now.
    pub(super) fn collect(&mut self) {
        for group in &mut self.groups {
            for replica in &mut group.replicas {
                self.network.append(&mut replica.sent);
            }
        }
    }

    /// An idle caller asks something new.
    fn call(&mut self) {
        let Some(number) = self.callers.iter().position(Option::is_none) else { return };
        if self.is_settling {
            return;
        }
        let mut users: Vec<u64> = (0..USERS).collect();
        for index in (1..users.len()).rev() {
            users.swap(index, self.rng.random_range(0..=index));
        }
        if self.rng.random_bool(0.25) {
            // Somebody of the same group is the next one.
            let neighbour = (users[0] + GROUPS) % USERS;
            let at = users.iter().position(|user| *user == neighbour).expect("it is one of all");
            users.swap(1, at);
        }
        let pays = self.rng.random_bool(0.8);
        let (body, first) = if pays { self.payment(&users) } else { (audit(), users[0]) };
        let group = group_of(ACCOUNTS, Uid(first)).expect("it has one");
        let (session, last) = self.sessions.get_mut(&(number, group)).expect("all are open");
        *last += 1;
        let id = RequestId { session: *session, sequence: *last, lowest_unanswered: *last };
        let request = Request { id: Some(id), body };
        self.callers[number] = Some(Running { request, pays });
        self.send(number);
    }

    /// Money goes from the first user to one or two others.
    fn payment(&mut self, users: &[u64]) -> (RequestBody, u64) {
        let number = self.next_mark;
        self.next_mark += 1;
        let amount = self.rng.random_range(1..60);
        let count = self.rng.random_range(1..=2);
        let (from, to) = (users[0], &users[1..=count]);
        self.touched.insert(number, users[..=count].iter().copied().collect());
        let each = i64::try_from(to.len()).expect("small") * amount;
        let mut mutations =
            vec![add(account(from), -each, Some(0)), add(mark(from, number), 1, None)];
        for uid in to {
            mutations.push(add(account(*uid), amount, None));
            mutations.push(add(mark(*uid, number), 1, None));
        }
        let mut conditions = Vec::new();
        if self.rng.random_bool(0.3) {
            conditions.push(Condition::Exists(account(users[5])));
        }
        if self.rng.random_bool(0.1) {
            conditions.push(Condition::Absent(account(users[6]))); // It never holds.
        }
        (RequestBody::Transact { conditions, mutations, reads: Vec::new() }, from)
    }

    fn send(&mut self, number: usize) {
        let now = self.now;
        let Some(running) = &self.callers[number] else { return };
        let request = running.request.clone();
        let id = request.id.expect("it has one");
        let group = self.groups.iter_mut().find(|it| it.id == id.session.group).expect("exists");
        group.leader().ask(now, Caller { number, request });
        self.collect();
    }

    /// Callers read what they are told. Without a leader, or without an answer for certain, they ask
    /// again under the same id.
    pub(super) fn hear_callers(&mut self) {
        let mut told = Vec::new();
        for group in &mut self.groups {
            for replica in &mut group.replicas {
                told.append(&mut replica.told);
            }
        }
        for (number, told) in told {
            if number == CUTTER {
                self.hear_cut(told);
                continue;
            }
            if let Some(look) = looker(number) {
                self.hear_look(look, told);
                continue;
            }
            if number == GLANCER {
                // Whoever asks for a row of a committed transfer sees it, in whatever group it is.
                if let Some(answer) = told {
                    let body = answer.map(|reply| reply.body);
                    assert_eq!(body, Ok(ReplyBody::Row(Some(Value::Integer(1)))));
                }
                continue;
            }
            let Some(running) = &self.callers[number] else { continue };
            let mark = mark_of(&running.request);
            match told {
                Some(Ok(reply)) => {
                    if running.pays {
                        self.told_committed.extend(mark);
                        self.counts.committed += 1;
                        self.glance(number);
                    } else {
                        assert_eq!(total(&reply), START * i64::try_from(USERS).expect("small"));
                    }
                    self.callers[number] = None;
                }
                Some(Err(error)) if error.code == Code::TxnAborted => self.send(number),
                Some(Err(error)) => {
                    let is_expected =
                        matches!(error.code, Code::GuardFailed | Code::ConditionFailed);
                    assert!(is_expected, "{error}");
                    self.told_refused.extend(mark);
                    self.callers[number] = None;
                }
                None => self.send(number),
            }
        }
    }

    /// Asks for the marks of a transfer that its caller was just told is committed: each a read of one
    /// row, at the leader of its group.
    fn glance(&mut self, number: usize) {
        let now = self.now;
        let Some(running) = &self.callers[number] else { return };
        let RequestBody::Transact { mutations, .. } = &running.request.body else { return };
        let marks: Vec<RowAddress> = mutations.iter().map(Mutation::address).cloned().collect();
        for at in marks.into_iter().filter(|at| at.table == MARKS) {
            let group = group_of(at.table, at.uid).expect("it has one");
            let group = self.groups.iter_mut().find(|it| it.id == group).expect("it exists");
            let request = Request { id: None, body: RequestBody::Get(at) };
            group.leader().ask(now, Caller { number: GLANCER, request });
        }
    }

    /// Nothing is broken any more: everything must come to an end by itself.
    fn settle(&mut self) {
        self.is_settling = true;
        for index in 0..self.groups.len() {
            for replica in 0..self.groups[index].replicas.len() {
                let now = self.now;
                self.groups[index].catch_up(now, replica, false);
            }
        }
        for _ in 0..SETTLE_ROUNDS {
            self.now = self.now + Duration::from_millis(20);
            self.deliver_all();
            for index in 0..self.groups.len() {
                let now = self.now;
                self.groups[index].choose(now, usize::MAX);
            }
            self.collect();
            self.tick();
            self.again();
            for index in 0..self.groups.len() {
                let now = self.now;
                let leader = self.groups[index].leader();
                let out = leader.cross.clean();
                leader.carry_out(now, out);
            }
            self.collect();
            self.hear_callers();
            if self.is_settled() {
                break;
            }
        }
        assert!(self.is_settled(), "something never ends: {}", self.rest());
        self.cut_at_the_end();
        self.look_at_the_end();
        for index in 0..self.groups.len() {
            for replica in 0..self.groups[index].replicas.len() {
                let now = self.now;
                self.groups[index].catch_up(now, replica, false);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let is_quiet = |group: &Group| {
            let leader = &group.replicas[group.leader];
            leader.cross.table().is_empty()
                && leader.cross.locks().is_empty()
                && leader.proposed.is_empty()
                && leader.cross.running() == 0
        };
        self.callers.iter().all(Option::is_none)
            && self.network.is_empty()
            && self.groups.iter().all(is_quiet)
    }

    fn rest(&self) -> String {
        let mut text = format!("{} messages; ", self.network.len());
        for group in &self.groups {
            let leader = &group.replicas[group.leader];
            let records: Vec<_> = leader
                .cross
                .table()
                .records()
                .map(|(attempt, record)| format!("{attempt} {}", record.state.word()))
                .collect();
            text += &format!(
                "{}: {records:?}, {} run, {} locked, {} proposed; ",
                group.id,
                leader.cross.running(),
                leader.cross.locks().rows(),
                leader.proposed.len()
            );
        }
        let open: Vec<_> = self.callers.iter().flatten().map(|it| &it.request.id).collect();
        text + &format!("callers {open:?}")
    }

    fn judge(&self) {
        self.judge_logs();
        self.judge_looks();
        let mut balances = 0;
        for uid in 0..USERS {
            let balance = self.number(&account(uid)).expect("every user has an account");
            assert!(0 <= balance, "user {uid} has {balance}");
            balances += balance;
        }
        assert_eq!(balances, START * i64::try_from(USERS).expect("small"));
        for number in 1..self.next_mark {
            let marks: BTreeSet<i64> =
                (0..USERS).filter_map(|uid| self.number(&mark(uid, number))).collect();
            assert!(marks.is_empty() || marks == BTreeSet::from([1]), "{number}: {marks:?}");
            let happened = !marks.is_empty();
            assert!(happened || !self.told_committed.contains(&number), "{number} is lost");
            assert!(!happened || !self.told_refused.contains(&number), "{number} was refused");
        }
        for group in &self.groups {
            let first = &group.replicas[0];
            for replica in &group.replicas[1..] {
                assert_eq!(first.state(), replica.state(), "{}", group.id);
            }
        }
    }

    /// No attempt is committed in one log and refused or aborted in another, and all logs that commit it
    /// name the same cut.
    fn judge_logs(&self) {
        let mut committed = BTreeMap::<Attempt, CutId>::new();
        let mut refused = BTreeSet::<Attempt>::new();
        for group in &self.groups {
            for payload in group.log.iter().flatten() {
                match EntryPayload::decode(payload, group.id).expect("our own entries") {
                    EntryPayload::Cross(CrossEntry::Decide(Decide::Commit(attempt, _, cut))) => {
                        let before = *committed.entry(attempt).or_insert(cut);
                        assert_eq!(before, cut, "{attempt} in {}", group.id);
                    }
                    EntryPayload::Cross(
                        CrossEntry::Decide(Decide::Abort(attempt)) | CrossEntry::Refuse(attempt),
                    ) => {
                        refused.insert(attempt);
                    }
                    _ => {}
                }
            }
        }
        let both: Vec<_> = committed.keys().filter(|it| refused.contains(it)).collect();
        assert!(both.is_empty(), "{both:?}");
    }

    fn number(&self, at: &RowAddress) -> Option<i64> {
        let id = group_of(at.table, at.uid).expect("it has one");
        let group = self.groups.iter().find(|it| it.id == id).expect("it exists");
        let slice = quorate_types::SliceId(u16::try_from(at.uid.0 % 100).expect("small"));
        let key = Keyspace::first(id).row(slice, at.table, at.uid, &at.key);
        let bytes = group.replicas[group.leader].records.get(&key).expect("memory")?;
        match quorate_store::Row::decode(&bytes).expect("a row").value {
            Value::Integer(number) => Some(number),
            Value::Bytes(_) => panic!("{at:?} holds bytes"),
        }
    }
}

/// A transaction that reads every balance at once.
fn audit() -> RequestBody {
    let reads = (0..USERS).map(account).collect();
    RequestBody::Transact { conditions: Vec::new(), mutations: Vec::new(), reads }
}

fn total(reply: &Reply) -> i64 {
    let ReplyBody::Committed { reads, .. } = &reply.body else { panic!("{reply:?}") };
    let number = |read: &Option<Value>| match read {
        Some(Value::Integer(number)) => *number,
        other => panic!("{other:?}"),
    };
    reads.iter().map(number).sum()
}

fn mark_of(request: &Request) -> Option<u64> {
    let RequestBody::Transact { mutations, .. } = &request.body else { return None };
    let mark = mutations.iter().map(Mutation::address).find(|at| at.table == MARKS)?;
    Some(u64::from_be_bytes(mark.key[..].try_into().expect("eight bytes")))
}
