//! What a caller is told when a call fails: the server's error, and what it means for the call.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use quorate_types::{Code, RetryClass};

/// What is known about the effect of a failed call. There is no third case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had no effect and will have none. Always so for reads.
    NotApplied,
    /// It may have taken effect, or may still do so. Read the rows to find out.
    Unknown,
}

/// What a call was doing when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Connecting to a node.
    Connect,
    /// Opening a session, or waiting for earlier requests of the session to be answered.
    Session,
    /// Waiting for room on the stream to a node.
    Send,
    /// Waiting for the answer.
    Wait,
    /// Pausing before the next attempt.
    Pause,
    /// Waiting for a token of the [`RetryBudget`](crate::RetryBudget).
    Budget,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "connect",
            Phase::Session => "session",
            Phase::Send => "send",
            Phase::Wait => "wait",
            Phase::Pause => "pause",
            Phase::Budget => "budget",
        })
    }
}

/// Why a call failed.
///
/// Its text names code, message and what to do; after a deadline also the endpoints tried, the
/// phase, the number of attempts, the time spent and the last answer of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    parts: Box<Parts>, // so that results stay small
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    error: quorate_types::Error,
    outcome: Outcome,
    attempts: u32,
    endpoints: Vec<String>,
    phase: Option<Phase>,
    last_answer: Option<quorate_types::Error>,
}

/// What happened during a call, for its error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// How often a request was tried.
    pub(crate) attempts: u32,
    /// Addresses tried, each once, in order of the first try.
    pub(crate) endpoints: Vec<String>,
    /// What the call is doing.
    pub(crate) phase: Option<Phase>,
    /// The last error that a server answered or a connection gave.
    pub(crate) last_error: Option<quorate_types::Error>,
}

impl Trail {
    /// Most addresses named in an error.
    const ENDPOINTS_MAX: usize = 8;

    /// Notes an attempt at an address.
    pub(crate) fn attempt(&mut self, address: &str) {
        self.attempts += 1;
        let is_new = !self.endpoints.iter().any(|known| known == address);
        if is_new && self.endpoints.len() < Self::ENDPOINTS_MAX {
            self.endpoints.push(address.to_owned());
        }
    }
}

impl Error {
    /// An error found before anything was sent.
    pub(crate) fn local(error: quorate_types::Error) -> Error {
        Error::new(error, Outcome::NotApplied, Trail::default())
    }

    /// The error that ends a call.
    pub(crate) fn new(error: quorate_types::Error, outcome: Outcome, trail: Trail) -> Error {
        let Trail { attempts, endpoints, phase, last_error } = trail;
        let last_answer = last_error;
        let parts = Parts { error, outcome, attempts, endpoints, phase, last_answer };
        Error { parts: Box::new(parts) }
    }

    /// An error that ends several calls.
    pub(crate) fn ended(error: quorate_types::Error, outcome: Outcome) -> Error {
        Error::new(error, outcome, Trail::default())
    }

    /// The same of a call that changes nothing, whatever becomes of it.
    pub(crate) fn without_effect(mut self) -> Error {
        self.parts.outcome = Outcome::NotApplied;
        self
    }

    /// The deadline passed.
    pub(crate) fn deadline(budget: Duration, outcome: Outcome, trail: Trail) -> Error {
        let message = format!("no answer within {}", show(budget));
        Error::new(quorate_types::Error::new(Code::DeadlineExceeded, message), outcome, trail)
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.parts.error.code
    }

    /// What happened, without code and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.parts.error.message
    }

    /// What is known about the effect of the call.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.parts.outcome
    }

    /// True if the call had no effect and will have none: always for reads, for writes if no attempt
    /// can have taken effect.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        self.parts.outcome == Outcome::NotApplied
    }

    /// True if making the same call again may succeed and cannot take effect twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.has_no_side_effects() && self.parts.error.code.retry() != RetryClass::No
    }

    /// How long the server asks to wait before the next call.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.parts.error.retry_after
    }

    /// What to do about it, in a sentence without a full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.parts.error.code.fix()
    }

    /// Facts by name, such as `leader_node`.
    #[must_use]
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.parts.error.facts
    }

    /// How often the request was tried.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.parts.attempts
    }

    /// The addresses tried, in order of the first try.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.parts.endpoints
    }

    /// What the call was doing last; `None` if it failed before it began.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.parts.phase
    }

    /// The last error that a server answered or a connection gave, if it is not this error itself.
    #[must_use]
    pub fn last_answer(&self) -> Option<&quorate_types::Error> {
        self.parts.last_answer.as_ref().filter(|last| **last != self.parts.error)
    }

    /// The error without what the client knows about the call.
    #[must_use]
    pub fn as_error(&self) -> &quorate_types::Error {
        &self.parts.error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { error, outcome, attempts, endpoints, phase, .. } = &*self.parts;
        write!(f, "{}: {}", error.code, error.message)?;
        if 0 < *attempts {
            let plural = if *attempts == 1 { "" } else { "s" };
            write!(f, " ({attempts} attempt{plural} at {}", endpoints.join(", "))?;
            if let Some(phase) = phase {
                write!(f, ", phase {phase}")?;
            }
            f.write_str(")")?;
        }
        if let Some(last) = self.last_answer() {
            write!(f, "; last answer: {}: {}", last.code, last.message)?;
        }
        if *outcome == Outcome::Unknown {
            f.write_str("; it may have taken effect")?;
        }
        write!(f, "; {}", error.code.fix())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.parts, f)
    }
}

impl std::error::Error for Error {}

/// A duration as people write it.
pub(crate) fn show(span: Duration) -> String {
    let ms = span.as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_error_says_everything() {
        // Goal: never a bare "deadline exceeded".
        let mut trail = Trail::default();
        for address in ["h1:6440", "h2:6440", "h1:6440"] {
            trail.attempt(address);
        }
        trail.phase = Some(Phase::Wait);
        trail.last_error = Some(quorate_types::Error::new(Code::NoQuorum, "2 of 3 are missing"));
        let error = Error::deadline(Duration::from_secs(5), Outcome::Unknown, trail);
        let want = "DEADLINE_EXCEEDED: no answer within 5 s (3 attempts at h1:6440, h2:6440, phase wait); \
            last answer: NO_QUORUM: 2 of 3 are missing; it may have taken effect; the message names \
            what was tried; check those endpoints or raise the deadline";
        assert_eq!(error.to_string(), want);
        assert!(!error.is_retryable() && !error.has_no_side_effects());
    }

    #[test]
    fn only_calls_without_effect_may_be_made_again() {
        // Goal: a caller that obeys `is_retryable` never writes twice.
        let made = |code, outcome| {
            Error::new(quorate_types::Error::new(code, "x"), outcome, Trail::default())
        };
        assert!(made(Code::Overloaded, Outcome::NotApplied).is_retryable());
        assert!(made(Code::DeadlineExceeded, Outcome::NotApplied).is_retryable());
        assert!(!made(Code::Overloaded, Outcome::Unknown).is_retryable());
        assert!(!made(Code::GuardFailed, Outcome::NotApplied).is_retryable());
    }
}
