//! Scripts of transfers between groups: what one side says of a batch whose other side refuses a part, and
//! what others are told meanwhile.

use std::time::Duration;

use quorate_store::{Keyspace, View};
use quorate_txn::cross::CutEnd;
use quorate_txn::{Context, read_at_cut};
use quorate_types::limits::TRANSFERS_MAX;
use quorate_types::{
    AccountAddress, AccountSettings, BootTime, Code, CrossBody, CrossMessage, CutRange, Hold,
    Reply, ReplyBody, Request, RequestBody, TableId, Transfer, TransferBatch, TransferId,
    TransferKind, TransferRecord, Uid, Verdict,
};

use super::group::{Caller, GROUPS, Group, Told, group_of, slice_of};

const NOW: BootTime = BootTime(1_000_000_000);
/// Nobody's account, in the group of user 1.
const NOBODY: u64 = 1001;
/// Accounts without a floor, in the groups of users 0 and 1.
const SOURCES: [u64; 2] = [100, 101];

/// Users 0 and 1 have 100 each, in two groups; everybody else has nothing.
struct Small {
    groups: Vec<Group>,
    now: BootTime,
}

fn account(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 1)
}

fn post(id: u128, from: u64, to: u64, amount: u64) -> Transfer {
    Transfer::post(TransferId(id), account(from), account(to), amount)
}

fn linked(transfer: Transfer) -> Transfer {
    Transfer { linked: true, ..transfer }
}

fn read(uid: u64) -> RequestBody {
    RequestBody::GetAccount(account(uid))
}

fn many(transfers: &[Transfer]) -> RequestBody {
    RequestBody::Transfers(TransferBatch::new(transfers))
}

fn balance(body: &ReplyBody) -> i64 {
    let ReplyBody::Account(Some(account)) = body else { panic!("{body:?}") };
    account.balance
}

fn verdicts(body: &ReplyBody) -> Vec<Verdict> {
    let ReplyBody::Transfers(results) = body else { panic!("{body:?}") };
    results.verdicts.clone()
}

impl Small {
    fn new() -> Small {
        let groups = (1..=u32::try_from(GROUPS).expect("small")).map(Group::new).collect();
        let mut world = Small { groups, now: NOW };
        for uid in (0..8).chain(SOURCES) {
            let floor = if uid < 8 { Some(0) } else { None };
            let settings = AccountSettings { floor, ..AccountSettings::default() };
            world.ends(uid, RequestBody::CreateAccount(account(uid), settings));
        }
        for (source, uid) in SOURCES.into_iter().zip(0..) {
            assert_eq!(world.transfers(source, &[post(1, source, uid, 100)]), [Verdict::Created]);
        }
        world
    }

    fn at(&mut self, uid: u64) -> &mut Group {
        let id = group_of(TableId::ACCOUNTS, Uid(uid)).expect("it has one");
        self.groups.iter_mut().find(|it| it.id == id).expect("it exists")
    }

    fn ask(&mut self, uid: u64, number: usize, body: RequestBody) {
        let now = self.now;
        self.at(uid).leader().ask(now, Caller { number, request: Request { id: None, body } });
    }

    fn choose(&mut self, uid: u64) {
        let now = self.now;
        self.at(uid).choose(now, usize::MAX);
    }

    fn told(&mut self, uid: u64, number: usize) -> Option<Told> {
        let told = &mut self.at(uid).leader().told;
        let at = told.iter().position(|(to, _)| *to == number)?;
        Some(told.remove(at).1)
    }

    fn answer(&mut self, uid: u64, number: usize) -> ReplyBody {
        let told = self.told(uid, number).expect("it is answered").expect("it leads");
        let Reply { body, .. } = told.expect("it takes effect");
        body
    }

    fn sent(&mut self) -> Vec<CrossMessage> {
        self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.leader().sent)).collect()
    }

    fn receive(&mut self, messages: Vec<CrossMessage>) {
        let now = self.now;
        for message in messages {
            let to = self.groups.iter_mut().find(|it| it.id == message.to).expect("it exists");
            let out = to.leader().cross.receive(now, message);
            to.leader().carry_out(now, out);
        }
    }

    /// Everything that is under way comes to its end.
    fn settle(&mut self) {
        loop {
            let now = self.now;
            self.groups.iter_mut().for_each(|group| group.choose(now, usize::MAX));
            let sent = self.sent();
            if sent.is_empty() {
                return;
            }
            self.receive(sent);
        }
    }

    fn ends(&mut self, uid: u64, body: RequestBody) -> ReplyBody {
        self.ask(uid, 77, body);
        self.settle();
        self.answer(uid, 77)
    }

    fn transfers(&mut self, uid: u64, transfers: &[Transfer]) -> Vec<Verdict> {
        verdicts(&self.ends(uid, many(transfers)))
    }
}

#[test]
fn chains_are_those_of_the_batch_whatever_was_known_of_it() {
    // Goal: the credit side is asked about the chains as they are without what had taken effect before.
    let mut world = Small::new();
    let known = post(2, 0, 1, 1);
    assert_eq!(world.transfers(0, &[known]), [Verdict::Created]);
    let told = world.transfers(0, &[linked(post(3, 0, 1, 1)), known]);
    assert_eq!(told, [Verdict::Created, Verdict::AlreadyApplied]);
    let told = world.transfers(0, &[linked(post(4, 0, 1, 1)), known, post(5, 0, NOBODY, 1)]);
    let apart = [Verdict::Created, Verdict::AlreadyApplied, Verdict::CreditAccountMissing];
    assert_eq!(told, apart);
}

#[test]
fn a_batch_is_decided_on_what_the_credit_side_left_of_it() {
    // Goal: nothing is refused because of an earlier transfer of the batch that did not take effect.
    let mut world = Small::new();
    let told = world.transfers(0, &[post(2, 0, NOBODY, 100), post(3, 0, 1, 100)]);
    assert_eq!(told, [Verdict::CreditAccountMissing, Verdict::Created]);
    let told = world.transfers(1, &[post(2, 1, 0, 150), post(3, 1, 0, 150), post(4, 1, 0, 51)]);
    assert_eq!(told, [Verdict::Created, Verdict::FloorReached, Verdict::FloorReached]);
}

#[test]
fn a_reservation_is_ended_by_who_takes_effect() {
    // Goal: a post in a chain that falls leaves the reservation to the next.
    let mut world = Small::new();
    let pending = TransferKind::Pending { timeout_ms: 0 };
    let hold = Transfer { kind: pending, ..post(9, 0, 1, 50) };
    assert_eq!(world.transfers(0, &[hold]), [Verdict::Created]);
    let kind = TransferKind::PostPending(TransferId(9));
    let ending = |id| Transfer { kind, ..post(id, 0, 1, 50) };
    let told = world.transfers(0, &[linked(ending(2)), post(3, 0, NOBODY, 1), ending(4)]);
    let wanted = [Verdict::LinkedFailed, Verdict::CreditAccountMissing, Verdict::Created];
    assert_eq!(told, wanted);
    let found = world.ends(0, RequestBody::GetTransfer(Uid(0), TransferId(9)));
    let ReplyBody::Transfer(Some(found)) = found else { panic!("{found:?}") };
    assert_eq!(found.hold, Some(Hold::Posted { amount: 50, by: TransferId(4) }));
}

#[test]
fn a_chain_with_a_repeated_transfer_stands_or_falls_with_it() {
    // Goal: no half of a chain, even if its other half stands elsewhere in the batch.
    let mut world = Small::new();
    let first = linked(post(2, 0, NOBODY, 1));
    let told = world.transfers(0, &[first, post(3, 0, 1, 1), first, post(4, 0, 1, 10)]);
    assert!(!told.iter().any(|verdict| verdict.stands()), "{told:?}");
    let twice = [post(5, 0, 1, 1), post(5, 0, 1, 1), post(6, 0, NOBODY, 1), post(6, 0, NOBODY, 1)];
    let missing = Verdict::CreditAccountMissing;
    let told = world.transfers(0, &twice);
    assert_eq!(told, [Verdict::Created, Verdict::AlreadyApplied, missing, missing]);
}

#[test]
fn what_cannot_turn_out_well_is_refused_at_once() {
    // Goal: nobody waits for what could not help.
    let mut world = Small::new();
    world.ask(0, 5, many(&[post(2, 0, 1, 10)]));
    world.choose(0);
    world.ask(0, 6, many(&[post(3, 0, 4, 101)]));
    assert_eq!(verdicts(&world.answer(0, 6)), [Verdict::FloorReached]);
    world.ask(0, 7, many(&[post(4, 0, 4, 95)])); // Possible, if the first comes to nothing.
    assert!(world.told(0, 7).is_none());
    world.settle();
    assert_eq!(verdicts(&world.answer(0, 7)), [Verdict::FloorReached]);
}

#[test]
fn no_room_is_told_only_if_there_is_none() {
    // Goal: a credit is not refused because of another that may come to nothing.
    let mut world = Small::new();
    let most = i64::MAX.unsigned_abs();
    let full = [post(2, SOURCES[1], 1, most - 105)];
    assert_eq!(world.transfers(SOURCES[1], &full), [Verdict::Created]);
    // The credit side says yes, and the debit side never will: its PREPARE is lost.
    world.ask(0, 5, many(&[post(2, 0, 1, 5)]));
    let sent = world.sent();
    world.receive(sent);
    world.choose(1);
    let now = world.now;
    world.at(0).elect(now, 1, 0, false);
    world.at(0).leader().told.clear();
    world.ask(SOURCES[0], 6, many(&[post(3, SOURCES[0], 1, 3)]));
    world.settle();
    let told = world.told(SOURCES[0], 6).expect("answered").expect("it leads");
    assert_eq!(told.expect_err("it is in doubt").code, Code::TxnAborted);
    let told = world.transfers(SOURCES[0], &[post(4, SOURCES[0], 1, 6)]);
    assert_eq!(told, [Verdict::BalanceOverflow], "even if the other comes to nothing");
}

#[test]
fn a_read_sees_neither_more_nor_less_than_others_do() {
    // Goal: no long fork: a read that waits for one transfer does not miss what happens meanwhile, and
    // nothing new comes in between.
    let mut world = Small::new();
    world.ask(0, 1, many(&[post(2, 0, 1, 1)]));
    world.choose(0);
    let slow = world.sent();
    world.ask(0, 2, read(0));
    world.ask(0, 3, many(&[post(3, 0, 1, 2)])); // To another group: after the read.
    world.ask(0, 4, many(&[post(4, 0, 4, 50)])); // Within the group: now.
    world.choose(0);
    assert_eq!(verdicts(&world.answer(0, 4)), [Verdict::Created]);
    assert!(world.told(0, 2).is_none() && world.told(0, 3).is_none());
    assert!(world.sent().is_empty(), "the other transfer waits for the read");
    world.receive(slow);
    world.settle();
    assert_eq!(balance(&world.answer(0, 2)), 49);
    assert_eq!(verdicts(&world.answer(0, 3)), [Verdict::Created]);
    assert_eq!(balance(&world.ends(1, read(1))), 103);
}

#[test]
fn a_read_of_the_credit_side_sees_what_came_before_what_it_sees() {
    // Goal: the same on the side that does not know what is committed; and votes wait for the read.
    let mut world = Small::new();
    world.ask(0, 1, many(&[post(2, 0, 1, 1)]));
    let sent = world.sent();
    world.receive(sent);
    world.choose(1);
    let vote = world.sent();
    world.ask(1, 2, read(1));
    world.ask(1, 3, many(&[post(3, 1, 5, 50)]));
    world.choose(1);
    assert_eq!(verdicts(&world.answer(1, 3)), [Verdict::Created]);
    world.ask(SOURCES[0], 4, many(&[post(4, SOURCES[0], 1, 1000)]));
    let sent = world.sent();
    world.receive(sent);
    world.choose(1);
    assert!(world.sent().is_empty(), "the vote waits for the read");
    world.receive(vote);
    world.settle();
    assert_eq!(balance(&world.answer(1, 2)), 51);
    assert_eq!(balance(&world.ends(1, read(1))), 1051);
}

#[test]
fn a_read_keeps_others_out_only_for_a_moment() {
    // Goal: somebody who is in the way for long delays those who read, and nobody who pays.
    let mut world = Small::new();
    world.ask(0, 1, many(&[post(2, 0, 1, 1)]));
    world.choose(0);
    let slow = world.sent();
    world.ask(0, 2, read(0));
    world.ask(0, 3, many(&[post(3, 0, 1, 2)]));
    world.now = world.now + Duration::from_millis(60);
    let now = world.now;
    let out = world.at(0).leader().cross.tick(now);
    world.at(0).leader().carry_out(now, out);
    world.ask(0, 4, read(0));
    let begun = world.sent();
    assert!(!begun.is_empty(), "the second transfer goes on, and the next read does not stop it");
    world.receive(begun);
    world.choose(0);
    world.settle();
    assert_eq!(verdicts(&world.answer(0, 3)), [Verdict::Created]);
    assert!(world.told(0, 2).is_none() && world.told(0, 4).is_none());
    world.receive(slow);
    world.settle();
    assert_eq!(balance(&world.answer(0, 2)), 97);
    assert_eq!(balance(&world.answer(0, 4)), 97);
}

#[test]
fn two_groups_that_fill_each_other_come_to_an_end() {
    // Goal: however much both ask of each other at once, there is room for votes.
    let mut world = Small::new();
    let count = TRANSFERS_MAX as u128;
    let mut begun = 0;
    for round in 0..32_u128 {
        for (from, to) in [(SOURCES[0], 1), (SOURCES[1], 0)] {
            let id = |index: u128| 10 + round * count + index;
            let all: Vec<_> = (0..count).map(|index| post(id(index), from, to, 1)).collect();
            let number = 1000 + usize::try_from(round).expect("small");
            world.ask(from, number, many(&all));
            world.choose(from);
            match world.told(from, number) {
                Some(Some(Err(error))) => assert_eq!(error.code, Code::Overloaded),
                Some(told) => panic!("{told:?}"),
                None => begun += 1,
            }
        }
    }
    assert_eq!(begun, 32, "half of the room of each is for what it begins");
    world.settle();
    for source in SOURCES {
        for round in 0..16 {
            let told = verdicts(&world.answer(source, 1000 + round));
            assert!(told.iter().all(|verdict| *verdict == Verdict::Created));
        }
    }
    assert_eq!(balance(&world.ends(1, read(1))), 100 + 16 * i64::try_from(count).expect("small"));
}

/// User 0 has reserved everything for somebody.
fn reserve(world: &mut Small, to: u64) {
    let kind = TransferKind::Pending { timeout_ms: 0 };
    let hold = Transfer { kind, ..post(9, 0, to, 100) };
    assert_eq!(world.transfers(0, &[hold]), [Verdict::Created]);
}

/// The end of that.
fn ending(id: u128, to: u64, amount: u64) -> Transfer {
    Transfer { kind: TransferKind::PostPending(TransferId(9)), ..post(id, 0, to, amount) }
}

#[test]
fn what_a_reservation_leaves_free_is_not_spent_before_it_has_ended() {
    // Goal: no transfer is agreed to that rests on the release of a post that the credit side refuses.
    let mut world = Small::new();
    reserve(&mut world, NOBODY);
    let told = world.transfers(0, &[ending(2, NOBODY, 40), post(3, 0, 1, 60)]);
    assert_eq!(told, [Verdict::CreditAccountMissing, Verdict::FloorReached]);
    let mut world = Small::new();
    reserve(&mut world, 1);
    let told = world.transfers(0, &[ending(2, 1, 40), post(3, 0, 1, 60)]);
    assert_eq!(told, [Verdict::Created; 2]);
}

#[test]
fn what_was_told_is_not_forgotten_by_the_next_leader() {
    // Goal: who knows of an acknowledged transfer is not refused because its COMMIT is not in the log yet.
    let mut world = Small::new();
    reserve(&mut world, 1);
    for (first, then) in [
        // What the first left free is enough for the second.
        (ending(2, 1, 40), vec![post(3, 0, 4, 60)]),
        // The second is the first again, in a chain that falls.
        (post(4, SOURCES[0], 1, 1), vec![linked(post(5, 12, 1, 1)), post(4, SOURCES[0], 1, 1)]),
    ] {
        world.ask(0, 1, many(&[first]));
        world.choose(0);
        let sent = world.sent();
        world.receive(sent);
        world.choose(1);
        let sent = world.sent();
        world.receive(sent);
        assert_eq!(verdicts(&world.answer(0, 1)), [Verdict::Created]);
        let now = world.now;
        let next = (world.at(0).leader + 1) % 3;
        world.at(0).elect(now, next, 0, false);
        world.ask(0, 2, many(&then));
        assert!(world.told(0, 2).is_none(), "it waits");
        world.now = world.now + Duration::from_secs(1);
        let now = world.now;
        let out = world.at(0).leader().cross.tick(now);
        world.at(0).leader().carry_out(now, out);
        world.settle();
        let told = verdicts(&world.answer(0, 2));
        assert!(told.last().is_some_and(|last| last.stands()), "{told:?}");
    }
}

#[test]
fn verdicts_are_those_of_a_batch_within_a_group() {
    // Goal: transfers that repeat others of their batch are told the same, wherever their accounts are.
    let far = [linked(post(2, 0, NOBODY, 1)), post(3, 0, 1, 1), post(3, 0, 1, 1)];
    let near = [linked(post(5, 0, 1004, 1)), post(6, 0, 4, 1), post(6, 0, 4, 1)];
    let mut world = Small::new();
    assert_eq!(world.transfers(0, &far), world.transfers(0, &near));
    let far = [post(12, 0, NOBODY, 1), linked(post(13, 12, 1, 1)), post(12, 0, NOBODY, 1)];
    let near = [post(15, 0, 1004, 1), linked(post(16, 12, 4, 1)), post(15, 0, 1004, 1)];
    assert_eq!(world.transfers(0, &far), world.transfers(0, &near));
}

#[test]
fn the_end_of_one_fence_opens_no_other() {
    // Goal: of two accounts that are read, each keeps votes about itself waiting.
    let mut world = Small::new();
    let mut votes = Vec::new();
    for (id, to) in [(2, 1), (3, 5)] {
        world.ask(SOURCES[0], 1, many(&[post(id, SOURCES[0], to, 1)]));
        let sent = world.sent();
        world.receive(sent);
        world.choose(1);
        votes.push(world.sent());
        world.ask(1, 10, read(to));
    }
    world.ask(SOURCES[0], 5, many(&[post(4, SOURCES[0], 1, 1)]));
    let sent = world.sent();
    world.receive(sent);
    world.choose(1);
    assert!(world.sent().is_empty(), "the vote waits for the first read");
    // What the second read waits for is decided.
    world.choose(SOURCES[0]);
    let _resent_later = world.sent();
    world.receive(votes.pop().expect("two"));
    let sent = world.sent();
    world.receive(sent);
    world.choose(1);
    let is_fenced = world.at(1).leader().cross.escrow().is_fenced(account(1));
    let is_vote = |message: &CrossMessage| matches!(message.body, CrossBody::Voted { .. });
    assert!(is_fenced && !world.sent().iter().any(is_vote));
}

#[test]
fn a_transfer_that_was_open_at_a_cut_is_found_there_as_it_is() {
    // Goal: whoever looks for an id at a cut is told the same of each transfer as whoever reads it by its
    // user, also of those that were decided behind the cut and belong to it.
    let mut world = Small::new();
    let id = TransferId(50);
    let pending = Transfer::pending(id, account(4), account(2), 5, 0);
    assert_eq!(world.transfers(0, &[post(9, 0, 4, 50)]), [Verdict::Created]);
    assert_eq!(world.transfers(4, &[pending]), [Verdict::Created]);
    // Both sides have said yes; nobody has said what becomes of it.
    world.ask(0, 1, many(&[post(50, 0, 1, 7)]));
    world.choose(0);
    let prepare = world.sent();
    world.receive(prepare);
    world.choose(1);
    world.ask(0, 2, RequestBody::NewCut);
    world.choose(0);
    let ReplyBody::Cut(cut) = world.answer(0, 2) else { panic!("no cut") };
    let (records, view) = &world.at(0).leader().cuts[&cut];
    assert!(!view.is_settled(), "the debit is undecided");
    let before = search(id, &view.over(records));
    assert_eq!(before.len(), 1, "of the overlay nothing is known yet");
    world.settle();

    let leader = world.at(0).leader();
    let (records, view) = &leader.cuts[&cut];
    assert!(view.is_settled());
    let found = search(id, &view.over(records));
    let debits: Vec<u64> = found.iter().map(|record| record.transfer.debit.uid.0).collect();
    assert_eq!(debits, [0, 4]);
    for record in found {
        let read = RequestBody::GetTransfer(record.transfer.debit.uid, id);
        let ReplyBody::Transfer(now) = world.ends(0, read) else { panic!("no transfer") };
        assert_eq!(now.map(|now| *now), Some(record));
    }
}

/// The transfers with an id in a view of the group of user 0.
fn search(id: TransferId, view: &dyn View) -> Vec<TransferRecord> {
    let group = group_of(TableId::ACCOUNTS, Uid(0)).expect("it has one");
    let context = Context { keyspace: Keyspace::first(group), slice_of: &slice_of };
    let range = CutRange::Transfers { id, after: None };
    let page = read_at_cut(&range, &context, view, CutEnd::default()).expect("memory");
    let ReplyBody::FoundTransfers(page) = page else { panic!("{page:?}") };
    assert_eq!(page.next, None, "there are few");
    page.transfers
}
