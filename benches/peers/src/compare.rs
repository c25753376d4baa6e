//! Medians over the rounds, and ratios of those. Pure.

use serde::Serialize;

use crate::turn::Figures;

/// One figure of one of the two over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one; of an even number the mean of both in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some values; `None` if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Spread { median, min, max })
    }
}

/// One figure of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Compared {
    /// Quorate's.
    pub(crate) quorate: Spread,
    /// etcd's.
    pub(crate) etcd: Spread,
    /// Median of Quorate over median of etcd.
    pub(crate) ratio: f64,
    /// The ratios within each round, which say how far the ratio can be trusted.
    pub(crate) ratio_of_rounds: Spread,
}

impl Compared {
    /// Compares what both had in the same rounds; `None` without rounds.
    pub(crate) fn of(quorate: &[f64], etcd: &[f64]) -> Option<Compared> {
        let ratios: Vec<f64> =
            quorate.iter().zip(etcd).map(|(quorate, etcd)| quorate / etcd).collect();
        let ratio_of_rounds = Spread::of(&ratios)?;
        let (quorate, etcd) = (Spread::of(quorate)?, Spread::of(etcd)?);
        Some(Compared { quorate, etcd, ratio: quorate.median / etcd.median, ratio_of_rounds })
    }
}

/// All that is compared of one workload and one number of callers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Rounds in which both had their turn.
    pub(crate) rounds: usize,
    /// Throughput; a ratio above 1 is good for Quorate.
    pub(crate) ops_per_second: Compared,
    /// Median latency; a ratio below 1 is good for Quorate. So for the others.
    pub(crate) p50_us: Compared,
    /// The latency of one in a hundred.
    pub(crate) p99_us: Compared,
    /// The latency of one in a thousand.
    pub(crate) p999_us: Compared,
    /// Requests to Quorate that failed, over all rounds.
    pub(crate) errors_quorate: u64,
    /// Requests to etcd that failed, over all rounds.
    pub(crate) errors_etcd: u64,
}

impl Comparison {
    /// Compares the turns of both, each in the order of the rounds; `None` without rounds. If the last
    /// round ended early, one of them may have had a turn more, which does not count.
    pub(crate) fn of(quorate: &[&Figures], etcd: &[&Figures]) -> Option<Comparison> {
        let rounds = quorate.len().min(etcd.len());
        let (quorate, etcd) = (&quorate[..rounds], &etcd[..rounds]);
        let compared = |figure: fn(&Figures) -> f64| {
            let all = |turns: &[&Figures]| turns.iter().map(|it| figure(it)).collect::<Vec<_>>();
            Compared::of(&all(quorate), &all(etcd))
        };
        Some(Comparison {
            rounds,
            ops_per_second: compared(|it| it.ops_per_second)?,
            p50_us: compared(|it| it.latency_us.p50 as f64)?,
            p99_us: compared(|it| it.latency_us.p99 as f64)?,
            p999_us: compared(|it| it.latency_us.p999 as f64)?,
            errors_quorate: quorate.iter().map(|it| it.errors).sum(),
            errors_etcd: etcd.iter().map(|it| it.errors).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Latency;

    #[test]
    fn the_median_is_in_the_middle() {
        let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 100.0, 1.0, 2.0]), Some(3.0));
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn the_ratio_is_of_medians_and_beside_it_stand_those_of_rounds() {
        let compared = Compared::of(&[30.0, 20.0, 80.0], &[10.0, 20.0, 10.0]).unwrap();
        assert_eq!(compared.ratio, 3.0);
        assert_eq!(compared.ratio_of_rounds, Spread { median: 3.0, min: 1.0, max: 8.0 });
        assert_eq!(Compared::of(&[], &[]), None);
    }

    #[test]
    fn every_figure_is_compared_and_errors_are_added() {
        let figures = |ops_per_second, p50, errors| Figures {
            ops_per_second,
            latency_us: Latency { p50, p99: 10 * p50, p999: 100 * p50 },
            errors,
            remarks: Vec::new(),
        };
        let quorate = [figures(200.0, 50, 1), figures(400.0, 70, 2)];
        let etcd = [figures(100.0, 100, 0), figures(100.0, 140, 4)];
        let comparison =
            Comparison::of(&quorate.each_ref()[..], &etcd.each_ref()[..]).expect("two rounds");
        assert_eq!(comparison.ops_per_second.ratio, 3.0);
        assert_eq!(comparison.p50_us.ratio, 0.5);
        assert_eq!(comparison.p99_us.etcd.median, 1200.0);
        assert_eq!(comparison.p999_us.quorate.max, 7000.0);
        assert_eq!((comparison.errors_quorate, comparison.errors_etcd), (3, 4));
        assert_eq!(comparison.rounds, 2);
    }

    #[test]
    fn a_turn_without_its_counterpart_does_not_count() {
        let figures = |ops_per_second| Figures {
            ops_per_second,
            latency_us: Latency { p50: 1, p99: 1, p999: 1 },
            errors: 0,
            remarks: Vec::new(),
        };
        let (quorate, etcd) = ([figures(10.0)], [figures(5.0), figures(1000.0)]);
        let comparison = Comparison::of(&quorate.each_ref(), &etcd.each_ref()).unwrap();
        assert_eq!((comparison.rounds, comparison.ops_per_second.ratio), (1, 2.0));
        assert_eq!(Comparison::of(&[], &etcd.each_ref()), None);
    }
}
