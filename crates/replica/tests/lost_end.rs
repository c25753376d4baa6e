//! Goal: a node whose log lost its end in a file damage does not start: it would vote without what it
//! had acknowledged. Whatever step the node had come to, and with the log thread as it is.
#![cfg(not(madsim))]

mod node;

use node::{End, Ledger, live, refusal};
use quorate_log::SimDisk;
use quorate_store::Twin;

/// Writes of a life, in pairs. Enough for several segments and releases.
const WRITES: u64 = 24;

/// A life killed after so many steps of its disk, and started once more for so many. `None` if the first
/// life ended before.
fn killed_after(step: u64, again: u64) -> Option<(SimDisk, Twin, Ledger)> {
    let (disk, twin, mut ledger) = (SimDisk::new(), Twin::default(), Ledger::default());
    disk.stop_after(step);
    if live(&disk, &twin, &mut ledger, WRITES) == End::AllAnswered {
        return None;
    }
    disk.kill();
    if 0 < again {
        disk.stop_after(again);
        let _either = live(&disk, &twin, &mut ledger, 2);
        disk.kill();
    }
    Some((disk, twin, ledger))
}

/// Does something to a disk after every step, and judges the start. Returns how many starts were refused.
fn after_every_step(again: u64, harm: impl Fn(&SimDisk) -> bool) -> u64 {
    let (mut refused, mut started) = (0, 0);
    for step in 0.. {
        let Some((disk, twin, mut ledger)) = killed_after(step, again) else { break };
        if !harm(&disk) {
            continue;
        }
        if let Some(reason) = refusal(&disk) {
            assert!(refusal(&disk).is_some(), "refused once only: {reason}");
            refused += 1;
        } else {
            // Nothing it had answered may be gone.
            assert_eq!(live(&disk, &twin, &mut ledger, 0), End::AllAnswered, "step {step}");
            started += 1;
        }
    }
    println!("refused {refused}, started without loss {started}");
    refused
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.mount().list("log").unwrap_or_default();
    names.iter().filter(|name| name.ends_with(".seg")).map(|name| format!("log/{name}")).collect()
}

/// Goal: without the newest segment nothing answered is lost silently, also after a start that began one.
#[test]
fn a_node_without_its_newest_segment_is_refused_or_loses_nothing() {
    for again in [0, 1, 4, 9, 13] {
        let refused = after_every_step(again, |disk| {
            let newest = segments(disk).pop();
            newest.is_some_and(|newest| disk.mount().remove(&newest).is_ok())
        });
        assert!(20 < refused, "{refused} refused");
    }
}

/// Goal: an emptied log folder is not taken for a fresh one.
#[test]
fn a_node_without_any_segment_is_refused_or_loses_nothing() {
    let refused = after_every_step(0, |disk| {
        let segments = segments(disk);
        segments.iter().all(|path| disk.mount().remove(path).is_ok()) && !segments.is_empty()
    });
    assert!(20 < refused, "{refused} refused");
}

/// Goal: no step leaves a newest segment whose lost end would pass for a torn tail.
#[test]
fn a_node_with_a_short_newest_segment_is_refused() {
    let lengths: [fn(u64) -> u64; 7] =
        [|_| 0, |_| 1, |_| 64, |_| 100, |made| made / 2, |made| made - 300, |made| made - 1];
    for length in lengths {
        for step in 0.. {
            let Some((disk, _, _)) = killed_after(step, 0) else { break };
            let Some(newest) = segments(&disk).pop() else { continue };
            let file = disk.mount().open(&newest).expect("it is there");
            file.set_len(length(file.len().expect("asked"))).expect("it is cut");
            assert!(refusal(&disk).is_some(), "step {step}");
            assert!(refusal(&disk).is_some(), "step {step}, started again");
        }
    }
}
