//! What a quorum has reached.

/// The greatest value that `quorum` of these have reached; `None` if there are not so many. Values are
/// few, and compared instead of sorted: this runs for every answer of every follower.
pub(crate) fn reached_by<T: Copy + Ord>(
    quorum: usize,
    values: impl Iterator<Item = T> + Clone,
) -> Option<T> {
    let reach = |value: &T| values.clone().filter(|other| value <= other).count();
    values.clone().filter(|value| quorum <= reach(value)).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quorum_reaches_the_value_at_its_place(
            values in proptest::collection::vec(0u8..5, 0..8), quorum in 1usize..9,
        ) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let want = sorted.get(quorum - 1).copied();
            prop_assert_eq!(reached_by(quorum, values.iter().copied()), want);
        }
    }
}
