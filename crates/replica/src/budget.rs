//! A bound in bytes on what a queue holds. Taken at the edge, given back when the request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be held at once.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> ByteBudget {
        ByteBudget { inner: Arc::new(Inner { limit, used: AtomicUsize::new(0) }) }
    }

    /// Takes `bytes`, or nothing if they do not fit. A request larger than the whole budget counts as
    /// the whole budget, so that it cannot wait for ever (trap 30).
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes.min(self.inner.limit);
        let mut used = self.inner.used.load(Ordering::Relaxed);
        loop {
            if self.inner.limit - used < bytes {
                return None;
            }
            match self.inner.used.compare_exchange_weak(
                used,
                used + bytes,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Permit { inner: Arc::clone(&self.inner), bytes }),
                Err(now) => used = now,
            }
        }
    }

    /// Bytes taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a full budget refuses, and what is dropped comes back.
    #[test]
    fn a_full_budget_refuses_until_something_is_given_back() {
        let budget = ByteBudget::new(100);
        let first = budget.take(60).expect("fits");
        assert!(budget.take(60).is_none());
        drop(first);
        let whole = budget.take(1000).expect("counts as the whole budget");
        assert_eq!(budget.used(), 100);
        assert!(budget.take(1).is_none());
        drop(whole);
        assert_eq!(budget.used(), 0);
    }
}
