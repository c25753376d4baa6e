//! Payments between rows. Each takes from one user and gives to another, and leaves a row with both that
//! says how much, all in one transaction. So every audit finds the same sum and no negative balance; at
//! the end a balance is the start and what its rows say, an acknowledged payment is with both users once,
//! a refused one with none, an unknown one with both or none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_client::{Client, Error, Uid, Value};
use rand::Rng;
use rand::rngs::SmallRng;

use super::{AMOUNT_MAX, Compared, START, Shared, USERS, add, fits};
use crate::Failure;
use crate::ledger::End;
use crate::workload::{TABLE, end, group_of, patience};

/// The key of a balance.
const BALANCE: &str = "balance";
/// Before the number of a payment in the key of its rows.
const PAID: &str = "paid/";
/// From the payments of one payer to those of the next.
const PAYMENTS_APART: u64 = 1_000_000_000;
/// Between two audits, which hold up payments while they have locks.
const AUDIT_EVERY: Duration = Duration::from_millis(100);
/// Users whose rows are opened in one transaction.
const OPENED_AT_ONCE: u64 = 50;

/// A payment that was asked for.
#[derive(Clone, Copy, Debug)]
struct Payment {
    payer: u64,
    payee: u64,
    amount: i64,
    told: End,
}

/// The rows of the bank, and what was told of them.
pub(crate) struct Rows {
    payments: Mutex<BTreeMap<u64, Payment>>,
    shared: Shared,
}

impl Rows {
    /// Gives every user the start.
    pub(super) async fn open(client: &Client, shared: Shared) -> Result<Rows, Failure> {
        for first in (0..USERS).step_by(usize::try_from(OPENED_AT_ONCE)?) {
            let mut opening = client.transaction();
            for user in first..(first + OPENED_AT_ONCE).min(USERS) {
                opening = opening.put(TABLE, Uid(user), BALANCE, START);
            }
            opening.commit().await?;
        }
        Ok(Rows { payments: Mutex::default(), shared })
    }

    /// Pays until it is over.
    pub(super) async fn pay(self: Arc<Self>, payer: u64, client: Client, mut random: SmallRng) {
        let client = patience(&client, payer);
        for number in payer * PAYMENTS_APART.. {
            if self.shared.is_over() {
                return;
            }
            let from = random.random_range(0..USERS);
            let to = (from + random.random_range(1..USERS)) % USERS;
            let amount = random.random_range(1..=AMOUNT_MAX);
            let payment = Payment { payer: from, payee: to, amount, told: End::Unknown };
            let told = end(self.carry_out(number, payment, &client).await.as_ref().err());
            self.note(number, Payment { told, ..payment });
            let counts = &self.shared.counts;
            match told {
                End::Done => add(&counts.paid),
                End::NotDone => add(&counts.not_done),
                End::Unknown => add(&counts.unknown),
            }
            if told == End::Done && group_of(&client, from) != group_of(&client, to) {
                add(&counts.paid_far);
            }
        }
    }

    async fn carry_out(&self, id: u64, payment: Payment, client: &Client) -> Result<(), Error> {
        let Payment { payer, payee, amount, .. } = payment;
        let row = format!("{PAID}{id:012}");
        let paying = client
            .transaction()
            .add(TABLE, Uid(payer), BALANCE, -amount)
            .floor(0)
            .add(TABLE, Uid(payee), BALANCE, amount)
            .put(TABLE, Uid(payer), row.clone(), -amount)
            .put(TABLE, Uid(payee), row, amount);
        paying.commit().await.map(|_| ())
    }

    fn note(&self, number: u64, payment: Payment) {
        let mut payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        payments.insert(number, payment);
    }

    /// Audits until it is over.
    pub(super) async fn audit(self: Arc<Self>, client: Client) {
        while !self.shared.is_over() {
            // One that is not answered found nothing.
            let _asked_again = self.audit_once(&client).await.is_err();
            tokio::time::sleep(AUDIT_EVERY).await;
        }
    }

    async fn audit_once(&self, client: &Client) -> Result<(), Error> {
        let mut reading = client.transaction();
        for user in 0..USERS {
            reading = reading.read(TABLE, Uid(user), BALANCE);
        }
        let balances: Vec<i64> = reading.commit().await?.reads.iter().map(number).collect();
        let (sum, wanted) = (balances.iter().sum::<i64>(), START * balances.len() as i64);
        if sum != wanted || balances.iter().any(|balance| *balance < 0) {
            self.shared.wrong(|| {
                format!(
                    "an audit found {sum}, not {wanted}; the least is {:?}",
                    balances.iter().min()
                )
            });
        }
        add(&self.shared.counts.audits);
        Ok(())
    }

    /// Compares balances, rows and what payers were told.
    pub(super) async fn check(&self, client: &Client) -> Result<Compared, Failure> {
        self.audit_once(client).await?;
        let mut sides: BTreeMap<u64, Vec<(u64, i64)>> = BTreeMap::new();
        let mut found = Compared::default();
        for user in 0..USERS {
            let balance = number(&client.get(TABLE, Uid(user), BALANCE).await?);
            let rows = client.scan(TABLE, Uid(user)).prefix(PAID).collect_all().await?;
            let mut sum = START;
            for row in &rows {
                let delta = number(&Some(row.value.clone()));
                sum += delta;
                let id = std::str::from_utf8(&row.key).ok().and_then(|key| key.strip_prefix(PAID));
                let id = id.and_then(|id| id.parse().ok()).unwrap_or(u64::MAX);
                sides.entry(id).or_default().push((user, delta));
            }
            if sum != balance {
                self.shared.wrong(|| format!("user {user} has {balance}, its rows say {sum}"));
            }
            found.compared += rows.len() as u64 + 1;
        }
        let payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, payment) in payments.iter() {
            let is = sides.remove(id).unwrap_or_default();
            let Payment { payer, payee, amount, told } = *payment;
            if !fits(told, is.clone(), [(payer, -amount), (payee, amount)]) {
                found.missing += u64::from(told == End::Done && is.is_empty());
                self.shared.wrong(|| format!("payment {id}, {payment:?}, is {is:?}"));
            }
        }
        for id in sides.keys() {
            self.shared.wrong(|| format!("nobody made payment {id}"));
        }
        Ok(found)
    }
}

fn number(value: &Option<Value>) -> i64 {
    match value {
        Some(Value::Integer(number)) => *number,
        Some(Value::Bytes(_)) | None => i64::MIN / 1_000_000,
    }
}
