//! Pages of the codes 1xxx: the request went to the wrong place.

use super::Page;

pub(super) const NOT_LEADER: Page = Page {
    meaning: "The node that was asked does not lead the group that holds the row. Only a group's \
              leader decides about its rows.",
    causes: &[
        "the leadership moved since the client last asked: a failure, a hand-over, a restart",
        "the group is electing, so nobody leads it at the moment",
        "the client keeps to one node and does not follow the leader that the error names",
    ],
    steps: &[
        "send the request to the node in the fact `leader`; the Rust client and the command line do",
        "if no leader is named, ask another member, with a short random pause in between",
        "if it lasts longer than a few seconds, `quorate status` says which members are missing",
    ],
};

pub(super) const WRONG_NODE: Page = Page {
    meaning: "The node that was asked holds no replica of the group.",
    causes: &[
        "the members of the group changed: they stand in its log, not in the cluster file",
        "the client routes by an older cluster file than the servers",
        "an address leads to another node than the cluster file says, such as behind a proxy",
    ],
    steps: &[
        "follow the leader that the error names, else ask the other nodes, and fetch the topology again; the Rust client does so by itself",
        "`quorate group members` shows where the replicas of the group are",
        "`quorate cluster check` finds nodes that run with another cluster file",
    ],
};

pub(super) const WRONG_UNIT: Page = Page {
    meaning: "The slice of the UID belongs to another group than the one the request was addressed to.",
    causes: &[
        "the client routes by an older cluster file, or computes slices of its own",
        "nodes run with different cluster files",
    ],
    steps: &[
        "fetch the topology again and route by the slice, which is the UID modulo `slices`",
        "`quorate route explain --uid U` shows where the rows of a user live",
        "`quorate cluster check` finds nodes that run with another cluster file",
    ],
};

pub(super) const UNKNOWN_TABLE: Page = Page {
    meaning: "The cluster file has no table with this name or number.",
    causes: &["a typing mistake", "the endpoints belong to another cluster than the one meant"],
    steps: &[
        "`quorate topology show` lists the tables of the cluster",
        "check --endpoints and QUORATE_ENDPOINTS",
    ],
};

pub(super) const UNKNOWN_GROUP: Page = Page {
    meaning: "The cluster file has no group with this number.",
    causes: &["a typing mistake", "the endpoints belong to another cluster than the one meant"],
    steps: &[
        "`quorate topology show` lists the groups of the cluster",
        "check --endpoints and QUORATE_ENDPOINTS",
    ],
};

pub(super) const SEVERAL_GROUPS: Page = Page {
    meaning: "The rows of one request live in several groups, and the request cannot go over several.",
    causes: &[
        "a transaction over several groups carries no id of a session in one of them",
        "a transaction names rows of more than 16 groups",
    ],
    steps: &[
        "give the request an id of a session in one of its groups; the Rust client does",
        "split a transaction over more than 16 groups",
        "`quorate route explain --uid U` shows the group of each user",
    ],
};
