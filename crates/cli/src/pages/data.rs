//! Pages of the codes 7xxx and 9xxx: what is wrong with files, and bugs of ours.

use super::Page;

pub(super) const LOG_DAMAGED: Page = Page {
    meaning: "Bytes of the log are changed or missing that were once safely on the disk. A node repairs that \
              by itself at its start: it fetches what is missing and does not vote before it has it. This one \
              does not start: it was told not to repair its log (`--repair-log false`), the other voters of a \
              group are no majority without it, or the newest file of the log is gone.",
    causes: &[
        "the disk lost or changed bytes",
        "a file of the log was removed, cut or replaced by an older copy",
    ],
    steps: &[
        "keep the folder as it is and leave the node down: the others go on as long as they are a majority",
        "if a file was only moved away, put that same file back; never an older copy",
        "check the disk before anything else is written to it",
        "if it was started with `--repair-log false`, start it without",
        "if too few others are left, the group has lost its majority: restore a backup",
    ],
};

pub(super) const PROMISES_UNREADABLE: Page = Page {
    meaning: "Neither copy of the promise file is whole, or the promises are older than the log. The \
              node does not start: it does not know what it promised.",
    causes: &["the disk lost or changed bytes", "a file of the folder was removed or replaced"],
    steps: &[
        "keep the folder as it is and leave the node down: it must not vote under its name again",
        "check the disk",
    ],
};

pub(super) const STORE_DAMAGED: Page = Page {
    meaning: "The rows on this node's disk are damaged. The log and the promises may well be whole. A node \
              that finds it out while it runs stops at once.",
    causes: &["the disk lost or changed bytes", "files below `rows` were removed or replaced"],
    steps: &[
        "check the disk: the others go on as long as they are a majority",
        "start the node: it moves the folder `rows` aside to `rows.damaged-N` by itself and fetches its rows from the others",
        "if it was started with `--repair-rows false`, move the folder `rows` away yourself, leave log and promises where they are, and start it",
        "remove `rows.damaged-N` once the node is well; only the newest two are kept",
    ],
};

pub(super) const DISK_FAILED: Page = Page {
    meaning: "A file could not be read or written. The message names the file and what the system said.",
    causes: &[
        "a path that does not exist, or a user who may not use it",
        "a failing disk, or one that was unmounted",
    ],
    steps: &[
        "check path and permissions",
        "look for errors of the disk in the system's log (`dmesg`)",
        "a server that stopped with it is started again when the disk works",
    ],
};

pub(super) const REPLICA_DIVERGED: Page = Page {
    meaning: "A check has found that replicas of a group hold different rows. Whoever differs from a majority \
              of the voters stops serving and leading, goes on voting, and fetches its rows anew. Without a \
              majority nobody does anything: nobody knows who is right.",
    causes: &[
        "memory or disk of one of the nodes changed bytes without anybody noticing",
        "the nodes run versions that apply an entry differently",
        "a bug of ours",
    ],
    steps: &[
        "`quorate group check GROUP` names the nodes and the slices; run it again after a while: replicas with a majority against them repair themselves",
        "check memory and disk of the node that differed",
        "keep the logs of all members from that time, and report it",
        "without a majority, stop writing to the slices that are named, and find out by your own records who is right",
    ],
};

pub(super) const SNAPSHOT_DAMAGED: Page = Page {
    meaning: "Rows that one node sent to another did not arrive as they were sent, or cannot be rows at \
              all. What had arrived is thrown away, and nothing was changed.",
    causes: &[
        "memory or network of one of the two nodes changes bytes",
        "the two nodes run versions that do not know each other's records",
    ],
    steps: &[
        "nothing, if it was once: the node fetches the rows again",
        "if it comes again, check memory and network of both nodes, and that they run one version",
    ],
};

pub(super) const BACKUP_MISSING: Page = Page {
    meaning: "Nothing at that place has this id, or what has it was never finished: the manifest is written \
              last, and without it nobody knows whether anything is missing.",
    causes: &[
        "a wrong place or id",
        "`quorate backup create` failed or was stopped before its end",
    ],
    steps: &[
        "see what is there with `quorate backup list --from PLACE`",
        "remove what was never finished; it can be used for nothing",
    ],
};

pub(super) const BACKUP_DAMAGED: Page = Page {
    meaning: "An object of the backup is missing or not as it was written. The message names it, and nothing \
              of it is used.",
    causes: &[
        "the disk or the object store lost or changed bytes",
        "somebody changed or removed an object",
    ],
    steps: &[
        "use another backup: `quorate backup verify` reads every object of it",
        "if a copy of the place exists, put the object back from there",
        "check the disk or the store before the next backup goes there",
    ],
};

pub(super) const BACKUP_PLACE_FAILED: Page = Page {
    meaning: "The folder or the bucket could not be read or written.",
    causes: &[
        "a path that does not exist, or a user who may not use it; a full disk",
        "keys, region or endpoint of the object store are missing or wrong in the variables AWS_*",
        "the object store cannot be reached",
    ],
    steps: &[
        "read the message: it has the answer of the system or of the store",
        "correct that, and try again",
    ],
};

pub(super) const BACKUP_MISMATCH: Page = Page {
    meaning: "The cluster file has other tables, slices or groups than the cluster in the backup had. The rows \
              would lie where nobody looks for them.",
    causes: &["the cluster file was changed after the backup, or is another cluster's"],
    steps: &[
        "write the cluster file of the backup with a new id: `quorate backup cluster-file`",
        "change places and addresses in it; leave tables, slices and groups as they are",
    ],
};

pub(super) const INTERNAL: Page = Page {
    meaning: "Something happened that should not be possible: a bug of ours.",
    causes: &["a case that we did not think of"],
    steps: &[
        "keep the log of the node from that time; it has more than the message",
        "report it with the message, the version and what was being done",
    ],
};
