//! The counters of requests as metrics. They live outside the registry, which is made for each scrape.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::requests::{BUCKETS_US, Requests, Times};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// A histogram that was counted elsewhere.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<OnceLock<Snapshot>>);

#[derive(Clone, Debug)]
struct Snapshot {
    /// Upper end in seconds, and how many fell into the bucket.
    buckets: Vec<(f64, u64)>,
    sum_s: f64,
}

impl Snapshot {
    fn of(times: &Times) -> Snapshot {
        let (counts, sum_us) = times.read();
        let ends = BUCKETS_US.iter().map(|us| *us as f64 / 1e6);
        let buckets = ends.chain(std::iter::once(f64::INFINITY)).zip(counts).collect();
        Snapshot { buckets, sum_s: sum_us as f64 / 1e6 }
    }
}

impl TypedMetric for Counted {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Counted {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(Snapshot { buckets, sum_s }) = self.0.get() else { return Ok(()) };
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(*sum_s, count, buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Requests by code, and how long reads and writes took.
pub(super) fn register(registry: &mut Registry, requests: &Requests) {
    let by_code = Family::<CodeLabels, Counter>::default();
    registry.register("requests", "Requests answered, by code", by_code.clone());
    for (code, count) in requests.by_code() {
        by_code.get_or_create(&CodeLabels { code }).inc_by(count);
    }
    let times = Family::<KindLabels, Counted>::default();
    let help = "Time from a request's arrival in the node to its answer";
    registry.register_with_unit("request", help, Unit::Seconds, times.clone());
    for (kind, counted) in [("read", &requests.reads), ("write", &requests.writes)] {
        let metric = times.get_or_create(&KindLabels { kind });
        metric.0.get_or_init(|| Snapshot::of(counted));
    }
}
