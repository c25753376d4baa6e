//! What became of the requests of clients, and how long they took: counted at the edge, read by the
//! metrics. Counters are separate atomics: a scrape in between may see one of two that belong together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_replica::{Answer, Clock};
use quorate_types::{BootTime, Code};

/// Upper ends of the buckets in microseconds; slower requests fall into one more.
pub(crate) const BUCKETS_US: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    5_000_000,
];

/// Whether a request changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// How long the requests of one kind took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Per bucket, those that ended in it and in no smaller one.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|end| *end < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Requests per bucket, and the sum of their times in microseconds.
    #[cfg(any(test, not(madsim)))]
    pub(crate) fn read(&self) -> (Vec<u64>, u64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (buckets, self.sum_us.load(Ordering::Relaxed))
    }
}

/// The requests that this node has answered since it started.
pub(crate) struct Requests {
    clock: Arc<dyn Clock>,
    done: AtomicU64,
    /// In the order of `Code::ALL`.
    failed: Vec<AtomicU64>,
    pub(crate) reads: Times,
    pub(crate) writes: Times,
}

impl Requests {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Requests {
        Requests {
            clock,
            done: AtomicU64::new(0),
            failed: Code::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            reads: Times::default(),
            writes: Times::default(),
        }
    }

    /// When a request arrives; to be handed back with its answer.
    pub(crate) fn arrives(&self) -> BootTime {
        self.clock.now()
    }

    /// Counts an answer on its way out; says how long the request took.
    pub(crate) fn answered(&self, kind: Kind, arrived_at: BootTime, answer: &Answer) -> Duration {
        match answer {
            Ok(_) => {
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.refused(error.code),
        }
        let took = self.clock.now().since(arrived_at);
        match kind {
            Kind::Read => self.reads.add(took),
            Kind::Write => self.writes.add(took),
        }
        took
    }

    /// Counts a request that went no further than the edge.
    pub(crate) fn refused(&self, code: Code) {
        if let Some(index) = Code::ALL.iter().position(|known| *known == code) {
            self.failed[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many ended with each code that occurred, `OK` first.
    #[cfg(any(test, not(madsim)))]
    pub(crate) fn by_code(&self) -> Vec<(&'static str, u64)> {
        let counted = Code::ALL.iter().zip(&self.failed);
        let failed = counted.map(|(code, count)| (code.name(), count.load(Ordering::Relaxed)));
        std::iter::once(("OK", self.done.load(Ordering::Relaxed)))
            .chain(failed.filter(|(_, count)| 0 < *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{EntryId, Error, Reply, ReplyBody};

    use super::*;

    struct Later(AtomicU64);

    impl Clock for Later {
        fn now(&self) -> BootTime {
            BootTime(self.0.fetch_add(1_500_000, Ordering::Relaxed))
        }
    }

    #[test]
    fn answers_are_counted_by_code_and_time() {
        // Goal: every answer is counted once, in the bucket of its time.
        let requests = Requests::new(Arc::new(Later(AtomicU64::new(0))));
        let arrived_at = requests.arrives();
        let body = ReplyBody::SessionClosed;
        let reply = Reply { at: EntryId::default(), replayed: false, body };
        requests.answered(Kind::Write, arrived_at, &Ok(reply));
        let error = Error::new(Code::GuardFailed, "no");
        requests.answered(Kind::Read, arrived_at, &Err(error));
        requests.refused(Code::WrongNode);
        assert_eq!(requests.by_code(), [("OK", 1), ("WRONG_NODE", 1), ("GUARD_FAILED", 1)]);
        let (buckets, sum_us) = requests.writes.read();
        assert_eq!((buckets[2], sum_us), (1, 1_500));
        assert_eq!(requests.reads.read().0.iter().sum::<u64>(), 1);
        requests.writes.add(Duration::from_secs(60));
        assert_eq!(requests.writes.read().0[BUCKETS_US.len()], 1);
    }
}
