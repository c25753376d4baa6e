//! Spans of calls, and the context of a trace that goes with a request.
//!
//! Every call runs in a span `call` of the target `quorate_client::call`, at level DEBUG, with the fields of
//! [`SPAN_FIELDS`]. The names are part of the interface. Where no subscriber wants it, a span is one look at
//! a flag. The context of a trace is asked for through [`TraceContext`], so that this crate needs to know no
//! tracing system.

use std::fmt;
use std::sync::Arc;

use quorate_types::{Condition, GroupId, Mutation, RequestBody, Uid};
use tracing::{Span, debug_span, field};

use crate::call::Place;
use crate::client::Inner;
use crate::error::{Error, Outcome};

/// The fields of the span of a call, in the order in which they become known.
///
/// | field | value |
/// |---|---|
/// | `operation` | what is done: `get`, `put`, `transact`, `transfers`, ... |
/// | `uid` | the user, of several the first |
/// | `group` | the group that was asked |
/// | `unit` | its unit |
/// | `attempts` | how often the request was sent |
/// | `outcome` | `read`, `applied`, `not_applied` or `unknown` |
/// | `code` | `OK`, or the code of the error |
pub const SPAN_FIELDS: [&str; 7] =
    ["operation", "uid", "group", "unit", "attempts", "outcome", "code"];

/// Tells the context of the trace that the calling task is in, as [W3C Trace
/// Context](https://www.w3.org/TR/trace-context/#traceparent-header) writes it. Given to
/// [`Builder::trace_context`](crate::Builder::trace_context).
///
/// Asked once for each request, inside its span. A request whose trace is sampled goes on a stream of its
/// own, in the metadata of which the context stands; nodes name it in what they log of the request. Costs
/// nothing for requests without one, and those that are not sampled.
///
/// ```
/// use quorate_client::Client;
///
/// fn of_this_task() -> Option<String> {
///     // With OpenTelemetry: inject `Span::current().context()` into a map, take "traceparent" out.
///     Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned())
/// }
/// let builder = Client::builder("h1:6440").trace_context(of_this_task);
/// ```
pub trait TraceContext: Send + Sync + 'static {
    /// `00-<trace id>-<parent id>-<flags>`, or `None` if there is no trace. Other text is left out.
    fn traceparent(&self) -> Option<String>;
}

impl<F: Fn() -> Option<String> + Send + Sync + 'static> TraceContext for F {
    fn traceparent(&self) -> Option<String> {
        self()
    }
}

/// What was given to the builder.
#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<dyn TraceContext>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    /// The context to send along: one that is sampled.
    pub(crate) fn sampled(&self) -> Option<String> {
        self.0.traceparent().filter(|text| is_sampled(text))
    }
}

/// True for a context of version 00 whose flags say that it is sampled.
fn is_sampled(text: &str) -> bool {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits
            && part.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
    };
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let is_some = |part: &str| part.bytes().any(|it| it != b'0');
    let is_whole = version == "00" && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    is_whole
        && is_some(trace)
        && is_some(parent)
        && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
}

/// The span of a call that begins.
pub(crate) fn begin(operation: &'static str, place: &Place) -> Span {
    let span = debug_span!(
        target: "quorate_client::call",
        "call",
        operation,
        uid = field::Empty,
        group = field::Empty,
        unit = field::Empty,
        attempts = field::Empty,
        outcome = field::Empty,
        code = field::Empty,
    );
    if !span.is_disabled()
        && let Some(uid) = user_of(place)
    {
        span.record("uid", uid.0);
    }
    span
}

/// What is known when a call ends.
pub(crate) struct End<'a> {
    pub(crate) group: Option<GroupId>,
    pub(crate) attempts: u32,
    pub(crate) error: Option<&'a Error>,
    /// The word for success.
    pub(crate) done: &'static str,
}

/// Notes in its span how a call ended.
pub(crate) fn end(span: &Span, inner: &Inner, end: &End<'_>) {
    if span.is_disabled() {
        return;
    }
    if let Some(group) = end.group {
        span.record("group", group.0);
        if let Some(found) = inner.router.topology().group(group) {
            span.record("unit", found.unit.as_str());
        }
    }
    let (attempts, outcome, code) = match end.error {
        None => (end.attempts, end.done, "OK"),
        Some(error) => (error.attempts(), word(error.outcome()), error.code().name()),
    };
    span.record("attempts", attempts).record("outcome", outcome).record("code", code);
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Unknown => "unknown",
    }
}

fn user_of(place: &Place) -> Option<Uid> {
    match place {
        Place::Rows(rows) => rows.first().map(|(_, uid)| *uid),
        Place::Accounts(users) => users.first().copied(),
        Place::Slice(..) | Place::Group(_) | Place::Cuts => None,
    }
}

/// The name of what a request does.
pub(crate) fn operation(body: &RequestBody) -> &'static str {
    match body {
        RequestBody::OpenSession => "open_session",
        RequestBody::CloseSession(_) => "close_session",
        RequestBody::Get(_) => "get",
        RequestBody::Scan(_) => "scan",
        RequestBody::Transact { conditions, mutations, reads } => {
            match (&conditions[..], &mutations[..], &reads[..]) {
                ([], [Mutation::Put(..)], []) => "put",
                ([], [Mutation::Delete(_)], []) => "delete",
                (
                    [Condition::Equals(..) | Condition::Absent(_)],
                    [Mutation::Put(..) | Mutation::Delete(_)],
                    [],
                ) => "compare_and_set",
                _ => "transact",
            }
        }
        RequestBody::CreateAccount(..) => "create_account",
        RequestBody::SetAccount(..) => "set_account",
        RequestBody::GetAccount(_) => "account",
        RequestBody::Transfers(_) => "transfers",
        RequestBody::GetTransfer(..) => "find_transfer",
        RequestBody::History { .. } => "account_history",
        RequestBody::NewCut => "new_cut",
        RequestBody::PinCut(_) => "pin_cut",
        RequestBody::ReadCut(..) => "read_cut",
        RequestBody::UnpinCut(_) => "unpin_cut",
        RequestBody::GetMany { .. } => "get_many",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sampled_context_travels() {
        // Goal: what is no context, or not sampled, costs no stream of its own and confuses no node.
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00f067aa0ba902b7";
        let zeros = "0".repeat(32);
        assert!(is_sampled(&format!("00-{trace}-{parent}-01")));
        assert!(is_sampled(&format!("00-{trace}-{parent}-03")));
        let others = [
            format!("00-{trace}-{parent}-00"),
            format!("01-{trace}-{parent}-01"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}-{parent}-01-x"),
            format!("00-{trace}-{parent}"),
            String::new(),
        ];
        for text in others {
            assert!(!is_sampled(&text), "{text}");
        }
    }
}
