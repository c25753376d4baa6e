//! Random money: the bank of `money_bank.rs` and ours come to the same verdicts and the same accounts,
//! on every replica, whatever is lost, restarted or repeated on the way.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quorate_txn::expire_holds;
use quorate_txn::money::{EXPIRE_HOLDS_MAX, Escrow};
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, Code, LogTime, ReplyBody, Request,
    RequestBody, Slot, Transfer, TransferBatch, TransferId, TransferKind, TransferResults, Uid,
    Verdict,
};

use crate::common::{Entry, Leader, Replica, Submitted};
use crate::money_bank::{Bank, Deed};

const LEDGERS: [u32; 2] = [840, 978];
/// Two users of one slice, two of others.
const USERS: [u64; 4] = [1, 101, 2, 303];

#[derive(Clone, Debug)]
enum Step {
    Create(AccountAddress, AccountSettings),
    Set(AccountAddress, AccountChange),
    Batch(Vec<Transfer>),
    /// Everything that stands is sent again.
    Retry,
    Wait(u64),
    Expire,
    Apply(usize),
    LoseBallot,
    /// The second replica writes a checkpoint and starts from it.
    Restart,
}

fn account() -> impl Strategy<Value = AccountAddress> {
    let uid = proptest::sample::select(&USERS[..]);
    (
        uid,
        prop_oneof![9 => Just(840_u32), 1 => Just(978)],
        prop_oneof![9 => Just(1_u16), 1 => Just(2)],
    )
        .prop_map(|(uid, ledger, code)| AccountAddress { uid: Uid(uid), ledger, code })
}

fn floor() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![4 => Just(Some(0)), 2 => Just(None), 1 => (-50..0_i64).prop_map(Some)]
}

fn settings() -> impl Strategy<Value = AccountSettings> {
    let seldom = || proptest::bool::weighted(0.1);
    (floor(), seldom(), seldom(), any::<bool>()).prop_map(
        |(floor, no_debits, no_credits, history)| AccountSettings {
            floor,
            no_debits,
            no_credits,
            history,
        },
    )
}

fn change() -> impl Strategy<Value = AccountChange> {
    let flag = || option::weighted(0.3, any::<bool>());
    let floor = prop_oneof![floor(), (0..40_i64).prop_map(Some)];
    (option::weighted(0.5, floor), flag(), flag(), flag()).prop_map(
        |(floor, no_debits, no_credits, history)| AccountChange {
            floor,
            no_debits,
            no_credits,
            history,
        },
    )
}

/// Any transfer at all; most are refused.
fn odd_transfer() -> impl Strategy<Value = Transfer> {
    let id = || (0..24_u128).prop_map(TransferId);
    let kind = prop_oneof![
        Just(TransferKind::Post),
        (0..200_u32).prop_map(|timeout_ms| TransferKind::Pending { timeout_ms }),
        id().prop_map(TransferKind::PostPending),
        id().prop_map(TransferKind::VoidPending),
    ];
    let amount = prop_oneof![
        1 => Just(0_u64),
        6 => 1..40_u64,
        2 => Just(i64::MAX as u64),
        1 => any::<u64>(),
    ];
    (id(), kind, account(), account(), amount, any::<bool>(), 0..2_u128).prop_map(
        |(id, kind, debit, credit, amount, linked, user_data)| Transfer {
            id,
            kind,
            debit,
            credit,
            amount,
            user_data,
            linked,
        },
    )
}

/// Everything follows from the id, so that repeats and the ends of holds meet what they belong to.
fn plain_transfer(number: u128) -> Transfer {
    let hold = number - number % 4;
    let account = |number: u128| AccountAddress::new(Uid(USERS[number as usize % 4]), 840);
    let (debit, credit) = (account(hold / 4), account(hold / 4 + 1 + hold / 16));
    let (id, amount) = (TransferId(number + 1), 3 + number as u64);
    let pending = TransferId(hold + 1);
    match number % 4 {
        0 => Transfer::pending(id, debit, credit, amount, (number as u32 % 3) * 60),
        1 => Transfer::post(id, debit, credit, amount),
        2 => Transfer::post_pending(id, pending, debit, credit, amount % 8),
        _ => Transfer::void_pending(id, pending, debit, credit),
    }
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let plain = (0..24_u128, proptest::bool::weighted(0.15))
        .prop_map(|(number, linked)| Transfer { linked, ..plain_transfer(number) });
    prop_oneof![6 => plain, 1 => odd_transfer()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (account(), settings()).prop_map(|(at, settings)| Step::Create(at, settings)),
        2 => (account(), change()).prop_map(|(at, change)| Step::Set(at, change)),
        12 => vec(transfer(), 1..7).prop_map(Step::Batch),
        1 => Just(Step::Retry),
        2 => (1..150_u64).prop_map(Step::Wait),
        2 => Just(Step::Expire),
        6 => (1..4_usize).prop_map(Step::Apply),
        1 => Just(Step::LoseBallot),
        1 => Just(Step::Restart),
    ]
}

/// A leader and another replica, and the second bank as of what is applied and of what is in flight.
struct Banks {
    leader: Leader,
    other: Replica,
    log: Vec<Entry>,
    applied: Bank,
    in_flight: Bank,
    deeds: VecDeque<(Deed, Slot, LogTime, Vec<Verdict>)>,
}

impl Banks {
    /// Each user has an account; that of the first has no floor, and funds the others.
    fn new() -> Banks {
        let mut banks = Banks {
            leader: Leader::new(),
            other: Replica::new(),
            log: Vec::new(),
            applied: Bank::default(),
            in_flight: Bank::default(),
            deeds: VecDeque::new(),
        };
        let first = AccountAddress::new(Uid(USERS[0]), 840);
        for uid in USERS {
            let floor = if uid == USERS[0] { None } else { Some(0) };
            let settings = AccountSettings { floor, ..AccountSettings::default() };
            banks.create(AccountAddress::new(Uid(uid), 840), settings);
        }
        let fund = |uid: &u64| {
            let credit = AccountAddress::new(Uid(*uid), 840);
            Transfer::post(TransferId(u128::from(1000 + uid)), first, credit, 30)
        };
        banks.batch(&USERS[1..].iter().map(fund).collect::<Vec<_>>());
        banks
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Create(at, settings) => self.create(*at, *settings),
            Step::Set(at, change) => self.set(*at, *change),
            Step::Batch(batch) => self.batch(batch),
            Step::Retry => self.retry(),
            Step::Wait(milliseconds) => {
                self.leader.now = LogTime(self.leader.now.0 + milliseconds);
            }
            Step::Expire => self.expire(),
            Step::Apply(count) => {
                for _ in 0..*count {
                    self.apply();
                }
            }
            Step::LoseBallot => {
                self.leader.lose_ballot();
                self.deeds.clear();
                self.in_flight = self.applied.clone();
            }
            Step::Restart => self.other.reload(),
        }
    }

    fn submit(&mut self, body: RequestBody) -> Submitted {
        self.leader.submit(&Request { id: None, body })
    }

    /// The deed is in flight.
    fn begin(&mut self, deed: Deed) -> Vec<Verdict> {
        let slot = self.leader.next.prev();
        let verdicts = self.in_flight.run(&deed, slot, self.leader.now);
        self.deeds.push_back((deed, slot, self.leader.now, verdicts.clone()));
        verdicts
    }

    fn create(&mut self, at: AccountAddress, settings: AccountSettings) {
        let existing = self.in_flight.accounts.get(&at).copied();
        match (self.submit(RequestBody::CreateAccount(at, settings)), existing) {
            (Submitted::Proposed(_), None) => {
                self.begin(Deed::Create(at, settings));
            }
            (Submitted::Answered(ReplyBody::Account(Some(account)), true), Some(held)) => {
                assert_eq!(held.settings, settings);
                assert_eq!(i128::from(account.balance), held.balance);
            }
            (Submitted::Refused(error), Some(held)) => {
                assert_ne!(held.settings, settings);
                assert_eq!(error.code, Code::AccountExists);
            }
            (other, existing) => panic!("creating {at} gave {other:?} beside {existing:?}"),
        }
    }

    fn set(&mut self, at: AccountAddress, change: AccountChange) {
        let existing = self.in_flight.accounts.get(&at).copied();
        match (self.submit(RequestBody::SetAccount(at, change)), existing) {
            (Submitted::Proposed(_), Some(_)) => {
                self.begin(Deed::Set(at, change));
            }
            (Submitted::Answered(..), Some(held)) => {
                assert_eq!(change.of(held.settings), held.settings);
            }
            (Submitted::Refused(error), None) => assert_eq!(error.code, Code::AccountMissing),
            (Submitted::Refused(error), Some(held)) => {
                assert_eq!(error.code, Code::FloorAboveBalance);
                let floor = change.of(held.settings).floor.expect("only a floor can be too high");
                assert!(held.balance - held.reserved < i128::from(floor));
            }
            (other, existing) => panic!("setting {at} gave {other:?} beside {existing:?}"),
        }
    }

    fn batch(&mut self, batch: &[Transfer]) {
        match self.submit(RequestBody::Transfers(TransferBatch::new(batch))) {
            Submitted::Proposed(_) => {
                let verdicts = self.begin(Deed::Batch(batch.to_vec()));
                assert!(verdicts.contains(&Verdict::Created), "{verdicts:?} for {batch:?}");
            }
            Submitted::Answered(ReplyBody::Transfers(results), false) => {
                let before = self.in_flight.clone();
                let deed = Deed::Batch(batch.to_vec());
                let want = self.in_flight.run(&deed, Slot::ZERO, self.leader.now);
                assert_eq!(results.verdicts, want, "{batch:?}");
                assert_eq!(self.in_flight, before, "an entry is missing");
                check_details(&self.in_flight, batch, &results);
            }
            other => panic!("{batch:?} gave {other:?}"),
        }
    }

    /// Every transfer that took effect is sent again: nothing happens, and each is told its first
    /// result.
    fn retry(&mut self) {
        let done: Vec<_> = self.in_flight.transfers.values().copied().collect();
        // A link of a chain alone would leave the chain open.
        let alone: Vec<Transfer> =
            done.iter().map(|done| done.transfer).filter(|transfer| !transfer.linked).collect();
        if alone.is_empty() {
            return;
        }
        let batch = TransferBatch::new(&alone);
        let Submitted::Answered(ReplyBody::Transfers(results), false) =
            self.submit(RequestBody::Transfers(batch))
        else {
            panic!("a retry takes effect");
        };
        assert!(results.verdicts.iter().all(|verdict| *verdict == Verdict::AlreadyApplied));
        assert_eq!(results.details.len(), alone.len());
        check_details(&self.in_flight, &alone, &results);
    }

    fn expire(&mut self) {
        let records = &self.leader.replica.records;
        let overlay = self.leader.overlay.over(records);
        let proposal = expire_holds(
            &self.leader.replica.sessions,
            &Escrow::default(),
            &overlay,
            self.leader.now,
        );
        let overdue = self.applied.overdue(self.leader.now);
        let expected: Vec<_> =
            overdue.into_iter().filter(|id| self.in_flight.is_open(*id)).collect();
        assert!(expected.len() <= EXPIRE_HOLDS_MAX);
        match proposal.expect("memory does not fail") {
            None => assert_eq!(expected, []),
            Some(proposal) => {
                self.leader.append(&proposal);
                self.begin(Deed::Expire(expected));
            }
        }
    }

    fn apply(&mut self) {
        let Some((deed, slot, now, verdicts)) = self.deeds.pop_front() else { return };
        let (entry, applied) = self.leader.apply_next();
        assert_eq!(entry.at.slot, slot);
        assert_eq!(self.applied.run(&deed, slot, now), verdicts, "the second bank is sure");
        let reply = applied.reply.as_ref().expect("it was decided").clone();
        if let (Deed::Batch(batch), ReplyBody::Transfers(results)) = (&deed, &reply.body) {
            assert_eq!(results.verdicts, verdicts, "{batch:?}");
            check_details(&self.applied, batch, results);
        }
        assert_eq!(self.other.apply(&entry), applied, "both replicas do the same");
        self.log.push(entry);
        self.check();
    }

    /// Accounts are those of the second bank, nothing is made or lost, no floor is broken.
    fn check(&self) {
        for (at, held) in &self.applied.accounts {
            let account = self.read(*at).expect("it was created");
            let (balance, reserved) = (account.balance.into(), account.reserved.into());
            assert_eq!((account.settings, balance), (held.settings, held.balance), "{at}");
            assert_eq!(held.reserved, reserved, "{at}");
            let floor = account.settings.floor.unwrap_or(i64::MIN);
            assert!(i128::from(floor) <= account.free(), "{account:?}");
            let want = self.applied.histories.get(at).cloned().unwrap_or_default();
            assert_eq!(self.history(*at), want, "the history of {at}");
        }
        for ledger in LEDGERS {
            assert_eq!(self.applied.sum(ledger), 0);
        }
        assert_eq!(self.other.state(), self.leader.replica.state());
        assert_eq!(self.other.sessions, self.leader.replica.sessions);
    }

    /// The history of an account, in small pages.
    fn history(&self, at: AccountAddress) -> Vec<(TransferId, i128, i128)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let body = RequestBody::History { account: at, after, limit: 3 };
            let page = match self.leader.evaluate(&Request { id: None, body }) {
                quorate_txn::Evaluation::Read(ReplyBody::History(page)) => page,
                other => panic!("a history gave {other:?}"),
            };
            let told = page.entries.iter();
            all.extend(told.map(|it| (it.transfer, it.delta.into(), it.balance.into())));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn read(&self, at: AccountAddress) -> Option<Account> {
        let request = Request { id: None, body: RequestBody::GetAccount(at) };
        match self.leader.evaluate(&request) {
            quorate_txn::Evaluation::Read(ReplyBody::Account(account)) => account,
            other => panic!("reading an account gave {other:?}"),
        }
    }
}

/// The details tell slot and amount of the first time.
fn check_details(bank: &Bank, batch: &[Transfer], results: &TransferResults) {
    assert!(results.details.is_sorted_by_key(|detail| detail.index));
    for detail in &results.details {
        let index = detail.index as usize;
        assert!(results.verdicts[index].stands());
        let done = bank.transfers[&(batch[index].debit.uid, batch[index].id)];
        assert_eq!((done.slot, done.amount), (detail.slot, detail.amount));
    }
    for (index, verdict) in results.verdicts.iter().enumerate() {
        let has = results.details.iter().any(|detail| detail.index as usize == index);
        let ends = batch[index].kind.ends().is_some() && verdict.stands();
        assert_eq!(has, *verdict == Verdict::AlreadyApplied || ends, "transfer {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn two_banks_agree(steps in vec(step(), 1..60)) {
        // Goal: verdicts, balances, reservations and first results are those of the second bank on
        // every replica; balances sum up to 0, floors hold, retries change nothing.
        let mut banks = Banks::new();
        for step in &steps {
            banks.step(step);
        }
        while !banks.deeds.is_empty() {
            banks.apply();
        }
        banks.retry();
        banks.other.reload();
        prop_assert_eq!(banks.other.state(), banks.leader.replica.state());
        let mut fresh = Replica::new();
        for entry in &banks.log {
            fresh.apply(entry);
        }
        prop_assert_eq!(fresh.state(), banks.leader.replica.state());
    }
}
