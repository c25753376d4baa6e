//! Pages of the codes 6xxx: command lines, files, folders, versions.

use super::Page;

pub(super) const INVALID_REQUEST: Page = Page {
    meaning: "The request or the command line cannot be understood. The message says which part.",
    causes: &[
        "a typing mistake in a command, a flag or a number",
        "a client that leaves out a field or contradicts itself",
    ],
    steps: &["`quorate COMMAND --help` says what is expected", "correct the part that is named"],
};

pub(super) const CLUSTER_MISMATCH: Page = Page {
    meaning: "The other side belongs to another cluster. Both ids are in the message.",
    causes: &[
        "the data folder was made by a node of another cluster",
        "an address of the cluster file leads to a node of another cluster",
        "`id` in the cluster file was changed after the cluster had started",
    ],
    steps: &[
        "check --data, --cluster and the addresses in the cluster file",
        "put the old `id` back if it was changed: it names the cluster for ever",
    ],
};

pub(super) const NODE_MISMATCH: Page = Page {
    meaning: "The data folder belongs to another node of the cluster, or a node was reached under \
              another node's address.",
    causes: &[
        "a node was started with the folder or the name of another one",
        "two addresses of the cluster file are exchanged",
    ],
    steps: &[
        "start each node with its own --node and --data",
        "`quorate cluster check` finds a node that answers at another one's address",
    ],
};

pub(super) const INCARNATION_MISMATCH: Page = Page {
    meaning: "A node came back with another data folder than its peers have met under its name. It has \
              forgotten what it promised, so they refuse it.",
    causes: &[
        "its data folder was emptied or deleted",
        "--data names another folder, or the disk of the folder is not mounted",
        "it ran on two folders, and different peers met each of them: none of them is believed any more",
    ],
    steps: &[
        "stop the node and start it with its old data folder",
        "if the folder is lost, start the node on an empty one: its replicas begin anew under new ids and take \
         their places again by themselves",
        "if that is refused too, something was written to the new folder before the peers were met: empty it once more",
    ],
};

pub(super) const PORT_IN_USE: Page = Page {
    meaning: "Another process listens on an address that the node needs.",
    causes: &["the node runs already", "another program uses the port"],
    steps: &[
        "`ss -ltnp` shows who listens on which port; `quorate cluster init` looks before a start",
        "stop that process, or give the node other ports in the cluster file of every node",
    ],
};

pub(super) const CONFIG_INVALID: Page = Page {
    meaning: "The cluster file, the server's configuration or a variable of the environment is wrong.",
    causes: &[
        "a typing mistake in a key: unknown keys are mistakes, and the nearest known one is named",
        "a value outside its range or without its unit",
        "an address that does not resolve or does not belong to this machine",
    ],
    steps: &[
        "correct the lines that the message names",
        "`quorate topology validate FILE` checks a cluster file as a whole, `quorate config check FILE` a \
         server's configuration",
        "`quorate config show --origin` says where each setting of a server comes from",
    ],
};

pub(super) const DATA_FOLDER_LOCKED: Page = Page {
    meaning: "Another process uses the data folder.",
    causes: &["the node runs already", "the node before it has not ended yet"],
    steps: &["stop the other process, or wait for its end", "give each node a folder of its own"],
};

pub(super) const VERSION_MISMATCH: Page = Page {
    meaning: "The two sides speak versions of the protocol that do not go together.",
    causes: &["an upgrade that left out a node or a client"],
    steps: &["`quorate version` on both sides; upgrade the older one"],
};

pub(super) const FORMAT_UNKNOWN: Page = Page {
    meaning: "A file of the data folder has a format that this version does not know.",
    causes: &["a newer version wrote the folder, or an older one whose formats are gone"],
    steps: &["start the version that wrote the folder; CHANGELOG.md says which formats changed"],
};

pub(super) const SHUTTING_DOWN: Page = Page {
    meaning: "The node is on its way down and takes no new requests.",
    causes: &["it was stopped in good order: SIGTERM, a restart, an upgrade"],
    steps: &["send the request to another member; the Rust client does"],
};

pub(super) const DATA_FOLDER_NOT_EMPTY: Page = Page {
    meaning: "`quorate backup restore` fills empty folders only, so that it never mixes a backup with what \
              a node has written.",
    causes: &["the folder is the data folder of a node", "an earlier restore into it broke off"],
    steps: &[
        "name a folder that is new or empty",
        "if an earlier restore broke off, empty the folder and restore again",
    ],
};

pub(super) const CLUSTER_ID_USED: Page = Page {
    meaning: "A backup is restored under a new cluster id only. With the old one, nodes of the cluster that \
              was backed up and nodes of the restored one would take each other for their own, and clients \
              could not tell which of the two has their writes.",
    causes: &["the cluster file given with --cluster is that of the cluster in the backup"],
    steps: &[
        "write a cluster file with a new id: `quorate backup cluster-file --from PLACE --id ID --output NEW.toml`",
        "make certificates for it: they name the cluster id too",
        "restore every node with that file",
    ],
};

pub(super) const RESTORE_UNFINISHED: Page = Page {
    meaning: "The data folder was being filled from a backup, and that never ended. The node does not \
              start: it would count for an empty one.",
    causes: &["`quorate backup restore` failed or was stopped", "it is still running"],
    steps: &["wait for it if it still runs", "empty the data folder and restore the node again"],
};
