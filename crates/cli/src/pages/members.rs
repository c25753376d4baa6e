//! Pages of the codes 3005 to 3008: who takes part in a group.

use super::Page;

pub(super) const MEMBERS_CHANGED: Page = Page {
    meaning: "The members of the group are not those that the request was made for, or a change of them is \
              under way. Nothing was begun.",
    causes: &[
        "somebody else changes the members of the group at the same time",
        "a change that was begun before is not over yet",
        "the leader changed between the look at the members and the request",
    ],
    steps: &[
        "run the command again: it looks at the members anew and goes on where they are now",
        "`quorate group members GROUP` shows the members and whether a change is under way",
        "a change that stays under way lacks a majority of the old or of the new voters: `quorate status` shows who is missing",
    ],
};

pub(super) const MEMBER_NOT_READY: Page = Page {
    meaning: "A replica that should vote could not yet: it is behind, has no rows, or its leader has not heard \
              it. It stays a learner, and the voters are those from before.",
    causes: &[
        "it is new, and still fetches the rows of the group",
        "its node does not run, or the others do not reach it",
        "the group writes faster than the replica's disk or network takes",
    ],
    steps: &[
        "`quorate group members GROUP` shows how far it is, and whether it is fit",
        "run the command again, with a longer --timeout: it goes on where it stopped",
        "if it makes no progress, look at the log of its node",
    ],
};

pub(super) const MEMBER_EXISTS: Page = Page {
    meaning: "The node has a replica of the group already. A node holds at most one of each group, so that no two \
              votes are lost with it.",
    causes: &[
        "the replica that should go there is that of a node which shares the group with it",
        "the node is to be a learner and votes already",
    ],
    steps: &[
        "choose a node without a replica of the group; `quorate group members GROUP` shows the others",
        "`quorate group demote GROUP NODE` makes a voter a learner",
    ],
};

pub(super) const LESS_REDUNDANCY: Page = Page {
    meaning: "The group survives the loss of any one node now, and would not any more. That is refused unless it \
              is asked for in so many words.",
    causes: &[
        "a voter is removed or demoted, and three or fewer voted",
        "a voter is removed or demoted while another one is down",
    ],
    steps: &[
        "add a voter first: `quorate group add GROUP NODE`, or put one in its place: `quorate group replace GROUP NODE --by NODE`",
        "start the nodes that are down",
        "`--dry-run` shows what the group survives before, during and after",
        "to go on all the same, add --accept-less-redundancy",
    ],
};
