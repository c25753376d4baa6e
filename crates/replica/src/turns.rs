//! Whose request is next. Groups take turns, so that one that is asked for more than it can do keeps its
//! own callers waiting and nobody else's. Bounded by the byte budget that every request holds a part of.

use std::collections::{BTreeMap, VecDeque};

use quorate_types::GroupId;

/// Requests by group, each group's in the order they came. Invariant: no queue is empty.
#[derive(Debug)]
pub(crate) struct Turns<T>(BTreeMap<GroupId, VecDeque<T>>);

impl<T> Turns<T> {
    pub(crate) fn new() -> Turns<T> {
        Turns(BTreeMap::new())
    }

    pub(crate) fn push(&mut self, group: GroupId, request: T) {
        self.0.entry(group).or_default().push_back(request);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first requests of every group, at most `each` of one.
    pub(crate) fn take(&mut self, each: usize) -> Vec<(GroupId, T)> {
        let mut taken = Vec::new();
        self.0.retain(|group, waiting| {
            let count = waiting.len().min(each);
            taken.extend(waiting.drain(..count).map(|request| (*group, request)));
            !waiting.is_empty()
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_asks_for_much_delays_no_other() {
        // Goal: whoever comes last to a quiet group is in the next round, however many came before him
        // to a busy one; within a group nobody is overtaken, and nobody is lost.
        let (busy, quiet) = (GroupId(1), GroupId(2));
        let mut turns = Turns::new();
        for number in 0..10 {
            turns.push(busy, number);
        }
        turns.push(quiet, 100);
        assert_eq!(turns.take(4), [(busy, 0), (busy, 1), (busy, 2), (busy, 3), (quiet, 100)]);
        turns.push(quiet, 101);
        assert_eq!(turns.take(4).len(), 5);
        assert_eq!(turns.take(4), [(busy, 8), (busy, 9)]);
        assert!(turns.is_empty());
    }
}
