//! Pages of the codes 2xxx: what a transaction, a session, a cut or a transfer ran into.

use super::Page;

pub(super) const CONDITION_FAILED: Page = Page {
    meaning: "A condition of the transaction does not hold, so nothing of it took effect.",
    causes: &[
        "somebody else changed the row since it was read",
        "the row exists, or does not, against what the condition says",
    ],
    steps: &["read the rows again, decide anew, and send a new request"],
};

pub(super) const GUARD_FAILED: Page = Page {
    meaning: "An add would take the sum below its floor or above its ceiling, so nothing of the \
              transaction took effect.",
    causes: &["too little is left: stock, points, balance", "two callers took of the same row"],
    steps: &["read the row and change the amount, or tell the user that there is not enough"],
};

pub(super) const NOT_AN_INTEGER: Page = Page {
    meaning: "An add met a row that holds bytes instead of an integer.",
    causes: &["the row was written as text, for example without --integer"],
    steps: &["write the row as an integer first: `quorate kv put KEY 5 --integer`, or `int:5`"],
};

pub(super) const INTEGER_OVERFLOW: Page = Page {
    meaning: "The sum of an add does not fit a signed integer of 64 bits.",
    causes: &["the amount is far too large", "a counter that never starts anew"],
    steps: &["change the amount, or give the add a --ceiling so that the limit is your own"],
};

pub(super) const OUTCOME_UNKNOWN: Page = Page {
    meaning: "A write was sent and its answer was lost, so it may have happened or not. It is never \
              guessed.",
    causes: &[
        "the connection to the leader broke, or the leader died, before the answer came",
        "another attempt was refused while an earlier one may still arrive",
    ],
    steps: &[
        "send the same request again under the same request id: then it takes effect once",
        "send a transfer again under its id: the verdict says whether it had taken effect",
        "without an id, read the rows and decide from what they hold",
    ],
};

pub(super) const SESSION_EXPIRED: Page = Page {
    meaning: "The group does not know the session any more. What became of requests that were in \
              flight is unknown.",
    causes: &[
        "the client was silent for longer than sessions last",
        "the session was closed, or the request went to a group that never opened it",
    ],
    steps: &[
        "open a new session; the Rust client does so where nothing was in flight",
        "read the rows of requests without an answer before you repeat them",
    ],
};

pub(super) const SESSION_FULL: Page = Page {
    meaning: "The session has 1,024 requests that are not answered or whose answers are not \
              acknowledged.",
    causes: &[
        "a client sends more at once than a session holds",
        "a client does not raise the lowest unanswered number that it sends along",
    ],
    steps: &["wait for answers before sending more", "open a second session for more at once"],
};

pub(super) const SESSION_LIMIT: Page = Page {
    meaning: "The group has 4,096 open sessions.",
    causes: &[
        "short-lived processes that open a session each and do not close it",
        "a client that opens a session for each request",
    ],
    steps: &[
        "share one client among the threads of a process, and close it at the end",
        "wait: sessions that are no longer used expire",
    ],
};

pub(super) const SEQUENCE_REUSED: Page = Page {
    meaning: "The number of the request was used before in this session, and its result is gone \
              because the client said that it has it.",
    causes: &["a client numbers two requests alike, or acknowledges a result and asks again"],
    steps: &["give each new request a new, higher number"],
};

pub(super) const TXN_ABORTED: Page = Page {
    meaning: "A transaction over several groups was given up. It is aborted for ever, nothing of it \
              took effect.",
    causes: &[
        "an older transaction wanted the same rows and went first",
        "the leader of one of its groups changed",
        "a group could not say yes in time",
    ],
    steps: &[
        "send it again, under the same request id if you like; the Rust client does",
        "if it happens often, `quorate txn list` shows who holds the rows",
    ],
};

pub(super) const LOCKED: Page = Page {
    meaning: "A row stayed locked by another transaction for 3 s, so the request was refused and \
              nothing happened.",
    causes: &[
        "a transaction over several groups waits for a group without a majority",
        "very many transactions want the same row",
    ],
    steps: &[
        "try again",
        "`quorate txn list` shows transactions in doubt and whom they wait for",
        "`quorate status` shows the group without a majority",
    ],
};

pub(super) const CUT_LOST: Page = Page {
    meaning: "What was being read as of one moment cannot be read on: the group keeps no view of that \
              moment.",
    causes: &[
        "the reading took longer than the 60 s for which nodes keep a cut, or a backup longer than two hours",
        "the node that kept it stopped, or could not be reached",
        "the leader of a group changed while the cut was made",
        "so much was written meanwhile that the view was dropped",
    ],
    steps: &[
        "start again; it begins with a new cut",
        "export table by table, or without --at-cut, if it takes too long",
    ],
};

pub(super) const ACCOUNT_EXISTS: Page = Page {
    meaning: "The account exists with other settings than those of the request. It was left as it is.",
    causes: &[
        "it was created with another floor or other flags",
        "its settings were changed since",
    ],
    steps: &[
        "`quorate account show UID:LEDGER` shows its settings",
        "`quorate account set` changes them",
    ],
};

pub(super) const ACCOUNT_MISSING: Page = Page {
    meaning: "There is no such account.",
    causes: &[
        "it was not created yet",
        "user, ledger or code is mistyped: `42:840` and `42:840:1` are the same, `42:841` is not",
    ],
    steps: &["create it: `quorate account create UID:LEDGER`"],
};

pub(super) const FLOOR_ABOVE_BALANCE: Page = Page {
    meaning: "The floor lies above what the account has free, so it would be broken at once. Nothing \
              changed.",
    causes: &[
        "the balance is lower than thought, or part of it is reserved by pending transfers",
        "a new account, which holds nothing, was asked for with a floor above 0",
    ],
    steps: &[
        "`quorate account show UID:LEDGER` shows balance and what is reserved",
        "set a floor that is not above the balance minus what is reserved",
    ],
};

pub(super) const TRANSFER_REFUSED: Page = Page {
    meaning: "A transfer was refused and left nothing behind. Its verdict, in the message, says why; \
              the id may be used again.",
    causes: &[
        "`floor_reached`: the funds are insufficient",
        "`debit_account_missing`, `credit_account_missing`: an account was not created",
        "`debits_frozen`, `credits_frozen`: an account does not allow it",
        "`id_reused`: another transfer of the debit user has the id",
    ],
    steps: &["docs/TRANSFERS.md lists every verdict with what to do about it"],
};

pub(super) const CHAIN_SPANS_UNITS: Page = Page {
    meaning: "Linked transfers belong to more than two groups, or go to and fro between two. A chain \
              stands or falls as a whole, which such a chain cannot.",
    causes: &["accounts of several users in one chain, whose groups differ"],
    steps: &[
        "link only transfers that go from one group to one other, or stay within one",
        "`quorate route explain --uid U` shows the group of each user",
    ],
};
