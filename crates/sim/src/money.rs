//! Transfers between accounts of users in all groups: posts, reservations, chains, retries of all of
//! them, and the same id from two clients at the same time.
//!
//! Every group has an account without a floor, which money comes from, and a few with one. Who asks
//! draws from the accounts, from what others have asked lately, answered or not, and from reservations
//! that are open. What they are told is noted in `asked.rs`; at the end `books.rs` compares it with
//! accounts, histories and records.

mod asked;
mod books;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::{Client, Reads};
use quorate_topology::Topology;
use quorate_types::{AccountAddress, AccountSettings, GroupId, Transfer, TransferId, TransferKind};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use self::asked::{Asked, Effect, Name, Told, name};
use self::books::{Books, below_floor};
use crate::options::Options;
use crate::places::users_of;
use crate::random::{Draw, pick, random};
use crate::trace::Trace;
use crate::workload::Ending;

/// Transfers between accounts of two groups are asked for, too.
pub const ACROSS: bool = true;

/// The ledger of all accounts.
const LEDGER: u32 = 840;
/// No account has this code.
const NO_CODE: u16 = 9;
/// What every account with a floor starts with.
const START: u64 = 1_000;
/// Accounts of one group; the first has no floor.
const ACCOUNTS_EACH: usize = 3;
/// Requests that may be asked for again.
const RECENT_MAX: usize = 8;
/// Open reservations that may be ended.
const OPEN_MAX: usize = 8;
/// Longest pause between two requests, in pauses of other workers: histories and records of
/// everything are read at the end.
const PAUSES: u32 = 4;
/// Workers of the bank have numbers from here on.
const PROCESS: u32 = 600;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The deadline of calls at the end.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// An account and the group that it is in.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: GroupId,
    at: AccountAddress,
    is_source: bool,
}

#[derive(Debug, Default)]
struct State {
    asked: Asked,
    /// The last requests, answered or not, each as it was sent.
    recent: VecDeque<Vec<Transfer>>,
    /// Reservations that were acknowledged.
    open: VecDeque<Transfer>,
    wrong: Vec<String>,
}

/// What the bank says at the end.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// Transfers that were told to have taken effect.
    pub created: u64,
    /// Answers to those that asked again.
    pub again: u64,
    /// Refusals.
    pub refused: u64,
}

/// The bank of a run. Clones share it.
#[derive(Clone)]
pub struct Money {
    places: Arc<Vec<Place>>,
    state: Arc<Mutex<State>>,
    trace: Trace,
}

impl Money {
    /// Accounts in every group that has slices.
    #[must_use]
    pub fn new(topology: &Topology, trace: Trace) -> Money {
        let mut places = Vec::new();
        for group in topology.groups() {
            let users = users_of(topology, group.id, ACCOUNTS_EACH);
            if users.len() < 2 {
                continue; // Nobody there could pay anybody.
            }
            for (index, uid) in users.into_iter().enumerate() {
                let at = AccountAddress::new(uid, LEDGER);
                places.push(Place { group: group.id, at, is_source: index == 0 });
            }
        }
        Money { places: Arc::new(places), state: Arc::default(), trace }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the accounts and gives them money. False if it has to be tried again.
    pub async fn open(&self, client: &Client) -> bool {
        let mut funds = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let floor = if place.is_source { None } else { Some(0) };
            let settings = AccountSettings { floor, history: true, ..AccountSettings::default() };
            if client.create_account(place.at, settings).await.is_err() {
                return false;
            }
            let source = self.places.iter().find(|it| it.is_source && it.group == place.group);
            let source = source.expect("the first of each group is one");
            let id = TransferId(u128::from(PROCESS - 1) * 1_000_000 + number as u128);
            funds.push(Transfer::post(id, source.at, place.at, START));
        }
        funds.retain(|transfer| transfer.debit != transfer.credit);
        let told = self.ask(PROCESS - 1, client, &funds).await;
        told.iter().all(|told| told.effect().is_some())
    }

    /// Asks until told to end, through two clients as two processes would.
    pub async fn run(self, options: Options, number: u32, clients: [Client; 2], ending: Ending) {
        if self.places.is_empty() {
            return;
        }
        let process = PROCESS + number;
        let rng = random(options.seed, Draw::Worker(process));
        let next = u128::from(process) * 1_000_000;
        let think = u64::try_from((PAUSES * options.think).as_micros()).unwrap_or(u64::MAX);
        let mut caller = Caller { money: self, process, rng, next, clients };
        while !ending.is_set() {
            let pause = Duration::from_micros(caller.rng.random_range(0..=2 * think));
            tokio::time::sleep(pause).await;
            caller.one_call().await;
        }
    }

    /// Sends a request, and notes what came of it.
    async fn ask(&self, process: u32, client: &Client, batch: &[Transfer]) -> Vec<Told> {
        let places = {
            let mut state = self.lock();
            state.recent.push_back(batch.to_vec());
            if RECENT_MAX < state.recent.len() {
                state.recent.pop_front();
            }
            state.asked.begin(batch, self.trace.now())
        };
        let outcomes = client.transfers(batch).await;
        let told: Vec<Told> = outcomes.iter().map(Told::of).collect();
        let ids: Vec<String> = batch.iter().map(|it| format!("{:x}", it.id.0)).collect();
        self.trace.event(&format!("{process} moves {ids:?} {told:?}"));
        let mut state = self.lock();
        state.asked.end(batch, &places, &told, self.trace.now());
        for (transfer, told) in batch.iter().zip(&told) {
            let is_pending = matches!(transfer.kind, TransferKind::Pending { .. });
            if is_pending && matches!(told, Told::Created(_)) {
                state.open.push_back(*transfer);
            }
        }
        if OPEN_MAX < state.open.len() {
            state.open.pop_front();
        }
        told
    }

    /// Reads an account: no floor is ever broken.
    async fn look(&self, client: &Client, at: AccountAddress) {
        let client = client.with_reads(Reads::BoundedStale(Duration::ZERO));
        let Ok(found) = client.account(at).await else { return };
        let what = match found {
            None => format!("account {at} is not there"),
            Some(account) => match account.settings.floor {
                Some(floor) if account.free() < i128::from(floor) => below_floor(&account),
                Some(_) | None => return,
            },
        };
        self.lock().wrong.push(what);
    }

    /// Reads a transfer that stands: whoever looks after it was acknowledged finds it as it was told.
    async fn find(&self, client: &Client, transfer: &Transfer, told: Effect) {
        let (debit, id) = name(transfer);
        // Every other one at any replica, which is as good.
        let client = match id.0 % 2 {
            0 => client.clone(),
            _ => client.with_reads(Reads::BoundedStale(Duration::ZERO)),
        };
        let Ok(found) = client.find_transfer(debit, id).await else { return };
        let effect = found.map(|it| Effect { slot: it.slot, amount: it.amount });
        if effect != Some(told) {
            let what = asked::show(name(transfer));
            self.lock().wrong.push(format!("{what}: told {told:?}, then found {found:?}"));
        }
        if !transfer.kind.gives() {
            return;
        }
        for at in [transfer.credit, transfer.debit] {
            let Ok(entries) = client.account_history(at).collect_all().await else { return };
            if !entries.iter().any(|entry| (entry.debit, entry.transfer) == (debit, id)) {
                let what = asked::show(name(transfer));
                self.lock().wrong.push(format!("{what}: acknowledged, not in the history of {at}"));
            }
        }
    }

    /// After the faults: everybody can be paid again, and the books are right.
    pub async fn close(&self, client: &Client, patience: Duration) -> Settled {
        let client = client.with_timeout(CALL_TIMEOUT);
        let started = Instant::now();
        let process = PROCESS - 2;
        let mut next = u128::from(process) * 1_000_000;
        for (index, place) in self.places.iter().enumerate() {
            let is_payer = |it: &&Place| it.is_source && (ACROSS || it.group == place.group);
            let payers: Vec<&Place> =
                self.places.iter().filter(is_payer).filter(|it| it.at != place.at).collect();
            let Some(payer) = payers.get(index % payers.len().max(1)) else { continue };
            loop {
                next += 1;
                let post = Transfer::post(TransferId(next), payer.at, place.at, 1);
                let told = self.ask(process, &client, &[post]).await;
                if told[0].effect().is_some() {
                    break;
                }
                if patience < started.elapsed() {
                    let what = format!("{} cannot be paid at the end: {told:?}", place.at);
                    self.lock().wrong.push(what);
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let asked = self.lock().asked.clone();
        let mut wrong = std::mem::take(&mut self.lock().wrong);
        wrong.extend(asked.contradictions());
        let addresses: Vec<AccountAddress> = self.places.iter().map(|place| place.at).collect();
        let names: Vec<Name> = asked.attempts.keys().copied().collect();
        loop {
            match Books::read(&client, &addresses, &names).await {
                Ok(books) => {
                    wrong.extend(books.check(&asked));
                    break;
                }
                Err(error) if 2 * patience < started.elapsed() => {
                    wrong.push(format!("the accounts cannot be read: {error}"));
                    break;
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        Settled {
            wrong,
            created: asked.count(|told| matches!(told, Told::Created(_))),
            again: asked.count(|told| matches!(told, Told::AlreadyApplied(_))),
            refused: asked.count(|told| matches!(told, Told::Refused(_))),
        }
    }
}

/// One caller: what it asks follows from its random numbers and from what others ask.
struct Caller {
    money: Money,
    process: u32,
    rng: SmallRng,
    next: u128,
    clients: [Client; 2],
}

impl Caller {
    async fn one_call(&mut self) {
        let batch = match self.rng.random_range(0..100) {
            0..10 => {
                let place = self.place(None);
                return self.money.look(&self.clients[0], place.at).await;
            }
            10..28 => self.asked_before(),
            28..33 => self.id_used_before(),
            33..48 => self.end_of_hold(),
            48..60 => self.hold(),
            60..72 => self.chain(),
            72..84 => (0..self.rng.random_range(2..=5)).map(|_| self.post()).collect(),
            _ => vec![self.post()],
        };
        if batch.is_empty() {
            return;
        }
        let [one, other] = &self.clients;
        if self.rng.random_bool(0.1) {
            let (money, process) = (&self.money, self.process);
            tokio::join!(money.ask(process, one, &batch), money.ask(process, other, &batch));
            return;
        }
        let mut told = self.money.ask(self.process, one, &batch).await;
        if told.contains(&Told::Unknown) && self.rng.random_bool(0.5) {
            told = self.money.ask(self.process, other, &batch).await;
        }
        if let Some(effect) = told[0].effect()
            && self.rng.random_bool(0.1)
        {
            self.money.find(other, &batch[0], effect).await;
        }
    }

    fn new_id(&mut self) -> TransferId {
        self.next += 1;
        TransferId(self.next)
    }

    /// An account; of a group, if one is given.
    fn place(&mut self, group: Option<GroupId>) -> Place {
        let fits = |place: &&Place| group.is_none_or(|group| group == place.group);
        let places: Vec<Place> = self.money.places.iter().filter(fits).copied().collect();
        pick(&mut self.rng, &places)
    }

    /// Two accounts that a transfer may name.
    fn pair(&mut self) -> (AccountAddress, AccountAddress) {
        let debit = self.place(None);
        let group = (!ACROSS).then_some(debit.group);
        loop {
            let credit = self.place(group);
            if credit.at != debit.at {
                return (debit.at, credit.at);
            }
        }
    }

    fn amount(&mut self) -> u64 {
        self.rng.random_range(1..=START / 3)
    }

    fn post(&mut self) -> Transfer {
        let (debit, credit) = self.pair();
        let credit = self.or_nobody(credit);
        Transfer::post(self.new_id(), debit, credit, self.amount())
    }

    /// An account, or now and then one of the same user that does not exist: the side that is credited
    /// refuses.
    fn or_nobody(&mut self, at: AccountAddress) -> AccountAddress {
        if self.rng.random_bool(0.05) { AccountAddress { code: NO_CODE, ..at } } else { at }
    }

    fn group(&self, at: AccountAddress) -> Option<GroupId> {
        self.money.places.iter().find(|place| place.at == at).map(|place| place.group)
    }

    /// Something that was asked for before, or is being asked for just now, word for word.
    fn asked_before(&mut self) -> Vec<Transfer> {
        let recent: Vec<Vec<Transfer>> = self.money.lock().recent.iter().cloned().collect();
        if recent.is_empty() {
            return Vec::new();
        }
        recent[self.rng.random_range(0..recent.len())].clone()
    }

    /// The id of another transfer, with another amount.
    fn id_used_before(&mut self) -> Vec<Transfer> {
        let mut batch = self.asked_before();
        batch.truncate(1);
        batch.retain(|transfer| transfer.kind == TransferKind::Post && !transfer.linked);
        for transfer in &mut batch {
            transfer.amount += 1;
        }
        batch
    }

    fn hold(&mut self) -> Vec<Transfer> {
        let (debit, credit) = self.pair();
        let timeout_ms = pick(&mut self.rng, &[0, 0, 500, 2_000, 5_000]);
        vec![Transfer::pending(self.new_id(), debit, credit, self.amount(), timeout_ms)]
    }

    /// Post or void of a reservation, which others may be ending at the same time.
    fn end_of_hold(&mut self) -> Vec<Transfer> {
        let open: Vec<Transfer> = self.money.lock().open.iter().copied().collect();
        if open.is_empty() {
            return Vec::new();
        }
        let Transfer { id, debit, credit, amount, .. } = pick(&mut self.rng, &open);
        let by = self.new_id();
        vec![match self.rng.random_range(0..10) {
            0..4 => Transfer::post_pending(by, id, debit, credit, 0),
            4..7 => Transfer::post_pending(by, id, debit, credit, amount / 2 + 1),
            7 => Transfer::post_pending(by, id, debit, credit, amount + 1),
            _ => Transfer::void_pending(by, id, debit, credit),
        }]
    }

    /// Posts that stand or fall together, back and forth between two accounts; of two groups only there.
    fn chain(&mut self) -> Vec<Transfer> {
        let (debit, credit) = self.pair();
        let back = match self.group(debit) == self.group(credit) {
            true => (credit, debit),
            false => (debit, credit),
        };
        let mut chain = Vec::new();
        for _ in 0..self.rng.random_range(2..=4) {
            let (from, to) = pick(&mut self.rng, &[(debit, credit), (debit, credit), back]);
            let to = self.or_nobody(to);
            let post = Transfer::post(self.new_id(), from, to, self.amount());
            chain.push(Transfer { linked: true, ..post });
        }
        if let Some(last) = chain.last_mut() {
            last.linked = false;
        }
        self.money.lock().asked.chains.push(chain.iter().map(name).collect());
        chain
    }
}
