//! Pages of the codes 3xxx: too few were reached, or nobody in time.

use super::Page;

pub(super) const NO_QUORUM: Page = Page {
    meaning: "Nobody can serve the group, because no majority of its members was reached. The minority \
              stops on purpose: otherwise both sides of a split would answer.",
    causes: &[
        "a majority of the group's nodes is down",
        "the network is split and the request went to the smaller side",
    ],
    steps: &[
        "`quorate status` names the members that are missing and what the loss stops",
        "start those nodes again, each with its own data folder, or heal the network",
        "the group serves again by itself when a majority is back",
    ],
};

pub(super) const NOT_READY: Page = Page {
    meaning: "The node does not serve the group yet: it was just elected, it starts, or it is about to \
              hand over.",
    causes: &["an election a moment ago", "a node that still recovers", "a hand-over under way"],
    steps: &[
        "try again after a short pause; the Rust client does",
        "if it lasts longer than a few seconds, look at `quorate status` and the log of the node",
    ],
};

pub(super) const DEADLINE_EXCEEDED: Page = Page {
    meaning: "No answer came within the time allowed. The message names the endpoints tried, the number \
              of attempts, the phase and the last answer.",
    causes: &[
        "the group has no leader for longer than the deadline: a majority is missing",
        "a node is overloaded or its disk is slow",
        "the deadline is shorter than the way to the leader and back takes",
    ],
    steps: &[
        "read the phase: `connect` is the network or a server that does not run, `wait` a group that does not answer",
        "`quorate status` shows which nodes and groups serve",
        "allow more with --timeout",
        "if the message says that it may have taken effect, repeat it under the same id only",
    ],
};

pub(super) const UNREACHABLE: Page = Page {
    meaning: "No connection could be made to any of the endpoints tried. Nothing was sent.",
    causes: &[
        "the server does not run, or still starts",
        "a wrong address, or the port for peers or health instead of the one for clients",
        "a firewall, or a name that does not resolve",
    ],
    steps: &[
        "check that `quorate server` runs there, and its log",
        "check --endpoints and QUORATE_ENDPOINTS against `client` in the cluster file",
        "try the health port: `curl http://HOST:ADMIN_PORT/readyz`",
    ],
};

pub(super) const SNAPSHOT_UNAVAILABLE: Page = Page {
    meaning: "One node asked another for the rows of a group, and that one cannot give them now. Nodes say \
              this to each other; the one that asked turns to another replica by itself.",
    causes: &[
        "the replica asked is itself behind, or lacks its rows",
        "the view that a transfer of rows was broken off from is gone: it is kept for a minute",
        "too many views are kept in memory on that node",
    ],
    steps: &[
        "nothing, as long as it passes",
        "if a replica stays without rows, `quorate status` shows which replicas of the group are up to date",
    ],
};
