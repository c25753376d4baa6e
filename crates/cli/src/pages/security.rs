//! Pages of the codes 8xxx: certificates and rights.

use super::Page;

pub(super) const UNAUTHENTICATED: Page = Page {
    meaning: "The other side does not know who we are: no certificate was shown, or one that it does not \
              accept. Nothing happened.",
    causes: &[
        "the certificate has expired",
        "it was signed by an authority that the server does not trust, perhaps before `rotate --new-ca`",
        "it is of another cluster, or a client's on the port for nodes",
    ],
    steps: &[
        "`quorate cert show` says who a certificate is of and until when",
        "`quorate cert rotate` renews it; give it out with the current ca.crt",
        "the log of the server says under `audit` what it found wrong",
    ],
};

pub(super) const PERMISSION_DENIED: Page = Page {
    meaning: "The client is known and may not do this in this unit. Nothing happened. The message names \
              client, right and unit.",
    causes: &[
        "rights.toml of the server does not give the client this right, or does not name it",
        "a payment or a transaction touches another unit, where the right is missing",
        "not every server has the same rights.toml",
    ],
    steps: &[
        "add the right to rights.toml on every server; it counts within seconds",
        "or use another identity: --identity NAME",
    ],
};

pub(super) const CERTIFICATE_INVALID: Page = Page {
    meaning: "A certificate or a key cannot be used: a file of our own, or what the other side showed. The \
              message names it and says what is wrong.",
    causes: &[
        "a file is missing, expired, readable by everybody, or of another node or cluster",
        "a key does not belong to its certificate",
        "the server's certificate was signed by an authority that is not in our ca.crt",
    ],
    steps: &[
        "`quorate cert show` reads the files; `quorate cert rotate` renews them",
        "`chmod 0600` keys",
        "check that --tls-dir is the folder of this cluster",
    ],
};

pub(super) const TLS_MISMATCH: Page = Page {
    meaning: "One side speaks TLS, the other plain text. Nothing happened.",
    causes: &[
        "the client has no --tls-dir, and the server has",
        "the server runs with --insecure, and the client has certificates",
        "the address leads to another program",
    ],
    steps: &[
        "give the client --tls-dir DIR, or set QUORATE_TLS_DIR",
        "for a server that runs with --insecure leave it out",
    ],
};

pub(super) const FAULTS_NOT_ALLOWED: Page = Page {
    meaning: "Somebody asked the node to delay or cut its links, and it was not started for that. Nothing \
              happened.",
    causes: &[
        "`quorate demo exec` or a test of faults was pointed at a cluster of another kind",
        "server.links is set, and server.allow-faults is not",
    ],
    steps: &[
        "leave it so on every cluster that holds data of use",
        "for a cluster to play with, start the nodes with --allow-faults",
    ],
};
