//! Goal: log, promises and rows of one node together: wherever the power fails, every write that was
//! answered is there, nothing is that was never asked for, and no write counts twice.
//!
//! A whole node with one group of one voter runs on a simulated disk and the engine's twin. Its life
//! is cut after every step it does on the disk, and again during the recovery from that.
#![cfg(not(madsim))]

mod node;

use node::{End, Ledger, live};
use quorate_log::{CrashMode, SimDisk};
use quorate_store::Twin;

/// Writes of a life, in pairs. Enough for several segments, checkpoints and releases.
const WRITES: u64 = 24;

/// What survives, and what clients were told.
#[derive(Default)]
struct Machine {
    disk: SimDisk,
    twin: Twin,
    ledger: Ledger,
}

impl Machine {
    fn live(&mut self, writes: u64, steps: Option<u64>) -> End {
        if let Some(steps) = steps {
            self.disk.stop_after(steps);
        }
        live(&self.disk, &self.twin, &mut self.ledger, writes)
    }

    fn cut_power(&mut self, mode: CrashMode, seed: u64) {
        self.disk.crash_as(mode, seed);
        self.twin.crash(seed);
    }
}

#[test]
fn a_power_cut_after_every_step_of_log_and_rows_loses_nothing() {
    let (mut cuts, mut answered) = (0, 0);
    for mode in CrashMode::ALL {
        for step in 0.. {
            let mut machine = Machine::default();
            let end = machine.live(WRITES, Some(step));
            if end == End::AllAnswered {
                break;
            }
            machine.cut_power(mode, step);
            assert_eq!(machine.live(2, None), End::AllAnswered, "{mode:?} after step {step}");
            machine.cut_power(mode, step + 1);
            assert_eq!(machine.live(0, None), End::AllAnswered, "{mode:?} after step {step}");
            cuts += 2;
            answered += machine.ledger.answered();
        }
    }
    assert!(500 < cuts, "the script has become too short: {cuts} cuts");
    println!("{cuts} power cuts, {answered} answered writes, none lost, none doubled");
}

#[test]
fn a_power_cut_during_the_recovery_of_log_and_rows_loses_nothing() {
    let (mut cuts, mut answered) = (0, 0);
    for step in (0..).step_by(3) {
        let mut reached = false;
        for second in 0..40 {
            let mut machine = Machine::default();
            reached = machine.live(WRITES, Some(step)) == End::Stopped;
            if !reached {
                break;
            }
            let mode = CrashMode::ALL[(step + second) as usize % CrashMode::ALL.len()];
            match second % 2 {
                0 => machine.disk.kill(),
                _ => machine.cut_power(mode, step),
            }
            let recovered = machine.live(1, Some(second));
            machine.cut_power(mode, second);
            assert_eq!(machine.live(1, None), End::AllAnswered, "step {step}, then {second}");
            cuts += 2;
            answered += machine.ledger.answered();
            if recovered == End::AllAnswered {
                break;
            }
        }
        if !reached {
            break;
        }
    }
    assert!(100 < cuts, "the script has become too short: {cuts} cuts");
    println!("{cuts} power cuts around recoveries, {answered} answered writes, none lost");
}

/// Goal: the check can fail: an answered write that is not there is noticed.
#[test]
fn a_write_that_is_gone_is_noticed() {
    let mut machine = Machine::default();
    assert_eq!(machine.live(4, None), End::AllAnswered);
    machine.ledger.pretend();
    machine.disk.kill();
    let look = std::panic::AssertUnwindSafe(|| machine.live(0, None));
    assert!(std::panic::catch_unwind(look).is_err());
}
