//! A transaction cut up by group, and its reply put together again.
//!
//! Called by the driver when a request names rows of several groups. Knows no rows and no locks.

use std::collections::BTreeMap;

use quorate_types::{
    Code, Error, GroupId, Mutation, Part, PartReply, RequestBody, RowAddress, TableId,
    TransferBatch, Uid,
};

/// Which group each value of the reply comes from, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyOrder {
    /// Of each row asked for.
    pub reads: Vec<GroupId>,
    /// Of each add.
    pub sums: Vec<GroupId>,
}

/// A transaction cut up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// What each group is asked.
    pub parts: BTreeMap<GroupId, Part>,
    /// How the reply goes together.
    pub order: ReplyOrder,
    /// The group of each condition, so that a refusal names it by its place in the request.
    pub conditions: Vec<GroupId>,
}

/// Cuts a transaction up by group. `None` if it is no transaction, or if a row has no group.
#[must_use]
pub fn split(
    body: &RequestBody,
    group_of: &dyn Fn(TableId, Uid) -> Option<GroupId>,
) -> Option<Split> {
    let RequestBody::Transact { conditions, mutations, reads } = body else { return None };
    let of = |at: &RowAddress| group_of(at.table, at.uid);
    let mut cut = Split::default();
    for condition in conditions {
        let group = of(condition.address())?;
        cut.conditions.push(group);
        cut.parts.entry(group).or_default().conditions.push(condition.clone());
    }
    for mutation in mutations {
        let group = of(mutation.address())?;
        if matches!(mutation, Mutation::Add { .. }) {
            cut.order.sums.push(group);
        }
        cut.parts.entry(group).or_default().mutations.push(mutation.clone());
    }
    for read in reads {
        let group = of(read)?;
        cut.order.reads.push(group);
        cut.parts.entry(group).or_default().reads.push(read.clone());
    }
    Some(cut)
}

/// The group of the credit accounts of a batch whose debit accounts are `group`'s, if it is another
/// one. Only transfers that give something count: the others do not touch their credit account.
///
/// # Errors
/// `SEVERAL_GROUPS` if not all its transfers are between the same two groups.
pub fn credit_group(
    batch: &TransferBatch,
    group: GroupId,
    group_of: &dyn Fn(Uid) -> Option<GroupId>,
) -> Result<Option<GroupId>, Error> {
    let mut found: Option<GroupId> = None;
    for (index, transfer) in batch.iter().enumerate() {
        let of = match transfer.kind.gives() {
            true => group_of(transfer.credit.uid).unwrap_or(group),
            false => group,
        };
        let first = *found.get_or_insert(of);
        if first != of {
            let message =
                format!("transfers to accounts of {first} and of {of} are in one request");
            let error = Error::new(Code::SeveralGroups, message);
            return Err(error.with("index", index).with("group", of.0));
        }
    }
    Ok(found.filter(|found| *found != group))
}

impl Split {
    /// A refusal of `group` as the client must read it: it knows the number of a condition in its
    /// request, the group only that in its part.
    #[must_use]
    pub fn renumber(&self, group: GroupId, mut refusal: Error) -> Error {
        let in_part = refusal.facts.get("condition").and_then(|number| number.parse().ok());
        if let Some(in_part) = in_part {
            let mut of_group = self.conditions.iter().enumerate().filter(|(_, at)| **at == group);
            if let Some((number, _)) = of_group.nth(in_part) {
                refusal.facts.insert("condition".to_owned(), number.to_string());
            }
        }
        refusal
    }
}

impl ReplyOrder {
    /// True if a group answers as much as it was asked.
    #[must_use]
    pub fn fits(&self, group: GroupId, reply: &PartReply) -> bool {
        let count = |order: &[GroupId]| order.iter().filter(|it| **it == group).count();
        count(&self.reads) == reply.reads.len() && count(&self.sums) == reply.sums.len()
    }

    /// Puts the replies of all groups into the order of the request. `None` if they do not fit it,
    /// which a group that follows the protocol never causes.
    #[must_use]
    pub fn merge(&self, replies: &BTreeMap<GroupId, PartReply>) -> Option<PartReply> {
        let mut reads: BTreeMap<_, _> =
            replies.iter().map(|(group, reply)| (*group, reply.reads.iter())).collect();
        let mut sums: BTreeMap<_, _> =
            replies.iter().map(|(group, reply)| (*group, reply.sums.iter())).collect();
        Some(PartReply {
            reads: merged(&self.reads, &mut reads)?,
            sums: merged(&self.sums, &mut sums)?,
            // One side of transfers has verdicts for the other.
            verdicts: replies.values().flat_map(|reply| reply.verdicts.iter().copied()).collect(),
        })
    }
}

fn merged<'a, T: Clone + 'a>(
    order: &[GroupId],
    parts: &mut BTreeMap<GroupId, impl Iterator<Item = &'a T>>,
) -> Option<Vec<T>> {
    let mut all = Vec::with_capacity(order.len());
    for group in order {
        all.push(parts.get_mut(group)?.next()?.clone());
    }
    let nothing_left = parts.values_mut().all(|rest| rest.next().is_none());
    nothing_left.then_some(all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::{Condition, Value};

    use super::*;

    fn at(uid: u64) -> RowAddress {
        RowAddress { table: TableId(1), uid: Uid(uid), key: Bytes::from_static(b"k") }
    }

    fn add(uid: u64, delta: i64) -> Mutation {
        Mutation::Add { at: at(uid), delta, floor: None, ceiling: None }
    }

    fn rows(reads: Vec<Option<Value>>, sums: Vec<i64>) -> PartReply {
        PartReply { reads, sums, verdicts: Vec::new() }
    }

    /// Even users live in group 2, odd ones in group 1.
    fn group_of(_: TableId, uid: Uid) -> Option<GroupId> {
        Some(GroupId(if uid.0.is_multiple_of(2) { 2 } else { 1 }))
    }

    #[test]
    fn a_reply_has_the_order_of_the_request() {
        // Goal: however a request is cut up, values and sums come back where they were asked for.
        let body = RequestBody::Transact {
            conditions: vec![Condition::Exists(at(2)), Condition::Exists(at(1))],
            mutations: vec![add(1, 5), Mutation::Delete(at(2)), add(2, 6), add(3, 7)],
            reads: vec![at(4), at(3), at(2)],
        };
        let cut = split(&body, &group_of).expect("every row has a group");
        assert_eq!(cut.parts.len(), 2);
        assert_eq!(cut.parts[&GroupId(1)].mutations, [add(1, 5), add(3, 7)]);
        let number = |n| Some(Value::Integer(n));
        let replies = BTreeMap::from([
            (GroupId(1), rows(vec![number(3)], vec![5, 7])),
            (GroupId(2), rows(vec![number(4), None], vec![6])),
        ]);
        let merged = cut.order.merge(&replies).expect("they fit");
        assert_eq!(merged, rows(vec![number(4), number(3), None], vec![5, 6, 7]));

        let refusal = Error::new(Code::ConditionFailed, "no").with("condition", 0);
        assert_eq!(cut.renumber(GroupId(1), refusal).facts["condition"], "1");
    }

    #[test]
    fn replies_that_do_not_fit_are_no_reply() {
        // Goal: a group that answers too much or too little is noticed.
        let order = ReplyOrder { reads: vec![GroupId(1)], sums: Vec::new() };
        let none = BTreeMap::from([(GroupId(1), PartReply::default())]);
        assert_eq!(order.merge(&none), None);
        let two = rows(vec![None, None], Vec::new());
        assert_eq!(order.merge(&BTreeMap::from([(GroupId(1), two)])), None);
    }
}
