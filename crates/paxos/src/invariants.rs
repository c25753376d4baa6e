//! What must hold within one replica after every step, one rule a file. The explorer and the simulated
//! clusters call this; what must hold over several replicas stands in `tests/explorer/invariants/`.
//!
//! | rule | file |
//! |---|---|
//! | the log has no hole and no entry above the promise | `log.rs` |
//! | members are those of an entry in the log, or of a chosen one | `membership.rs` |
//! | watermarks stand in their order | `watermarks.rs` |
//! | nothing is durable that was never given | `promise.rs` |
//! | a leader leads under a durable ballot of its own | `leader.rs` |
//! | a leader serves only after its `StartWork` | `start_work.rs` |
//! | no follower is ahead of its leader | `peers.rs` |
//! | reads are answered in order, none during a hand-over | `reads.rs` |
//! | who may have lost log follows | `suspect.rs` |
//! | nothing is told that is not durable, and no vote of who may have lost log | `told.rs` |

mod leader;
mod log;
mod membership;
mod peers;
mod promise;
mod reads;
mod start_work;
mod suspect;
mod told;
mod watermarks;

use crate::output::Output;
use crate::replica::Replica;

impl Replica {
    /// Checks the invariants of one replica.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        log::check(self);
        membership::check(self);
        watermarks::check(self);
        promise::check(self);
        leader::check(self);
        start_work::check(self);
        peers::check(self);
        reads::check(self);
        suspect::check(self);
    }

    /// Checks that nothing in `out` tells of what is not durable.
    ///
    /// # Panics
    /// If something does.
    pub fn check_output(&self, out: &Output) {
        told::check(self, out);
    }
}

#[cfg(test)]
mod tests;
