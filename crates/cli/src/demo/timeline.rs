//! What the load felt during an event, computed from the times of its requests. Pure.
//!
//! The **stall** of a worker is the longest time inside the window of an event that it went without a
//! success: from the event, or from its last success after it, to its next success or the end of the
//! window. A window ends only when the cluster is healthy again, or is given up. Workers send one
//! request at a time and pause for a while ([`pause`](super::load::pause)) in between, so without any fault the
//! stall is the slowest request plus that pause.

use std::time::Duration;

use serde::Serialize;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It succeeded.
    Done,
    /// It succeeded, and an earlier attempt had taken effect whose answer was lost.
    Replayed,
    /// It failed and had no effect.
    NotApplied,
    /// It failed and may have had an effect.
    Unknown,
}

impl End {
    fn is_success(self) -> bool {
        matches!(self, End::Done | End::Replayed)
    }
}

/// A request of the load. Times count from the start of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) started: Duration,
    pub(super) ended: Duration,
    pub(super) end: End,
}

/// The time an event is judged by: from the moment before its signal to the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

/// What the workers of one unit felt in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Impact {
    /// Requests that ended in the window.
    pub(super) requests: u64,
    /// Of these, failures known to have had no effect.
    pub(super) failed: u64,
    /// Of these, failures that may have had an effect.
    pub(super) unknown: u64,
    /// Of these, successes of a later attempt after the answer of an earlier one was lost.
    pub(super) replayed: u64,
    /// The stall over the workers, in ms.
    pub(super) stall_ms: Spread,
    /// How long requests that succeeded took, in ms.
    pub(super) latency_ms: Spread,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Spread {
    /// The percentiles by nearest rank, rounded up to whole ms.
    pub(super) fn of(mut times: Vec<Duration>) -> Spread {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).map_or(0, |time| whole_ms(*time))
        };
        Spread { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// A time in ms, rounded up.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// What the workers of a unit felt; `logs` has the requests of each in order.
pub(super) fn impact(logs: &[&[Request]], window: Window) -> Impact {
    let in_window =
        |request: &&Request| window.from <= request.ended && request.ended < window.until;
    let mut impact = Impact::default();
    let mut latencies = Vec::new();
    for request in logs.iter().flat_map(|log| log.iter()).filter(in_window) {
        impact.requests += 1;
        match request.end {
            End::Done => {}
            End::Replayed => impact.replayed += 1,
            End::NotApplied => impact.failed += 1,
            End::Unknown => impact.unknown += 1,
        }
        if request.end.is_success() {
            latencies.push(request.ended.saturating_sub(request.started));
        }
    }
    let stalls = logs.iter().map(|log| stall(log, window)).collect();
    impact.stall_ms = Spread::of(stalls);
    impact.latency_ms = Spread::of(latencies);
    impact
}

/// The longest time inside the window without a success of any of these workers.
pub(super) fn outage(logs: &[&[Request]], window: Window) -> Duration {
    let mut all: Vec<Request> = logs.concat();
    all.sort_by_key(|request| request.ended);
    stall(&all, window)
}

/// The stall of one worker.
fn stall(log: &[Request], window: Window) -> Duration {
    let successes = log.iter().filter(|request| request.end.is_success()).map(|it| it.ended);
    let inside = successes.filter(|ended| window.from <= *ended && *ended < window.until);
    let mut since = window.from;
    let mut longest = Duration::ZERO;
    for at in inside.chain([window.until]) {
        longest = longest.max(at.saturating_sub(since));
        since = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Requests of a worker by when they end, each taking 5 ms.
    fn log(ends: &[(u64, End)]) -> Vec<Request> {
        let request = |(ended, end): &(u64, End)| Request {
            started: ms(ended.saturating_sub(5)),
            ended: ms(*ended),
            end: *end,
        };
        ends.iter().map(request).collect()
    }

    const WINDOW: Window =
        Window { from: Duration::from_millis(100), until: Duration::from_millis(200) };

    fn stall_of(ends: &[(u64, End)]) -> Duration {
        stall(&log(ends), WINDOW)
    }

    #[test]
    fn a_stall_is_the_longest_time_without_a_success_after_the_event() {
        use End::{Done, NotApplied, Replayed, Unknown};
        type Case = (&'static str, &'static [(u64, End)], u64);
        let cases: [Case; 7] = [
            (
                "before and after do not count",
                &[(1, Done), (95, Done), (110, Done), (195, Done), (990, Done)],
                85,
            ),
            ("counted from the event", &[(20, Done), (130, Done), (190, Done), (201, Done)], 60),
            ("counted to the end of the window", &[(110, Done), (120, Done), (450, Done)], 80),
            (
                "failures are no successes",
                &[(110, Done), (150, NotApplied), (170, Unknown), (199, Done), (200, Done)],
                89,
            ),
            ("a replay is one", &[(110, Done), (150, Replayed), (199, Done), (200, Done)], 49),
            ("no success any more", &[(110, Done), (150, NotApplied)], 90),
            ("no request at all", &[], 100),
        ];
        for (what, ends, want) in cases {
            assert_eq!(stall_of(ends), ms(want), "{what}");
        }
    }

    #[test]
    fn requests_are_counted_where_they_end() {
        use End::{Done, NotApplied, Replayed, Unknown};
        let first = log(&[
            (99, NotApplied),
            (100, Done),
            (150, NotApplied),
            (199, Replayed),
            (200, Unknown),
        ]);
        let second = log(&[(104, Done), (160, Unknown), (204, Done)]);
        let found = impact(&[&first, &second], WINDOW);
        assert_eq!((found.requests, found.failed, found.unknown, found.replayed), (5, 1, 1, 1));
        assert_eq!(found.latency_ms, Spread { p50: 5, p99: 5, max: 5 });
        assert_eq!(found.stall_ms, Spread { p50: 96, p99: 99, max: 99 });
    }

    #[test]
    fn an_outage_is_when_no_worker_of_several_succeeds() {
        // Goal: a worker that waits for a lost answer does not make an outage while its neighbour is served.
        use End::{Done, NotApplied};
        let first = log(&[(110, Done), (190, Done)]);
        let second = log(&[(105, Done), (140, Done), (150, NotApplied), (160, Done)]);
        assert_eq!(outage(&[&first, &second], WINDOW), ms(30));
        assert_eq!(outage(&[&first], WINDOW), ms(80));
        assert_eq!(outage(&[], WINDOW), ms(100));
    }

    #[test]
    fn percentiles_go_by_nearest_rank() {
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        let spread = Spread::of((1..=100).rev().map(ms).collect());
        assert_eq!(spread, Spread { p50: 50, p99: 99, max: 100 });
        assert_eq!(Spread::of(vec![Duration::from_micros(1)]).max, 1);
    }
}
