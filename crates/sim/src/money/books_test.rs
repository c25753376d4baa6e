use quorate_types::{AccountSettings, HistoryPosition, LogTime, Slot, TransferId, Uid, Verdict};

use super::super::asked::Told;
use super::*;

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

/// A bank with one pending transfer that was posted, and one post.
struct Bank {
    asked: Asked,
    books: Books,
}

impl Bank {
    fn new() -> Bank {
        let mut bank = Bank { asked: Asked::default(), books: Books::default() };
        for uid in [1, 2] {
            let settings = AccountSettings {
                floor: (uid == 2).then_some(0),
                history: true,
                ..AccountSettings::default()
            };
            let (address, created) = (at(uid), LogTime::default());
            let account = Account { address, settings, balance: 0, reserved: 0, created };
            bank.books.accounts.insert(address, account);
            bank.books.histories.insert(address, Vec::new());
        }
        bank.stands(Transfer::post(TransferId(1), at(1), at(2), 100), 100);
        bank.stands(Transfer::pending(TransferId(2), at(2), at(1), 30, 0), 30);
        bank.stands(Transfer::post_pending(TransferId(3), TransferId(2), at(2), at(1), 20), 20);
        let by = TransferId(3);
        bank.record(2).hold = Some(Hold::Posted { amount: 20, by });
        bank
    }

    fn record(&mut self, id: u128) -> &mut TransferRecord {
        self.books.records.values_mut().find(|it| it.transfer.id.0 == id).expect("it stands")
    }

    /// A transfer was asked for, with this answer.
    fn told(&mut self, transfer: Transfer, told: Told) {
        let places = self.asked.begin(&[transfer], 1);
        self.asked.end(&[transfer], &places, &[told], 2);
    }

    /// It took effect.
    fn stands(&mut self, transfer: Transfer, amount: u64) {
        let slot = Slot(self.books.records.len() as u64 + 10);
        self.told(transfer, Told::Created(Effect { slot, amount }));
        self.takes_effect(transfer, amount, slot);
    }

    fn takes_effect(&mut self, transfer: Transfer, amount: u64, slot: Slot) {
        let created = LogTime::default();
        let record = TransferRecord { transfer, amount, slot, created, hold: None };
        self.books.records.insert(name(&transfer), record);
        for (address, delta) in sides(&transfer, amount) {
            let account = self.books.accounts.get_mut(&address).expect("it exists");
            account.balance += delta;
            let (at, balance) = (HistoryPosition { slot, index: 0 }, account.balance);
            let (transfer, debit) = (transfer.id, transfer.debit.uid);
            let entry = HistoryEntry { at, delta, balance, transfer, debit };
            self.books.histories.get_mut(&address).expect("it is kept").push(entry);
        }
    }

    fn wrong(&self) -> Vec<String> {
        self.books.check(&self.asked)
    }

    fn complains(&self, of: &str) {
        let wrong = self.wrong();
        assert!(wrong.iter().any(|what| what.contains(of)), "{of:?} is not in {wrong:?}");
    }
}

/// Goal: honest books pass, also with refusals, and with unknown outcomes of either kind.
#[test]
fn honest_books_pass() {
    let mut bank = Bank::new();
    assert_eq!(bank.wrong(), [""; 0]);
    let late = |id| Transfer::post(TransferId(id), at(2), at(1), 1);
    bank.told(late(4), Told::Refused(Verdict::FloorReached));
    bank.told(late(5), Told::Unknown);
    bank.told(late(6), Told::Unknown);
    bank.takes_effect(late(6), 1, Slot(90));
    assert_eq!(bank.wrong(), [""; 0]);
}

/// Goal: what was acknowledged and is gone, refused and there, doubled or halved is found.
#[test]
fn each_transfer_is_there_once_or_not_at_all() {
    let mut lost = Bank::new();
    lost.books.records.remove(&(Uid(1), TransferId(1)));
    lost.complains("and it is not there");

    let mut refused = Bank::new();
    let post = Transfer::post(TransferId(4), at(1), at(2), 5);
    refused.told(post, Told::Refused(Verdict::FloorReached));
    refused.takes_effect(post, 5, Slot(40));
    refused.complains("it is there, but was told [Refused");

    let mut twice = Bank::new();
    let first = Transfer::post(TransferId(1), at(1), at(2), 100);
    let record = *twice.record(1);
    twice.takes_effect(first, 100, record.slot);
    twice.complains("it moved");

    let mut half = Bank::new();
    half.books.histories.get_mut(&at(2)).expect("it is kept").remove(0);
    half.complains("it moved");

    let mut stranger = Bank::new();
    stranger.takes_effect(Transfer::post(TransferId(9), at(1), at(2), 5), 5, Slot(40));
    stranger.complains("nobody asked for it");
}

/// Goal: money from nowhere, a broken floor and holds that reserve nothing are found.
#[test]
fn accounts_add_up() {
    let account = |bank: &mut Bank, change: fn(&mut Account)| {
        change(bank.books.accounts.get_mut(&at(2)).expect("it exists"));
    };
    let mut made = Bank::new();
    account(&mut made, |it| it.balance += 1);
    made.complains("the balances add up to 1");
    made.complains("its history says 80");

    let mut floor = Bank::new();
    account(&mut floor, |it| it.settings.floor = Some(101));
    floor.complains("its floor is 101");

    let mut held = Bank::new();
    account(&mut held, |it| it.reserved = 7);
    held.complains("reserves 7, its holds 0");
}

/// Goal: a hold that was posted twice is found, and a chain of which a part stands.
#[test]
fn holds_end_once_and_chains_do_not_break() {
    let mut twice = Bank::new();
    twice.stands(Transfer::post_pending(TransferId(4), TransferId(2), at(2), at(1), 20), 20);
    twice.complains("a hold of 30 is");

    let mut broken = Bank::new();
    let post = Transfer::post(TransferId(4), at(1), at(2), 5);
    broken.told(post, Told::Unknown);
    broken.asked.chains.push(vec![(Uid(1), TransferId(1)), name(&post)]);
    broken.complains("1 of the 2 transfers of a chain stand");
}
