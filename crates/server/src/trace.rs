//! The trace that a request belongs to, as its caller says in the metadata of the call.
//!
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/): `traceparent` names the trace and the span of
//! the caller. On a stream it holds for every request on it. What a node logs of such a request carries
//! both, so that it can be found from the trace, and hung below the caller's span.

use std::fmt;
use std::time::Duration;

use quorate_replica::Answer;
use quorate_types::{Code, GroupId};
use tonic::metadata::MetadataMap;
use tracing::debug;

use crate::requests::Kind;

/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// The trace and the span of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    parent: u64,
}

impl Trace {
    /// The trace of a call; `None` if its caller names none, or none that can be understood.
    pub(crate) fn of(metadata: &MetadataMap) -> Option<Trace> {
        metadata.get(TRACEPARENT)?.to_str().ok().and_then(parse)
    }

    /// Logs what became of a request.
    pub(crate) fn ended(self, group: GroupId, kind: Kind, took: Duration, answer: &Answer) {
        let code = answer.as_ref().err().map(|error| error.code);
        self.log(group, kind, took, code);
    }

    /// Logs that a request was refused at once.
    pub(crate) fn refused(self, group: GroupId, kind: Kind, code: Code) {
        self.log(group, kind, Duration::ZERO, Some(code));
    }

    fn log(self, group: GroupId, kind: Kind, took: Duration, code: Option<Code>) {
        let (code, us) =
            (code.map_or("OK", Code::name), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let (trace_id, parent_id) = (Hex(self.id, 32), Hex(self.parent.into(), 16));
        debug!(target: "quorate_server::request", %trace_id, %parent_id, %group, ?kind, code, us, "request");
    }
}

/// A number in so many hexadecimal digits.
struct Hex(u128, usize);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hex(number, digits) = self;
        write!(f, "{number:0digits$x}")
    }
}

/// Reads `00-<trace id>-<parent id>-<flags>`; later versions may say more after it.
fn parse(text: &str) -> Option<Trace> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let is_hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
        (part.len() == digits && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, id, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace = Trace {
        id: u128::from_str_radix(id, 16).ok()?,
        parent: u64::from_str_radix(parent, 16).ok()?,
    };
    (trace.id != 0 && trace.parent != 0).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        // Goal: what other systems send is understood, and nothing else is taken for it.
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace =
            Trace { id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, parent: 0x00f0_67aa_0ba9_02b7 };
        assert_eq!(parse(text), Some(trace));
        assert_eq!(Hex(trace.parent.into(), 16).to_string(), "00f067aa0ba902b7");
        assert_eq!(parse(&format!("01{}-more", &text[2..])), Some(trace));
        let wrong = [
            format!("ff{}", &text[2..]),
            format!("{text}-more"),
            text.to_uppercase(),
            text.replace("00f067aa0ba902b7", "0000000000000000"),
            text[..54].to_owned(),
            String::new(),
        ];
        for text in wrong {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
