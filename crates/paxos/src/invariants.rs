//! What must hold for one replica after every step. The explorer and the simulated clusters call this;
//! invariants over several replicas stand with the explorer.

use crate::output::Output;
use crate::replica::{Duty, Replica};

impl Replica {
    /// Checks the invariants of one replica.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        self.log.check();
        let last = self.log.last().slot;
        let applicable = self.slot_committed.min(self.slot_synced);
        assert!(
            self.slot_applied <= applicable,
            "applied {} beyond committed and synced {applicable}",
            self.slot_applied
        );
        assert!(self.slot_synced <= last, "synced {} beyond last {last}", self.slot_synced);
        assert!(
            self.slot_committed <= last,
            "committed {} beyond last {last}",
            self.slot_committed
        );
        assert!(self.log.trimmed() <= self.slot_applied, "trimmed beyond applied");
        assert!(self.promised_synced <= self.promised, "synced a promise that was never given");
        assert!(self.slot_verified <= last, "verified {} beyond last {last}", self.slot_verified);
        assert!(
            self.log.last().ballot <= self.promised,
            "holds an entry of a ballot it never promised"
        );
        if let Duty::Leader(leader) = &self.duty {
            assert_eq!(self.promised.replica, self.options.replica, "leads under a foreign ballot");
            assert_eq!(
                self.promised_synced, self.promised,
                "leads under a ballot that is not durable"
            );
            assert!(leader.start_slot <= last, "leads without StartWork");
            assert!(
                !leader.serving || leader.start_slot <= self.slot_applied,
                "serves before StartWork is applied"
            );
        }
    }

    /// Checks that nothing in `out` tells of what is not durable.
    ///
    /// # Panics
    /// If something does.
    pub fn check_output(&self, out: &Output) {
        use crate::message::Message;
        for (_, message) in &out.messages {
            match message {
                Message::Promise(msg) => {
                    assert!(
                        msg.ballot <= self.promised_synced,
                        "promise sent before it is durable"
                    );
                    assert!(
                        msg.last.slot <= self.slot_synced,
                        "promise names a log that is not durable"
                    );
                }
                Message::Accepted(msg) => {
                    assert!(
                        msg.slot_synced <= self.slot_synced,
                        "accepted sent before it is durable"
                    );
                }
                Message::HeartbeatAck(msg) => {
                    assert!(msg.slot_synced <= self.slot_synced, "heartbeat ack ahead of the disk");
                    assert!(
                        msg.ballot <= self.promised_synced,
                        "heartbeat ack before the promise is durable"
                    );
                }
                Message::PreVote(_)
                | Message::PreVoteAck(_)
                | Message::Prepare(_)
                | Message::Reject(_)
                | Message::Fetch(_)
                | Message::FetchReply(_)
                | Message::Accept(_)
                | Message::Mismatch(_)
                | Message::Heartbeat(_)
                | Message::Commit(_)
                | Message::TakeOver(_) => {}
            }
        }
    }
}
