//! Pages of the codes 4xxx: something is full, or larger than allowed.

use super::Page;

pub(super) const OVERLOADED: Page = Page {
    meaning: "A queue is full, so the request was refused before anything happened. The error says how \
              long to wait.",
    causes: &[
        "more requests at once than the node or group takes",
        "a slow disk or a slow network between the nodes",
        "very many undecided transactions over several groups",
    ],
    steps: &[
        "wait for the time that the error names, then try again; the Rust client does",
        "send less at once, or spread users over more groups",
        "`/metrics` of the leader shows what is slow: syncs of the log, frames to peers, CPU",
    ],
};

pub(super) const DISK_FULL: Page = Page {
    meaning: "The disk of the leader has less room than the reserve, or its log has reached its limit. \
              Writes are refused, reads go on.",
    causes: &[
        "the disk is full, of data of this node or of other things",
        "a member is down or far behind, and the log is kept for it",
    ],
    steps: &[
        "`quorate status` warns of nodes with little room and shows members that lag",
        "free or add disk space; start the member that is down",
        "the node takes writes again by itself once there is room",
    ],
};

pub(super) const KEY_TOO_LARGE: Page = Page {
    meaning: "A key is empty or longer than 1,024 bytes.",
    causes: &["data in the key that belongs into the value"],
    steps: &["make the key shorter, for example a digest of the long one"],
};

pub(super) const VALUE_TOO_LARGE: Page = Page {
    meaning: "A value is longer than 524,288 bytes.",
    causes: &["files or pictures as values"],
    steps: &[
        "split the value over several rows, and write them in one transaction",
        "keep large objects elsewhere and their address here",
    ],
};

pub(super) const TXN_TOO_LARGE: Page = Page {
    meaning: "A transaction has more than 1,024 parts or more than 1,048,576 bytes.",
    causes: &["a bulk load in one transaction"],
    steps: &["split it; `quorate import` loads rows without transactions"],
};

pub(super) const FRAME_TOO_LARGE: Page = Page {
    meaning: "A message is larger than 2,097,152 bytes.",
    causes: &["a client that packs too many requests into one message"],
    steps: &["send smaller messages"],
};

pub(super) const BATCH_TOO_LARGE: Page = Page {
    meaning: "A batch of transfers is empty or has more than 8,190.",
    causes: &["a batch that was not cut"],
    steps: &["cut it at the ends of chains; `transfers` of the Rust client takes any number"],
};
