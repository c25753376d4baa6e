//! Transfers between groups under a random schedule, and what must hold of them.
//!
//! In every group there are users with money, whose floor is 0, and who pay each other at random: with
//! posts, reservations, chains, and ids that two callers use at once. And there is a source, which is
//! only debited, and a sink, which is only credited, with amounts that are each another power of two: so a
//! balance tells which transfers it shows, and every read can be judged. Some go by a relay, which pays
//! what it was told to have got: that is never refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_types::{
    AccountAddress, AccountSettings, BootTime, Code, CrossMessage, GroupId, Reply, ReplyBody,
    Request, RequestBody, TableId, Transfer, TransferBatch, TransferId, TransferKind, Uid, Verdict,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::group::{Caller, GROUPS, Group, group_of};
use super::payments_cuts::{CUTTER, Cutting};

/// Users with money, two in each group.
pub(super) const USERS: u64 = 8;
/// The source of a group has this number and its place.
pub(super) const SOURCE: u64 = 100;
/// The relay this one,
pub(super) const RELAY: u64 = 200;
/// and the sink this one.
pub(super) const SINK: u64 = 300;
const LEDGER: u32 = 1;
pub(super) const START: u64 = 100;
const CALLERS: usize = 8;
/// Transfers from sources to sinks: as many as an amount has bits.
const BITS: u32 = 60;
/// Rounds in which everything must settle once nothing is broken any more.
const SETTLE_ROUNDS: usize = 3000;

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) reads: u64,
    pub(super) cuts: u64,
}

/// What a caller waits for.
#[derive(Clone)]
enum Waiting {
    Transfers(Vec<Transfer>),
    /// Of a source or a sink, and the bits it was known to show by then.
    Read {
        of: AccountAddress,
        known: u64,
        begun: u64,
    },
    Money(AccountAddress),
}

/// Which bits accounts are known to show: somebody was told so, or saw them.
pub(super) type Known = BTreeMap<AccountAddress, u64>;

/// A transfer of a bit.
pub(super) struct Hop {
    pub(super) bit: u64,
    pub(super) from: AccountAddress,
    pub(super) to: AccountAddress,
    /// What was known when it began: who shows this bit shows that, too.
    pub(super) before: Known,
    pub(super) span: Span,
}

/// A read of a source or a sink, and the bits it showed.
pub(super) struct Look {
    pub(super) of: AccountAddress,
    pub(super) shown: u64,
    pub(super) span: Span,
}

/// When a call began, and when its first answer came.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) begun: u64,
    pub(super) ended: u64,
}

pub(super) struct Run {
    pub(super) rng: SmallRng,
    pub(super) now: BootTime,
    pub(super) groups: Vec<Group>,
    network: Vec<CrossMessage>,
    callers: Vec<Option<Waiting>>,
    pub(super) cutting: Option<Cutting>,
    pub(super) hops: Vec<Hop>,
    pub(super) looks: Vec<Look>,
    /// Counts calls and answers.
    moment: u64,
    next_bit: u32,
    /// Bits that a relay has got and not passed on.
    relayed: Vec<(u64, AccountAddress)>,
    pub(super) known: Known,
    next_id: u128,
    /// Every transfer that was sent, by its id.
    pub(super) sent: BTreeMap<TransferId, Transfer>,
    /// Those that are no part of a chain.
    alone: Vec<Transfer>,
    pub(super) told_created: BTreeSet<TransferId>,
    reserved: Vec<Transfer>,
    pub(super) counts: Counts,
    is_settling: bool,
}

pub(super) fn account(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), LEDGER)
}

fn group_of_user(uid: Uid) -> GroupId {
    group_of(TableId::ACCOUNTS, uid).expect("everybody has one")
}

/// Runs a seed; panics where something is wrong.
pub(super) fn run(seed: u64, steps: usize) -> Counts {
    let mut run = Run {
        rng: SmallRng::seed_from_u64(seed),
        now: BootTime(1_000_000_000),
        groups: (1..=u32::try_from(GROUPS).expect("small")).map(Group::new).collect(),
        network: Vec::new(),
        callers: (0..CALLERS).map(|_| None).collect(),
        cutting: None,
        hops: Vec::new(),
        looks: Vec::new(),
        moment: 0,
        next_bit: 0,
        relayed: Vec::new(),
        known: Known::new(),
        next_id: 1,
        sent: BTreeMap::new(),
        alone: Vec::new(),
        told_created: BTreeSet::new(),
        reserved: Vec::new(),
        counts: Counts::default(),
        is_settling: false,
    };
    run.open();
    for _ in 0..steps {
        run.step();
    }
    run.settle();
    run.judge();
    run.counts
}

impl Run {
    /// Opens all accounts and gives every user money.
    fn open(&mut self) {
        let no_floor = AccountSettings { floor: None, history: true, ..AccountSettings::default() };
        let floor = AccountSettings { floor: Some(0), ..no_floor };
        for group in 0..GROUPS {
            for (kind, settings) in [(SOURCE, no_floor), (RELAY, floor), (SINK, floor)] {
                let uid = kind + group;
                self.now_at(uid, RequestBody::CreateAccount(account(uid), settings));
            }
        }
        for uid in 0..USERS {
            self.now_at(uid, RequestBody::CreateAccount(account(uid), floor));
            let from = account(SOURCE + uid % GROUPS);
            let transfer = Transfer::post(self.id(), from, account(uid), START);
            self.note(&[transfer]);
            self.now_at(uid, RequestBody::Transfers(TransferBatch::new(&[transfer])));
        }
    }

    fn id(&mut self) -> TransferId {
        self.next_id += 1;
        TransferId(self.next_id)
    }

    /// Asks the group of a user and lets it answer at once.
    pub(super) fn now_at(&mut self, uid: u64, body: RequestBody) -> ReplyBody {
        let now = self.now;
        let group = self.group_mut(group_of_user(Uid(uid)));
        group.leader().ask(now, Caller { number: 0, request: Request { id: None, body } });
        group.choose(now, usize::MAX);
        let (_, told) = group.leader().told.pop().expect("it is answered");
        told.expect("it leads").expect("it takes effect").body
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        self.groups.iter_mut().find(|it| it.id == id).expect("it exists")
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(self.rng.random_range(0..40));
        match self.rng.random_range(0..100) {
            0..30 => (0..self.rng.random_range(1..8)).for_each(|_| self.deliver()),
            30..55 => (0..self.rng.random_range(1..5)).for_each(|_| self.choose()),
            55..76 => self.call(),
            76..84 => self.tick(),
            84..87 => self.clean(),
            87..92 if !self.is_settling => self.elect(),
            92..96 => self.catch_up(),
            96..98 => self.cut(),
            _ => self.lose(),
        }
        self.look_at_cut();
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
        let now = self.now;
        let to_leader = self.rng.random_bool(0.7);
        let any = self.rng.random_range(0..3);
        let group = self.group_mut(message.to);
        let at = if to_leader || !group.replicas[any].leads() { group.leader } else { any };
        let replica = &mut group.replicas[at];
        let out = replica.cross.receive(now, message);
        replica.carry_out(now, out);
        self.collect();
    }

    fn lose(&mut self) {
        if !self.is_settling && !self.network.is_empty() {
            let index = self.rng.random_range(0..self.network.len());
            self.network.swap_remove(index);
        }
    }

    fn choose(&mut self) {
        let (index, count, now) = (self.pick(), self.rng.random_range(1..6), self.now);
        self.groups[index].choose(now, count);
        self.collect();
    }

    fn tick(&mut self) {
        let now = self.now;
        for replica in self.groups.iter_mut().flat_map(|group| &mut group.replicas) {
            let out = replica.cross.tick(now);
            replica.carry_out(now, out);
        }
        self.collect();
    }

    fn clean(&mut self) {
        let (index, now) = (self.pick(), self.now);
        let leader = self.groups[index].leader();
        let out = leader.cross.clean();
        leader.carry_out(now, out);
        self.collect();
    }

    fn elect(&mut self) {
        let (index, next, now) = (self.pick(), self.rng.random_range(0..3), self.now);
        let (adopted, is_unaware) = (self.rng.random_range(0..4), self.rng.random_bool(0.5));
        self.groups[index].elect(now, next, adopted, is_unaware);
        self.collect();
    }

    fn catch_up(&mut self) {
        let (index, replica, now) = (self.pick(), self.rng.random_range(0..3), self.now);
        let is_restart = self.rng.random_bool(0.3);
        self.groups[index].catch_up(now, replica, is_restart);
        self.collect();
    }

    pub(super) fn collect(&mut self) {
        for replica in self.groups.iter_mut().flat_map(|group| &mut group.replicas) {
            self.network.append(&mut replica.sent);
        }
    }

    /// An idle caller asks something.
    fn call(&mut self) {
        let Some(number) = self.callers.iter().position(Option::is_none) else { return };
        if self.is_settling {
            return;
        }
        let waiting = match self.rng.random_range(0..10) {
            0..2 => self.bit(),
            2..5 => self.read(),
            5..6 => Waiting::Money(account(self.rng.random_range(0..USERS))),
            6..7 => self.repeat(),
            _ => self.pay(),
        };
        self.callers[number] = Some(waiting);
        self.send(number);
    }

    /// A transfer from a source, or from a relay that has got its bit, in any two groups.
    fn bit(&mut self) -> Waiting {
        let place = self.rng.random_range(0..GROUPS);
        let (bit, from, to) = if let Some((bit, relay)) = self.relayed.pop() {
            (bit, relay, account(SINK + place))
        } else if self.next_bit < BITS {
            self.next_bit += 1;
            let to = if self.rng.random_bool(0.4) { RELAY } else { SINK };
            let from = account(SOURCE + self.rng.random_range(0..GROUPS));
            (1 << (self.next_bit - 1), from, account(to + place))
        } else {
            return self.read();
        };
        let span = Span { begun: self.next_moment(), ended: u64::MAX };
        self.hops.push(Hop { bit, from, to, before: self.known.clone(), span });
        let transfer = Transfer::post(self.id(), from, to, bit);
        self.note(&[transfer]);
        Waiting::Transfers(vec![transfer])
    }

    fn read(&mut self) -> Waiting {
        let kind = if self.rng.random_bool(0.3) { SOURCE } else { SINK };
        let of = account(kind + self.rng.random_range(0..GROUPS));
        Waiting::Read { of, known: self.known_of(of), begun: self.next_moment() }
    }

    pub(super) fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn known_of(&self, of: AccountAddress) -> u64 {
        self.known.get(&of).copied().unwrap_or_default()
    }

    /// Somebody else sends a transfer that was sent before.
    fn repeat(&mut self) -> Waiting {
        let again = self.alone[self.rng.random_range(0..self.alone.len())];
        Waiting::Transfers(vec![again])
    }

    /// Users pay each other, from one group to one group.
    fn pay(&mut self) -> Waiting {
        let (from, to) = (self.rng.random_range(0..GROUPS), self.rng.random_range(0..GROUPS));
        let count = self.rng.random_range(1..4);
        let is_chain = self.rng.random_bool(0.3);
        let mut transfers = Vec::new();
        for _ in 0..count {
            let debit = account(from + GROUPS * self.rng.random_range(0..USERS / GROUPS));
            let mut credit = account(to + GROUPS * self.rng.random_range(0..USERS / GROUPS));
            if self.rng.random_bool(0.05) {
                credit = account(1000 + to); // It does not exist.
            }
            if credit == debit {
                continue;
            }
            let amount = self.rng.random_range(1..60);
            let transfer = Transfer::post(self.id(), debit, credit, amount);
            transfers.push(Transfer { linked: is_chain, ..transfer });
        }
        let Some(last) = transfers.last_mut() else { return self.read() };
        last.linked = false;
        if self.rng.random_bool(0.2) {
            // The end of a reservation between the same groups, in one request with what it leaves free.
            let id = self.id();
            let fits =
                |of: &&Transfer| (of.debit.uid.0 % GROUPS, of.credit.uid.0 % GROUPS) == (from, to);
            if let Some(of) = self.reserved.iter().rev().find(fits).copied() {
                let kind = TransferKind::PostPending(of.id);
                let amount = self.rng.random_range(1..=of.amount);
                transfers.insert(0, Transfer { id, kind, amount, linked: is_chain, ..of });
            }
        }
        if !is_chain && self.rng.random_bool(0.1) {
            transfers.push(transfers[0]); // The same once more, in one request.
        }
        if self.rng.random_bool(0.25) {
            transfers.truncate(1);
            transfers[0].linked = false;
            transfers[0] = self.reserve_or_end(transfers[0]);
        }
        self.note(&transfers);
        Waiting::Transfers(transfers)
    }

    fn note(&mut self, transfers: &[Transfer]) {
        self.sent.extend(transfers.iter().map(|it| (it.id, *it)));
        if !transfers.iter().any(|it| it.linked) {
            self.alone.extend_from_slice(transfers);
        }
    }

    /// A reservation, or the end of one.
    fn reserve_or_end(&mut self, transfer: Transfer) -> Transfer {
        let is_new = self.reserved.is_empty() || self.rng.random_bool(0.5);
        if is_new {
            let kind = TransferKind::Pending { timeout_ms: 0 };
            self.reserved.push(Transfer { kind, ..transfer });
            return Transfer { kind, ..transfer };
        }
        let of = self.reserved[self.rng.random_range(0..self.reserved.len())];
        let (debit, credit) = (of.debit, of.credit);
        let kind = match self.rng.random_bool(0.7) {
            true => TransferKind::PostPending(of.id),
            false => TransferKind::VoidPending(of.id),
        };
        let amount = match kind {
            TransferKind::PostPending(_) => self.rng.random_range(0..=of.amount),
            _ => 0,
        };
        Transfer { kind, debit, credit, amount, ..transfer }
    }

    fn send(&mut self, number: usize) {
        let now = self.now;
        let (uid, body) = match &self.callers[number] {
            Some(Waiting::Transfers(all)) => {
                (all[0].debit.uid, RequestBody::Transfers(TransferBatch::new(all)))
            }
            Some(Waiting::Read { of, .. } | Waiting::Money(of)) => {
                (of.uid, RequestBody::GetAccount(*of))
            }
            None => return,
        };
        let request = Request { id: None, body };
        self.group_mut(group_of_user(uid)).leader().ask(now, Caller { number, request });
        self.collect();
    }

    /// Callers read what they are told. Without a leader, or without an answer for certain, they ask
    /// again.
    fn hear_callers(&mut self) {
        let mut told = Vec::new();
        for replica in self.groups.iter_mut().flat_map(|group| &mut group.replicas) {
            told.append(&mut replica.told);
        }
        for (number, told) in told {
            if number == CUTTER {
                self.hear_cut(told);
                continue;
            }
            match told {
                None => self.send(number),
                Some(Err(error)) => {
                    assert_eq!(error.code, Code::TxnAborted, "{error}");
                    self.send(number);
                }
                Some(Ok(Reply { body, .. })) => self.hear(number, body),
            }
        }
    }

    fn hear(&mut self, number: usize, body: ReplyBody) {
        match (self.callers[number].take(), body) {
            (Some(Waiting::Transfers(all)), ReplyBody::Transfers(results)) => {
                assert_eq!(all.len(), results.verdicts.len());
                for (transfer, verdict) in all.iter().zip(&results.verdicts) {
                    self.hear_verdict(transfer, *verdict);
                }
                let is_chain = all.iter().any(|it| it.linked);
                let stand = results.verdicts.iter().filter(|it| it.stands()).count();
                assert!(!is_chain || stand == 0 || stand == all.len(), "half a chain: {results:?}");
            }
            (Some(Waiting::Read { of, known, begun }), ReplyBody::Account(Some(found))) => {
                self.judge_read(of, (known, begun), &found);
            }
            (Some(Waiting::Money(_)), ReplyBody::Account(Some(found))) => {
                assert!(0 <= found.free(), "{found:?}");
            }
            (None, _) => {}
            (Some(_), body) => panic!("{body:?}"),
        }
    }

    fn hear_verdict(&mut self, transfer: &Transfer, verdict: Verdict) {
        assert!(
            !matches!(verdict, Verdict::IdReused | Verdict::Invalid | Verdict::PendingDiffers),
            "{transfer:?}: {verdict}"
        );
        let is_hop = (RELAY..SINK + GROUPS).contains(&transfer.credit.uid.0);
        assert!(verdict.stands() || !is_hop, "{transfer:?} was refused: {verdict}");
        if verdict.stands() {
            self.counts.created += 1;
            let is_news = self.told_created.insert(transfer.id);
            let moment = self.next_moment();
            if is_hop {
                let is_it =
                    |hop: &&mut Hop| (hop.bit, hop.from) == (transfer.amount, transfer.debit);
                let hop = self.hops.iter_mut().find(is_it).expect("it was begun");
                hop.span.ended = hop.span.ended.min(moment);
                *self.known.entry(transfer.debit).or_default() |= transfer.amount;
                *self.known.entry(transfer.credit).or_default() |= transfer.amount;
            }
            if is_news && is_hop && transfer.credit.uid.0 < SINK {
                self.relayed.push((transfer.amount, transfer.credit));
            }
        }
    }

    /// Nothing is broken any more: everything must come to an end by itself.
    fn settle(&mut self) {
        self.is_settling = true;
        self.catch_up_all();
        for _ in 0..SETTLE_ROUNDS {
            self.now = self.now + Duration::from_millis(20);
            while !self.network.is_empty() {
                self.deliver();
            }
            let now = self.now;
            self.groups.iter_mut().for_each(|group| group.choose(now, usize::MAX));
            self.collect();
            self.tick();
            for index in 0..self.groups.len() {
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
        assert!(self.is_settled(), "something never ends");
        self.catch_up_all();
    }

    fn catch_up_all(&mut self) {
        let now = self.now;
        for group in &mut self.groups {
            (0..3).for_each(|replica| group.catch_up(now, replica, false));
        }
    }

    fn is_settled(&self) -> bool {
        let is_quiet = |group: &Group| {
            let cross = &group.replicas[group.leader].cross;
            cross.table().is_empty()
                && cross.locks().is_empty()
                && cross.escrow().is_empty()
                && cross.running() == 0
                && group.replicas[group.leader].proposed.is_empty()
        };
        self.callers.iter().all(Option::is_none)
            && self.network.is_empty()
            && self.groups.iter().all(is_quiet)
    }
}
