//! The faults, one file each. Each starts a cluster of its own, and says what came out.

pub(crate) mod bank;
pub(crate) mod damage;
pub(crate) mod disk_full;
pub(crate) mod kill;
pub(crate) mod pause;
pub(crate) mod power_cut;
pub(crate) mod refill;
pub(crate) mod replace;
pub(crate) mod slow_disk;

use std::path::Path;

use crate::Failure;
use crate::options::{Choice, Options};
use crate::report::Outcome;

/// What a fault is started with.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The command line.
    pub(crate) options: &'a Options,
    /// The folder of this fault.
    pub(crate) folder: &'a Path,
    /// Decides moments and nodes.
    pub(crate) seed: u64,
}

/// Makes one fault. An error is something that kept it from being carried through.
pub(crate) async fn run(fault: Choice, order: Order<'_>) -> Result<Outcome, Failure> {
    match fault {
        Choice::All => Err("a list of faults is no fault".into()),
        Choice::Kill => Box::pin(kill::run(order)).await,
        Choice::PowerCut => Box::pin(power_cut::run(order)).await,
        Choice::Damage => Box::pin(damage::run(order)).await,
        Choice::DiskFull => Box::pin(disk_full::run(order)).await,
        Choice::SlowDisk => Box::pin(slow_disk::run(order)).await,
        Choice::Pause => Box::pin(pause::run(order)).await,
        Choice::Refill => Box::pin(refill::run(order)).await,
        Choice::Replace => Box::pin(replace::run(order)).await,
        Choice::Bank => Box::pin(bank::run(order)).await,
    }
}
