//! Many bytes of rows in one group, which nothing compresses, written through the client and read back.
//!
//! A row follows from its number, so gigabytes of them are compared without being kept.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use quorate_client::{Client, Error, Uid, Value};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::Failure;
use crate::verify::Findings;
use crate::workload::{TABLE, group_of};

/// Bytes of a value.
const VALUE_BYTES: usize = 16 * 1024;
/// Rows of a user, which one transaction writes: half of what a transaction may have.
const ROWS_OF_USER: u64 = 32;
/// Transactions at once: half of what a group may have that is not chosen yet.
const WRITES_AT_ONCE: usize = 8;
/// Users read at once.
const READS_AT_ONCE: usize = 8;
/// The first user.
const FIRST_UID: u64 = 1_000_000;
/// How long one transaction may be refused.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a refused one is given again.
const AGAIN: Duration = Duration::from_millis(200);
/// Between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Most wrong rows that are named.
const NAMED_MAX: usize = 100;

/// Rows of one group.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    seed: u64,
    uids: Vec<u64>,
}

impl Fill {
    /// So many bytes of rows of a group, at least.
    pub(crate) fn new(client: &Client, group: u32, bytes: u64, seed: u64) -> Fill {
        let users = bytes.div_ceil(ROWS_OF_USER * VALUE_BYTES as u64);
        let of_group = (FIRST_UID..).filter(|uid| group_of(client, *uid) == group);
        let uids = of_group.take(usize::try_from(users).unwrap_or(usize::MAX)).collect();
        Fill { seed, uids }
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> u64 {
        self.uids.len() as u64 * ROWS_OF_USER
    }

    /// Bytes of all values.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows() * VALUE_BYTES as u64
    }

    /// Writes all of them. Each is acknowledged when this returns.
    pub(crate) async fn write(&self, client: &Client) -> Result<(), Failure> {
        let mut writing = stream::iter(&self.uids)
            .map(|uid| self.write_user(client, *uid))
            .buffer_unordered(WRITES_AT_ONCE);
        let mut teller = Teller::new("written", self.bytes());
        while let Some(written) = writing.next().await {
            written?;
            teller.more(ROWS_OF_USER * VALUE_BYTES as u64);
        }
        Ok(())
    }

    async fn write_user(&self, client: &Client, uid: u64) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let mut writing = client.transaction();
            for number in 0..ROWS_OF_USER {
                writing = writing.put(TABLE, Uid(uid), key(number), self.value(uid, number));
            }
            match writing.commit().await {
                Ok(_) => return Ok(()),
                Err(error) if PATIENCE < began.elapsed() => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await, // The same rows again, whatever became of it.
            }
        }
    }

    /// Reads all of them, and says what is not as it was written.
    pub(crate) async fn compare(&self, client: &Client) -> Result<Findings, Failure> {
        let mut reading = stream::iter(&self.uids)
            .map(|uid| async { (*uid, client.scan(TABLE, Uid(*uid)).collect_all().await) })
            .buffered(READS_AT_ONCE);
        let mut teller = Teller::new("compared", self.bytes());
        let mut found = Findings::default();
        while let Some((uid, rows)) = reading.next().await {
            let rows = rows?;
            for number in 0..ROWS_OF_USER {
                let (key, value) = (key(number), Value::Bytes(self.value(uid, number).into()));
                let row = rows.iter().find(|row| row.key == key.as_bytes());
                let wrong = match row {
                    None => Some("was acknowledged and is lost"),
                    Some(row) if row.value != value => Some("has a value that nobody wrote to it"),
                    Some(_) => None,
                };
                found.compared += 1;
                found.missing += u64::from(row.is_none());
                if let Some(wrong) = wrong
                    && found.wrong.len() < NAMED_MAX
                {
                    found.wrong.push(format!("row {uid}/{key} {wrong}"));
                }
            }
            if rows.len() as u64 != ROWS_OF_USER {
                found.wrong.push(format!("user {uid} has {} rows", rows.len()));
            }
            teller.more(ROWS_OF_USER * VALUE_BYTES as u64);
        }
        Ok(found)
    }

    fn value(&self, uid: u64, number: u64) -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(self.seed ^ (uid * ROWS_OF_USER + number));
        let mut value = vec![0; VALUE_BYTES];
        random.fill_bytes(&mut value);
        value
    }
}

fn key(number: u64) -> String {
    format!("{number:04}")
}

/// Says now and then how far it is.
struct Teller {
    verb: &'static str,
    all: u64,
    done: u64,
    began: Instant,
    told: Instant,
}

impl Teller {
    fn new(verb: &'static str, all: u64) -> Teller {
        let now = Instant::now();
        Teller { verb, all, done: 0, began: now, told: now }
    }

    fn more(&mut self, bytes: u64) {
        self.done += bytes;
        if TELL_EVERY <= self.told.elapsed() {
            self.told = Instant::now();
            let (done, all) = (gigabytes(self.done), gigabytes(self.all));
            let rate = mb_per_s(self.done, self.began.elapsed());
            println!("  {} {done} of {all} GB, {rate:.0} MB/s", self.verb);
        }
    }
}

/// Gigabytes of 10^9 bytes, in words.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// Megabytes of 10^6 bytes a second.
pub(crate) fn mb_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_follows_from_its_number() {
        // Goal: what is compared is what was written, and no row looks like another one.
        let fill = Fill { seed: 7, uids: vec![FIRST_UID, FIRST_UID + 1] };
        assert_eq!(fill.rows(), 2 * ROWS_OF_USER);
        assert_eq!(fill.bytes(), fill.rows() * VALUE_BYTES as u64);
        assert_eq!(fill.value(FIRST_UID, 3), fill.value(FIRST_UID, 3));
        let last = fill.value(FIRST_UID, ROWS_OF_USER - 1);
        assert_ne!(last, fill.value(FIRST_UID + 1, 0));
        assert_eq!(last.len(), VALUE_BYTES);
    }
}
