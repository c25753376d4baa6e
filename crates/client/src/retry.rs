//! What the end of an attempt means: try again, where, after how long, or give up and how.
//!
//! A pure state machine, one for each request. `call` feeds it the end of every attempt and does
//! what it says. The rule behind it: an attempt that left this process and was not answered may have
//! taken effect, and may still do so; nothing but a positive answer under the same request id
//! settles it. So once one attempt is open, no later refusal makes the request `NotApplied`.

use std::time::Duration;

use quorate_proto::convert::LeaderHint;
use quorate_types::{Code, Error, NodeId, RetryClass};

use crate::error::Outcome;
use crate::policy::RetryPolicy;

/// Most hints followed in a row without a pause: two nodes may name each other.
const HINTS_IN_A_ROW_MAX: u32 = 2;
/// Most new sessions for one request.
const NEW_SESSIONS_MAX: u32 = 3;

/// What sending a request twice does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: reads, and requests whose repetition is harmless.
    Read,
    /// Nothing, because it carries a request id.
    Write,
    /// Another effect: it is sent again only if nothing happened.
    OneShot,
}

/// How an attempt ended without a positive answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It never left this process.
    NotSent(Error),
    /// It left, and no answer came.
    Lost(Error),
    /// The server answered with this error.
    Refused(Error),
}

/// Where the next attempt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the same node.
    Same,
    /// To the node that a server named.
    Leader(NodeId),
    /// To the next member of the group.
    NextMember,
    /// Where a fresh topology says.
    FreshRoute,
}

/// How long to wait before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Not at all: it goes elsewhere because somebody said where, which is no repetition.
    None,
    /// A random time up to this.
    UpTo(Duration),
    /// As long as the server said.
    Exactly(Duration),
}

/// What to do after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again under the same request id.
    Again {
        /// Where.
        target: Target,
        /// After what pause.
        pause: Pause,
    },
    /// The session is gone and no attempt can have taken effect: try again in a new one.
    NewSession,
    /// Give up.
    Stop {
        /// What to report.
        error: Error,
        /// What is known about the effect.
        outcome: Outcome,
    },
}

/// What is known about one request.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    kind: Kind,
    /// True once an attempt may have taken effect. Never becomes false again.
    open: bool,
    /// Attempts that ended, but for those that were only sent elsewhere.
    ended: u32,
    pauses: u32,
    hints_in_a_row: u32,
    has_refreshed: bool,
    new_sessions: u32,
    policy: RetryPolicy,
}

impl Attempts {
    /// Before the first attempt.
    pub(crate) fn new(kind: Kind, policy: RetryPolicy) -> Attempts {
        Attempts {
            kind,
            open: false,
            ended: 0,
            pauses: 0,
            hints_in_a_row: 0,
            has_refreshed: false,
            new_sessions: 0,
            policy,
        }
    }

    /// What is known about the effect if the caller stops now and no attempt is under way.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.open { Outcome::Unknown } else { Outcome::NotApplied }
    }

    /// What is known about the effect if the caller stops while an attempt is under way.
    pub(crate) fn outcome_under_way(&self) -> Outcome {
        match self.kind {
            Kind::Read => Outcome::NotApplied,
            Kind::Write | Kind::OneShot => Outcome::Unknown,
        }
    }

    /// Decides what to do after an attempt.
    pub(crate) fn after(&mut self, end: End) -> Next {
        match end {
            // A certificate may be old, or the setup wrong, at one node and not at the next.
            End::NotSent(
                error @ Error {
                    code: Code::Unauthenticated | Code::CertificateInvalid | Code::TlsMismatch,
                    ..
                },
            ) => self.again(Target::NextMember, error),
            End::NotSent(error) if error.code.retry() == RetryClass::No => self.stop(error),
            End::NotSent(error) => self.again(Target::NextMember, error),
            End::Lost(error) => self.after_possible_effect(error, Target::NextMember),
            End::Refused(error) => self.after_refusal(error),
        }
    }

    fn after_refusal(&mut self, error: Error) -> Next {
        let hint = LeaderHint::from_facts(&error).map(|hint| Target::Leader(hint.node));
        match error.code {
            Code::NotLeader => match hint {
                Some(hint) if self.hints_in_a_row < HINTS_IN_A_ROW_MAX => {
                    self.hints_in_a_row += 1;
                    Next::Again { target: hint, pause: Pause::None }
                }
                Some(hint) => self.again(hint, error),
                None => self.again(Target::NextMember, error),
            },
            // It will never serve the group again; others may.
            Code::Outlived => self.again(Target::NextMember, error),
            // The group is elsewhere than the cluster file says, and the node knows where.
            Code::WrongNode if hint.is_some() => {
                let hint = hint.expect("checked just now");
                if self.hints_in_a_row < HINTS_IN_A_ROW_MAX {
                    self.hints_in_a_row += 1;
                    return Next::Again { target: hint, pause: Pause::None };
                }
                self.again(hint, error)
            }
            Code::WrongUnit | Code::WrongNode if !self.has_refreshed => {
                self.has_refreshed = true;
                Next::Again { target: Target::FreshRoute, pause: Pause::None }
            }
            Code::WrongUnit => self.stop(error),
            // The members of a group change without the cluster file: they are looked for.
            Code::WrongNode => self.again(Target::NextMember, error),
            Code::SessionExpired => {
                if self.open || self.new_sessions == NEW_SESSIONS_MAX {
                    return self.stop(error);
                }
                self.new_sessions += 1;
                Next::NewSession
            }
            Code::NoQuorum | Code::ShuttingDown | Code::Unreachable => {
                self.again(hint.unwrap_or(Target::NextMember), error)
            }
            code => match code.retry() {
                RetryClass::No => self.stop(error),
                RetryClass::Safe => self.again(hint.unwrap_or(Target::Same), error),
                RetryClass::SameId => {
                    self.after_possible_effect(error, hint.unwrap_or(Target::Same))
                }
            },
        }
    }

    /// After an attempt that may have taken effect.
    fn after_possible_effect(&mut self, error: Error, target: Target) -> Next {
        match self.kind {
            Kind::Read => self.again(target, error),
            Kind::Write => {
                self.open = true;
                self.again(target, error)
            }
            Kind::OneShot => {
                self.open = true;
                let error = Error { code: Code::OutcomeUnknown, ..error };
                Next::Stop { error, outcome: Outcome::Unknown }
            }
        }
    }

    /// Repeats the request after a pause, unless it was tried often enough.
    fn again(&mut self, target: Target, error: Error) -> Next {
        self.hints_in_a_row = 0;
        self.ended = self.ended.saturating_add(1);
        if self.policy.attempts_max().is_some_and(|most| most <= self.ended) {
            return self.give_up(error);
        }
        let pause = match error.retry_after {
            Some(wait) => Pause::Exactly(wait),
            None => Pause::UpTo(self.next_pause()),
        };
        Next::Again { target, pause }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.policy.pause_after(self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        pause
    }

    /// It was tried as often as it may be.
    fn give_up(&self, error: Error) -> Next {
        let outcome = self.outcome();
        if outcome == Outcome::NotApplied {
            return Next::Stop { error, outcome };
        }
        let message = format!(
            "given up after {} attempts, the last of which ended with {}: {}",
            self.ended, error.code, error.message
        );
        let error = Error { code: Code::OutcomeUnknown, message, ..error };
        Next::Stop { error, outcome }
    }

    /// Gives up. An open attempt makes the outcome unknown whatever the last answer was.
    fn stop(&self, error: Error) -> Next {
        let outcome = self.outcome();
        if outcome == Outcome::NotApplied {
            return Next::Stop { error, outcome };
        }
        let message = format!(
            "an attempt was not answered, the next one was refused with {}: {}",
            error.code, error.message
        );
        let error = Error { code: Code::OutcomeUnknown, message, ..error };
        Next::Stop { error, outcome }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::convert::FACT_LEADER_NODE;

    use super::*;

    fn new(kind: Kind) -> Attempts {
        Attempts::new(kind, RetryPolicy::default())
    }

    fn error(code: Code) -> Error {
        Error::new(code, "x")
    }

    fn refused(code: Code) -> End {
        End::Refused(error(code))
    }

    fn lost() -> End {
        End::Lost(error(Code::Unreachable))
    }

    fn pause_of(next: &Next) -> Pause {
        match next {
            Next::Again { pause, .. } => *pause,
            Next::NewSession | Next::Stop { .. } => panic!("no other attempt: {next:?}"),
        }
    }

    fn target_of(next: Next) -> Target {
        match next {
            Next::Again { target, .. } => target,
            Next::NewSession | Next::Stop { .. } => panic!("no other attempt: {next:?}"),
        }
    }

    fn stop_of(next: Next) -> (Code, Outcome) {
        match next {
            Next::Stop { error, outcome } => (error.code, outcome),
            Next::Again { .. } | Next::NewSession => panic!("goes on: {next:?}"),
        }
    }

    #[test]
    fn a_certificate_refused_by_one_node_is_shown_to_the_next() {
        // Goal: one node with an old certificate or other authorities stops no call; a refusal of the
        // right does.
        for code in [Code::Unauthenticated, Code::CertificateInvalid, Code::TlsMismatch] {
            let next = new(Kind::Write).after(End::NotSent(error(code)));
            assert_eq!(target_of(next), Target::NextMember, "{code}");
        }
        let next = new(Kind::Write).after(refused(Code::PermissionDenied));
        assert_eq!(stop_of(next), (Code::PermissionDenied, Outcome::NotApplied));
    }

    #[test]
    fn every_code_is_retried_exactly_as_its_class_allows() {
        // Goal: no code of class `No` is sent again, every other one is, for reads and writes alike.
        for code in Code::ALL.iter().copied() {
            for kind in [Kind::Read, Kind::Write] {
                let next = new(kind).after(refused(code));
                match (code, code.retry()) {
                    (Code::SessionExpired, _) => assert_eq!(next, Next::NewSession),
                    (_, RetryClass::No) => {
                        assert_eq!(stop_of(next), (code, Outcome::NotApplied));
                    }
                    (_, RetryClass::Safe | RetryClass::SameId) => {
                        assert!(matches!(next, Next::Again { .. }), "{code}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_open_attempt_makes_every_later_stop_unknown() {
        // Goal: once a write is lost, no refusal whatever makes it NotApplied.
        for first in [lost(), refused(Code::OutcomeUnknown), refused(Code::DeadlineExceeded)] {
            for code in [Code::ConditionFailed, Code::SessionExpired, Code::SequenceReused] {
                let mut attempts = new(Kind::Write);
                assert!(matches!(attempts.after(first.clone()), Next::Again { .. }));
                assert_eq!(attempts.outcome(), Outcome::Unknown);
                let stop = stop_of(attempts.after(refused(code)));
                assert_eq!(stop, (Code::OutcomeUnknown, Outcome::Unknown));
            }
        }
    }

    #[test]
    fn refusals_and_unsent_attempts_leave_a_write_not_applied() {
        // Goal: attempts that are known to have had no effect do not spoil the outcome.
        let mut attempts = new(Kind::Write);
        let ends = [
            End::NotSent(error(Code::Unreachable)),
            refused(Code::NotLeader),
            refused(Code::Overloaded),
            refused(Code::NotReady),
        ];
        for end in ends {
            assert!(matches!(attempts.after(end), Next::Again { .. }));
        }
        assert_eq!(attempts.outcome(), Outcome::NotApplied);
        assert_eq!(attempts.outcome_under_way(), Outcome::Unknown);
        let stop = stop_of(attempts.after(refused(Code::GuardFailed)));
        assert_eq!(stop, (Code::GuardFailed, Outcome::NotApplied));
    }

    #[test]
    fn reads_are_never_unknown() {
        // Goal: a lost read is sent again and has no effect.
        let mut attempts = new(Kind::Read);
        assert!(matches!(attempts.after(lost()), Next::Again { .. }));
        assert_eq!(attempts.outcome_under_way(), Outcome::NotApplied);
        let stop = stop_of(attempts.after(refused(Code::UnknownTable)));
        assert_eq!(stop, (Code::UnknownTable, Outcome::NotApplied));
    }

    #[test]
    fn a_one_shot_is_sent_again_only_if_nothing_happened() {
        // Goal: what carries no request id is never sent twice.
        let mut attempts = new(Kind::OneShot);
        assert!(matches!(attempts.after(refused(Code::NotLeader)), Next::Again { .. }));
        assert_eq!(stop_of(attempts.after(lost())), (Code::OutcomeUnknown, Outcome::Unknown));
    }

    #[test]
    fn hints_are_followed_at_once_but_not_in_circles() {
        // Goal: a hint costs no pause; two nodes that name each other do not make a busy loop.
        let hint = |node: u32| End::Refused(error(Code::NotLeader).with(FACT_LEADER_NODE, node));
        let mut attempts = new(Kind::Write);
        for (node, paused) in [(2, false), (3, false), (2, true), (3, false), (2, false), (3, true)]
        {
            let next = attempts.after(hint(node));
            assert_eq!(pause_of(&next) != Pause::None, paused);
            assert_eq!(target_of(next), Target::Leader(NodeId(node)));
        }
        assert_eq!(target_of(attempts.after(refused(Code::NotLeader))), Target::NextMember);
    }

    #[test]
    fn a_wrong_route_refreshes_the_topology_once() {
        // Goal: a server that insists on the unit is believed the second time; who has a replica is
        // found by asking, because that changes without the topology.
        let mut attempts = new(Kind::Write);
        assert_eq!(target_of(attempts.after(refused(Code::WrongNode))), Target::FreshRoute);
        assert_eq!(target_of(attempts.after(refused(Code::WrongNode))), Target::NextMember);
        assert_eq!(target_of(attempts.after(refused(Code::Outlived))), Target::NextMember);
        let stop = stop_of(attempts.after(refused(Code::WrongUnit)));
        assert_eq!(stop, (Code::WrongUnit, Outcome::NotApplied));
    }

    #[test]
    fn a_node_that_knows_where_a_group_is_is_believed() {
        // Goal: groups that have moved since the cluster file was written are found.
        let mut attempts = new(Kind::Write);
        let error = quorate_types::Error::new(Code::WrongNode, "moved").with(FACT_LEADER_NODE, 4);
        let next = attempts.after(End::Refused(error));
        assert_eq!(target_of(next), Target::Leader(NodeId(4)));
    }

    #[test]
    fn an_expired_session_is_replaced_a_few_times() {
        // Goal: a group that drops sessions at once does not make a loop.
        let mut attempts = new(Kind::Write);
        for _ in 0..NEW_SESSIONS_MAX {
            assert_eq!(attempts.after(refused(Code::SessionExpired)), Next::NewSession);
        }
        let stop = stop_of(attempts.after(refused(Code::SessionExpired)));
        assert_eq!(stop, (Code::SessionExpired, Outcome::NotApplied));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_obey_the_server() {
        // Goal: 10 ms doubled up to 250 ms; `retry_after` counts instead where it is given.
        let mut attempts = new(Kind::Read);
        let ceilings: Vec<u64> = (0..20)
            .map(|_| match pause_of(&attempts.after(refused(Code::NotReady))) {
                Pause::UpTo(ceiling) => ceiling.as_millis() as u64,
                pause => panic!("{pause:?}"),
            })
            .collect();
        assert_eq!(ceilings[..7], [10, 20, 40, 80, 160, 250, 250]);
        assert!(ceilings[7..].iter().all(|ceiling| *ceiling == 250));
        let wait = Duration::from_millis(777);
        let overloaded = End::Refused(error(Code::Overloaded).after(wait));
        let next = attempts.after(overloaded);
        assert_eq!(pause_of(&next), Pause::Exactly(wait));
        assert_eq!(target_of(next), Target::Same);
    }
    #[test]
    fn a_policy_ends_the_attempts_and_tells_what_is_known() {
        // Goal: after so many attempts the call ends; a write of which one was lost is unknown, one that
        // was only refused is not applied, and a read never is.
        let policy = RetryPolicy::default().attempts(3);
        let ends = [refused(Code::Overloaded), lost(), refused(Code::NotReady)];
        for (kind, want) in [
            (Kind::Read, (Code::NotReady, Outcome::NotApplied)),
            (Kind::Write, (Code::OutcomeUnknown, Outcome::Unknown)),
        ] {
            let mut attempts = Attempts::new(kind, policy);
            for end in &ends[..2] {
                assert!(matches!(attempts.after(end.clone()), Next::Again { .. }));
            }
            assert_eq!(stop_of(attempts.after(ends[2].clone())), want);
        }
        let mut attempts = Attempts::new(Kind::Write, RetryPolicy::never());
        let stop = stop_of(attempts.after(refused(Code::Overloaded)));
        assert_eq!(stop, (Code::Overloaded, Outcome::NotApplied));
        let stop = stop_of(Attempts::new(Kind::Write, RetryPolicy::never()).after(lost()));
        assert_eq!(stop, (Code::OutcomeUnknown, Outcome::Unknown));
    }

    #[test]
    fn being_sent_elsewhere_is_no_repetition() {
        // Goal: who never repeats still finds the leader, the new unit and a session.
        let mut attempts = Attempts::new(Kind::Write, RetryPolicy::never());
        let hint = End::Refused(error(Code::NotLeader).with(FACT_LEADER_NODE, 2));
        for end in [hint.clone(), hint, refused(Code::WrongUnit)] {
            let next = attempts.after(end);
            assert!(matches!(next, Next::Again { pause: Pause::None, .. }), "{next:?}");
        }
        assert_eq!(attempts.after(refused(Code::SessionExpired)), Next::NewSession);
    }
}
