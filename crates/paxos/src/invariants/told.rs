//! Nothing is told that is not durable: neither a promise nor a log (traps 1 and 2; "Paxos Made Simple",
//! section 2.5).

use crate::message::Message;
use crate::output::Output;
use crate::replica::Replica;

pub(super) fn check(replica: &Replica, out: &Output) {
    for (_, message) in &out.messages {
        check_message(replica, message);
    }
}

fn check_message(replica: &Replica, message: &Message) {
    let (promised, synced) = (replica.promised_synced, replica.slot_synced);
    match message {
        Message::Promise(msg) => {
            assert!(!replica.is_log_suspect(), "promises with a log that may lack entries");
            assert!(msg.ballot <= promised, "promise sent before it is durable");
            assert!(msg.last.slot <= synced, "promise names a log that is not durable");
            let kept = replica.seats_kept();
            assert!(msg.seats == kept, "promise names members that are not durable");
        }
        Message::Accepted(msg) => {
            assert!(msg.ballot <= promised, "accepted sent before the promise is durable");
            assert!(msg.slot_synced <= synced, "accepted sent before it is durable");
        }
        Message::HeartbeatAck(msg) => {
            assert!(msg.ballot <= promised, "heartbeat ack before the promise is durable");
            assert!(msg.slot_synced <= synced, "heartbeat ack ahead of the disk");
        }
        Message::Prepare(msg) => {
            assert!(msg.ballot <= promised, "prepare sent before the own promise is durable");
        }
        Message::SeatsKept(msg) => {
            let kept = replica.seats_kept().map(|at| at.id);
            assert!(Some(msg.id) <= kept, "keeps members that are not durable");
        }
        Message::Told(msg) => {
            assert!(msg.slot_applied <= replica.slot_applied, "told of what is not applied");
        }
        Message::PreVoteAck(msg) => {
            let is_suspect = replica.is_log_suspect();
            assert!(
                !msg.granted || !is_suspect,
                "welcomes a candidate with a log that may lack entries"
            );
        }
        Message::PreVote(_)
        | Message::Reject(_)
        | Message::Fetch(_)
        | Message::FetchReply(_)
        | Message::Accept(_)
        | Message::Mismatch(_)
        | Message::Heartbeat(_)
        | Message::Commit(_)
        | Message::TakeOver(_)
        | Message::Ask(_)
        | Message::Seats(_)
        | Message::Behind(_) => {}
    }
}
