//! Pages of the codes 3010 and 3011: groups that lost a majority for ever.

use super::Page;

pub(super) const GROUP_NOT_LOST: Page = Page {
    meaning: "A forced recovery gives up whatever only the lost replicas hold. It was asked for although a leader \
              is known or a majority answers, so nothing has to be given up. Nothing was changed.",
    causes: &[
        "a majority of the voters runs: the group has a leader, or elects one",
        "a voter that was taken for lost was heard a moment ago",
        "the group was recovered before, and works",
    ],
    steps: &[
        "`quorate status` shows who serves the group, and who is missing",
        "take lost members out with `quorate group remove`, or put others in their place with `quorate group replace`",
        "after a node is really gone, wait a few seconds: the others have to miss it first",
    ],
};

pub(super) const OUTLIVED: Page = Page {
    meaning: "The group lost a majority, and an operator had it go on without this replica. What this replica holds \
              may differ from what the group holds since; it neither serves nor votes again, ever.",
    causes: &[
        "the node was taken for lost for ever, and came back with its old data",
        "the node could not be reached when `quorate group unsafe-recover` was run",
    ],
    steps: &[
        "send requests to the other nodes of the group; clients do so by themselves",
        "`quorate ledger list` shows what may be lost; compare it with what this node still has before you delete it",
        "stop the node, keep its data folder away, start it with an empty one, and add it with `quorate group add`",
    ],
};
