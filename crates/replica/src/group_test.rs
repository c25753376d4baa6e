//! A leader of three replicas, driven by hand: what its driver may answer, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use quorate_log::{Log, LogOptions, SimDisk};
use quorate_paxos::message::{Accepted, HeartbeatAck, PreVoteAck, Promise};
use quorate_paxos::{Standing, Timing};
use quorate_store::Twin;
use quorate_types::RowAddress;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Shows each time once, and the last one for ever: a pause between two looks at the clock.
struct Pausing {
    looks: AtomicU64,
    first: BootTime,
    after: BootTime,
}

impl Clock for Pausing {
    fn now(&self) -> BootTime {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 0 { self.first } else { self.after }
    }
}

fn leader() -> GroupDriver {
    let (_writer, reader, _found) =
        Log::open(SimDisk::new().mount(), LogOptions::small(), 1).expect("a fresh disk");
    let group = GroupId(1);
    let store = Arc::new(Store::open(Arc::new(Twin::new()), [group]).expect("a fresh engine"));
    let ids = [1, 2, 3].map(ReplicaId);
    let options = GroupOptions {
        paxos: Options {
            group,
            replica: ids[0],
            voters: ids.iter().map(|id| (*id, id.0 as u16)).collect(),
            timing: Timing::lan(),
            pinned: false,
        },
        slice_of: Arc::new(|_, _| SliceId(0)),
        nodes: ids.iter().map(|id| (*id, NodeId(id.0 as u32))).collect(),
    };
    let start = BootTime(SECOND);
    let mut driver =
        GroupDriver::new(start, options, Restored::fresh(), store, reader).expect("restored");
    let at = BootTime(2 * SECOND);
    let mut fx = Effects::default();
    let peer = ids[1];
    let ballot = Ballot { round: 1, replica: ids[0] };
    let standing = Standing {
        replica: peer,
        health: Health::default(),
        last: EntryId::ZERO,
        log_bytes: 0,
        pinned: false,
        rank: 2,
    };
    let ack = PreVoteAck { ballot, granted: true, promised: Ballot::ZERO, standing };
    let promise = Promise { ballot, last: EntryId::ZERO, slot_committed: Slot::ZERO };
    let slot_synced = Slot(1);
    let heard = HeartbeatAck { ballot, sent_at: at, slot_verified: Slot(1), slot_synced, standing };
    driver.step(at, Input::DiskProgress(at), &mut fx).expect("no disk");
    for input in [
        Input::Message { from: peer, message: Message::PreVoteAck(ack) },
        Input::PromiseSynced { ballot },
        Input::Message { from: peer, message: Message::Promise(promise) },
        Input::Synced { write: 1 },
        Input::Message { from: peer, message: Message::Accepted(Accepted { ballot, slot_synced }) },
        Input::Message { from: peer, message: Message::HeartbeatAck(heard) },
    ] {
        driver.step(at, input, &mut fx).expect("nothing fails");
    }
    assert!(driver.serving(at).is_ok(), "the script elects the leader");
    driver
}

/// Asks for a row under a clock that shows `first`, then `after`; the answer, if one was given.
fn read(first: BootTime, after: BootTime) -> Option<Answer> {
    let clock = Pausing { looks: AtomicU64::new(0), first, after };
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let request = Request { id: None, body: RequestBody::Get(at) };
    let (send, receive) = mpsc::channel();
    let reply = ReplyTo::new(None, move |answer| send.send(answer).expect("the test waits"));
    let mut fx = Effects::default();
    leader().request(&clock, &request, reply, true, &mut fx).expect("nothing fails");
    receive.try_recv().ok()
}

/// Goal: a lease is checked with a clock read after the view was taken. A pause between the two may have
/// let another leader write, so a lease that was valid before the pause must not release the read.
#[test]
fn a_read_is_not_released_by_a_lease_that_ended_before_its_view() {
    let leased = BootTime(2 * SECOND + SECOND / 2);
    let ended = BootTime(12 * SECOND);
    assert!(matches!(read(leased, leased), Some(Ok(_))), "under the lease it is answered at once");
    assert!(!matches!(read(leased, ended), Some(Ok(_))), "a stale read was released");
}
