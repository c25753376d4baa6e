//! Where messages between groups go: to the node whose replica leads the group, if it was heard of just
//! now, else to all its nodes. Those that do not lead ignore them.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_types::{BootTime, CrossMessage, GroupId, NodeId};

/// What was heard longer ago says nothing: the message before may have been lost because of it.
const HEARD_LATELY: Duration = Duration::from_millis(90);

/// The nodes of all groups, and where their leaders were heard.
#[derive(Debug)]
pub(crate) struct Leaders {
    members: BTreeMap<GroupId, Vec<NodeId>>,
    heard: BTreeMap<GroupId, (NodeId, BootTime)>,
}

impl Leaders {
    pub(crate) fn new(members: BTreeMap<GroupId, Vec<NodeId>>) -> Leaders {
        Leaders { members, heard: BTreeMap::new() }
    }

    /// Other nodes hold a group now.
    pub(crate) fn moved(&mut self, group: GroupId, nodes: Vec<NodeId>) {
        self.members.insert(group, nodes);
    }

    /// A leader of `group` spoke from `node`: nobody else speaks for a group.
    pub(crate) fn heard(&mut self, now: BootTime, group: GroupId, node: NodeId) {
        self.heard.insert(group, (node, now));
    }

    /// Messages by the node they go to.
    pub(crate) fn route(
        &self,
        now: BootTime,
        messages: Vec<CrossMessage>,
    ) -> BTreeMap<NodeId, Vec<CrossMessage>> {
        let mut routed: BTreeMap<NodeId, Vec<CrossMessage>> = BTreeMap::new();
        for message in messages {
            let lately = |at: BootTime| now.since(at) < HEARD_LATELY;
            match self.heard.get(&message.to) {
                Some((node, at)) if lately(*at) => routed.entry(*node).or_default().push(message),
                _ => {
                    for node in self.members.get(&message.to).into_iter().flatten() {
                        routed.entry(*node).or_default().push(message.clone());
                    }
                }
            }
        }
        routed
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{Attempt, Ballot, CrossBody, CutId};

    use super::*;

    #[test]
    fn a_leader_that_falls_silent_is_looked_for_everywhere() {
        // Goal: few messages while a leader is known, and none that goes only to one that has left.
        let (one, two) = (GroupId(1), GroupId(2));
        let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
        let mut leaders = Leaders::new(BTreeMap::from([(two, nodes.clone())]));
        let attempt = Attempt { group: one, ballot: Ballot::ZERO, counter: 1 };
        let message =
            CrossMessage { from: one, to: two, cut: CutId::NONE, body: CrossBody::Ask { attempt } };
        let targets = |leaders: &Leaders, now| {
            leaders.route(now, vec![message.clone()]).into_keys().collect::<Vec<_>>()
        };
        let now = BootTime(1_000_000_000);
        assert_eq!(targets(&leaders, now), nodes);
        leaders.heard(now, two, NodeId(2));
        assert_eq!(targets(&leaders, now + HEARD_LATELY / 2), [NodeId(2)]);
        assert_eq!(targets(&leaders, now + HEARD_LATELY), nodes);
    }
}
