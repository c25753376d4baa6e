//! Time as the data path sees it. Implemented by the server over the boot clock, and by the simulation
//! with a clock per node.

use quorate_types::BootTime;

/// A clock that counts suspend and never goes back. Only its rate matters, never what it shows.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> BootTime;

    /// Milliseconds of a clock that those of other nodes resemble, if there is one. Decides only who
    /// of two transactions waits for the other: nothing rests on it being right.
    fn wall_ms(&self) -> u64 {
        self.now().0 / 1_000_000
    }
}
