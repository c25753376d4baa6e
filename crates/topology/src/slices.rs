//! Sets of slices, written `00-09,20-24`.

use std::fmt;

use quorate_types::SliceId;

/// A set of slices as sorted, disjoint ranges that do not touch. Printed `00-09,20-24`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceSet {
    /// Both ends inclusive. Invariant: each end is at least 2 below the next start.
    ranges: Vec<(u16, u16)>,
}

impl SliceSet {
    /// All slices of a cluster with `slice_count` of them.
    #[must_use]
    pub fn all(slice_count: u16) -> SliceSet {
        match slice_count.checked_sub(1) {
            Some(last) => SliceSet { ranges: vec![(0, last)] },
            None => SliceSet::default(),
        }
    }

    /// Parses `00-09,20-24` for a cluster with `slice_count` slices. The error is a fragment that
    /// says what is wrong.
    ///
    /// # Errors
    /// If a part is no number or range, leaves the slices of the cluster, or repeats a slice.
    pub fn parse(text: &str, slice_count: u16) -> Result<SliceSet, String> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (number(first, part, slice_count)?, number(last, part, slice_count)?);
            if range.1 < range.0 {
                return Err(format!("slice range {part:?} runs backwards"));
            }
            ranges.push(range);
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if pair[1].0 <= pair[0].1 {
                return Err(format!("slice {:02} is named twice", pair[1].0));
            }
        }
        Ok(merged(ranges))
    }

    /// Whether the slice is in the set.
    #[must_use]
    pub fn contains(&self, slice: SliceId) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < slice.0);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= slice.0)
    }

    /// The slices in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = SliceId> + '_ {
        self.ranges.iter().flat_map(|(first, last)| (*first..=*last).map(SliceId))
    }

    /// The ranges in ascending order, both ends inclusive.
    pub fn ranges(&self) -> impl Iterator<Item = (SliceId, SliceId)> + '_ {
        self.ranges.iter().map(|(first, last)| (SliceId(*first), SliceId(*last)))
    }

    /// How many slices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The slices in both sets.
    #[must_use]
    pub fn intersection(&self, other: &SliceSet) -> SliceSet {
        self.iter().filter(|slice| other.contains(*slice)).collect()
    }

    /// The slices in this set and not in the other one.
    #[must_use]
    pub fn difference(&self, other: &SliceSet) -> SliceSet {
        self.iter().filter(|slice| !other.contains(*slice)).collect()
    }

    /// The slices in either set.
    #[must_use]
    pub fn union(&self, other: &SliceSet) -> SliceSet {
        self.iter().chain(other.iter()).collect()
    }

    /// `slice 07` or `slices 00-24`.
    pub(crate) fn words(&self) -> String {
        let plural = if self.len() == 1 { "" } else { "s" };
        format!("slice{plural} {self}")
    }
}

impl FromIterator<SliceId> for SliceSet {
    fn from_iter<I: IntoIterator<Item = SliceId>>(slices: I) -> SliceSet {
        let mut ranges: Vec<(u16, u16)> = slices.into_iter().map(|id| (id.0, id.0)).collect();
        ranges.sort_unstable();
        merged(ranges)
    }
}

impl fmt::Display for SliceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first:02}")?;
            } else {
                write!(f, "{comma}{first:02}-{last:02}")?;
            }
        }
        Ok(())
    }
}

/// A slice as people see it: `07`, or `unsharded`.
#[must_use]
pub fn slice_label(slice: SliceId) -> String {
    if slice == SliceId::UNSHARDED { "unsharded".to_owned() } else { format!("{:02}", slice.0) }
}

/// Joins sorted ranges that touch or overlap.
fn merged(ranges: Vec<(u16, u16)>) -> SliceSet {
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => {
                previous.1 = previous.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    SliceSet { ranges: joined }
}

fn number(digits: &str, part: &str, slice_count: u16) -> Result<u16, String> {
    let digits = digits.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(format!("{part:?} is neither a slice nor a range of slices"));
    }
    match digits.parse::<u16>() {
        Ok(number) if number < slice_count => Ok(number),
        _ => Err(format!(
            "slice {digits} is outside 00-{:02}, the slices of this cluster",
            slice_count.saturating_sub(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_parsed_merged_and_printed() {
        for (text, printed) in [
            ("00-24", "00-24"),
            ("20-24, 00-09", "00-09,20-24"),
            ("0-9,10-24", "00-24"),
            ("7", "07"),
            ("98,99", "98-99"),
        ] {
            let set = SliceSet::parse(text, 100).unwrap();
            assert_eq!(set.to_string(), printed);
            assert_eq!(set.iter().collect::<SliceSet>(), set);
        }
        assert_eq!(SliceSet::parse("000-999", 1000).unwrap(), SliceSet::all(1000));
    }

    #[test]
    fn bad_text_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "\"\" is neither a slice nor a range of slices"),
            ("00-", "\"00-\" is neither a slice nor a range of slices"),
            ("1-2-3", "\"1-2-3\" is neither a slice nor a range of slices"),
            ("+1", "\"+1\" is neither a slice nor a range of slices"),
            ("24-00", "slice range \"24-00\" runs backwards"),
            ("00-24,24-30", "slice 24 is named twice"),
            ("00-100", "slice 100 is outside 00-99, the slices of this cluster"),
            ("99999999999", "slice 99999999999 is outside 00-99, the slices of this cluster"),
        ] {
            assert_eq!(SliceSet::parse(text, 100), Err(reason.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn set_operations_agree_with_membership() {
        let a = SliceSet::parse("00-24,50", 100).unwrap();
        let b = SliceSet::parse("20-50", 100).unwrap();
        assert_eq!(a.intersection(&b).to_string(), "20-24,50");
        assert_eq!(a.difference(&b).to_string(), "00-19");
        assert_eq!(a.union(&b).to_string(), "00-50");
        assert_eq!(a.len(), 26);
        assert!(SliceSet::all(0).is_empty());
        for slice in 0..100 {
            assert_eq!(a.contains(SliceId(slice)), a.iter().any(|id| id.0 == slice), "{slice}");
        }
    }
}
