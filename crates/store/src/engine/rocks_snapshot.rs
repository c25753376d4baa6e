//! A snapshot of RocksDB that outlives the call that made it.
//!
//! RocksDB's own handle borrows the database. So a thread holds it, and answers those who read: safe
//! code, and readers of a snapshot take turns, which keeps them from crowding out everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use rocksdb::DB;

use super::EngineSnapshot;
use super::rocks::{engine_error, scan, verified};
use crate::error::StoreError;
use crate::key::Key;

type Got = Result<Option<Bytes>, StoreError>;
type GotMany = Result<Vec<Option<Bytes>>, StoreError>;
type Scanned = Result<Vec<(Key, Bytes)>, StoreError>;

/// What a reader wants, and where it waits.
enum Asked {
    Get(Key, SyncSender<Got>),
    GetMany(Vec<Key>, SyncSender<GotMany>),
    Scan { from: Key, end: Key, limit: usize, reply: SyncSender<Scanned> },
}

/// The database as it was when this was made. The thread ends with it.
pub(super) struct RocksSnapshot {
    /// How many live, this one included.
    living: Arc<AtomicUsize>,
    /// `None` only while it is dropped.
    asks: Option<Sender<Asked>>,
    thread: Option<JoinHandle<()>>,
}

impl RocksSnapshot {
    /// Takes it before it returns, and counts it before that.
    pub(super) fn new(db: Arc<DB>, living: Arc<AtomicUsize>) -> Result<RocksSnapshot, StoreError> {
        let (asks, asked) = channel();
        living.fetch_add(1, Ordering::SeqCst);
        let mut snapshot = RocksSnapshot { living, asks: Some(asks), thread: None };
        let (taken, is_taken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || answer(&db, &asked, &taken))
            .map_err(|error| failed(&error))?;
        snapshot.thread = Some(thread);
        is_taken.recv().map_err(|error| failed(&error))?;
        Ok(snapshot)
    }

    fn ask<T>(
        &self,
        asked: impl FnOnce(SyncSender<Result<T, StoreError>>) -> Asked,
    ) -> Result<T, StoreError> {
        let (reply, answer) = sync_channel(1);
        let asks = self.asks.as_ref().expect("it is dropped only once");
        asks.send(asked(reply)).map_err(|error| failed(&error))?;
        answer.recv().map_err(|error| failed(&error))?
    }
}

impl Drop for RocksSnapshot {
    /// Waits for the thread: whoever closes the database next must be the last to hold it.
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err(); // Its readers were told so.
        }
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl EngineSnapshot for RocksSnapshot {
    fn get(&self, key: &Key) -> Got {
        self.ask(|reply| Asked::Get(key.clone(), reply))
    }

    fn get_many(&self, keys: &[Key]) -> GotMany {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Asked::GetMany(keys.to_vec(), reply))
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Scanned {
        let (from, end) = (from.clone(), end.clone());
        self.ask(|reply| Asked::Scan { from, end, limit, reply })
    }
}

/// The thread: one question after the other until nobody can ask any more.
fn answer(db: &DB, asked: &Receiver<Asked>, taken: &SyncSender<()>) {
    let snapshot = db.snapshot();
    let get = |key: &Key| {
        let found = snapshot.get_opt(key.as_bytes(), verified());
        let found = found.map_err(|error| engine_error("read a record", &error));
        found.map(|found| found.map(Bytes::from))
    };
    let _gone = taken.send(()).is_err(); // Then nobody asks.
    while let Ok(asked) = asked.recv() {
        let _gone = match asked {
            Asked::Get(key, reply) => reply.send(get(&key)).is_err(),
            Asked::GetMany(keys, reply) => reply.send(keys.iter().map(get).collect()).is_err(),
            Asked::Scan { from, end, limit, reply } => {
                let found = scan(&from, &end, limit, |options| snapshot.raw_iterator_opt(options));
                reply.send(found).is_err()
            }
        };
    }
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Engine { what: "read a snapshot", reason: error.to_string() }
}
