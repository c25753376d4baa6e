//! Bugs that are switched on by name, so that the tests can show that they catch them.
//!
//! Only the simulation build (`--cfg madsim`) has the switch. In every other build [`planted`] is a
//! constant `false`, and what stands behind it is not compiled in. `make planted` plants each bug in
//! turn; docs/TESTING.md says how soon each is caught. Numbers of traps are those of docs/TRAPS.md.

/// Declares the bugs: variant, name, what is broken.
macro_rules! bugs {
    ($($variant:ident $name:literal $breaks:literal)*) => {
        /// A rule that can be broken on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(
                #[doc = $breaks]
                $variant,
            )*
        }

        impl Bug {
            /// Every bug, the protocol first.
            pub const ALL: &[Bug] = &[$(Bug::$variant),*];

            /// Its name on command lines.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$variant => $name),* }
            }

            /// What is broken, in a sentence.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self { $(Bug::$variant => $breaks),* }
            }
        }
    };
}

bugs! {
    CountOldBallots "count-old-ballots" "A leader commits entries of older ballots by counting copies (trap 12)."
    MinorityCommits "minority-commits" "A leader commits with one copy fewer than a majority."
    VoteInLease "vote-in-lease" "A follower promises another ballot within the lease it granted."
    NoSilence "no-silence" "A restarted replica votes at once, though it forgot what it granted (trap 17)."
    LeaseFromReceipt "lease-from-receipt" "A leader counts its lease from when the answer came, not from when it asked."
    StaleNow "stale-now" "A lease is checked against the time of the last heartbeat, not against now (trap 19)."
    PromiseBeforeSync "promise-before-sync" "A promise is answered and obeyed before it is on disk."
    BallotReuse "ballot-reuse" "A candidate asks for promises before its own ballot is on disk."
    CutOnRepeat "cut-on-repeat" "A repeated accept cuts what follows it (trap 9)."
    CommitUnverified "commit-unverified" "A follower takes the commit position past what the leader's messages verified (trap 10)."
    ServeEarly "serve-early" "A leader evaluates before its StartWork is applied (traps 11 and 20)."
    Reballot "reballot" "The winner of an election proposes adopted entries anew under its own ballot."
    AdoptOwnLog "adopt-own-log" "The winner of an election keeps its own log although a promise named a better one."
    TokenAnyPromise "token-any-promise" "A hand-over token ends the lease of any ballot, not only of the one that was handed over."
    RenewWithoutDisk "renew-without-disk" "A leader whose disk hangs keeps renewing its lease (trap 21)."
    LeadWithoutRoom "lead-without-room" "A leader whose disk is full goes on leading, and refuses every write."
    StayAway "stay-away" "A leader that is not where it should be never hands over by itself."
    TellUnapplied "tell-unapplied" "A leader tells of commits that it has not applied, so replicas show what it does not."
    FreshFromReceipt "fresh-from-receipt" "A replica counts how fresh it is from when it was told, not from when it asked."
    AnswerBehind "answer-behind" "A replica answers reads before it has applied what they ask for."
    InstallOverLog "install-over-log" "A snapshot takes the place of the whole log, also of what was accepted above it."
    SingleStep "single-step" "Voters change in one step, without a membership that needs quorums of both."
    JointUnchosen "joint-unchosen" "A change of voters is ended before its joint membership is chosen."
    AdoptUncounted "adopt-uncounted" "A winner does not count its promises again by the members that the log it adopted names."
    OldName "old-name" "A node that comes back with an empty disk is taken for the one it was, and votes for it (trap 16)."
    SuspendOnAppend "suspend-on-append" "A leader counts without the voters that it sets aside as soon as it has written so."
    DeafToArbiter "deaf-to-arbiter" "A winner does not heed what an arbiter knows of who was set aside."
    KeptBeforeSync "kept-before-sync" "An arbiter says that it keeps who takes part before that is on its disk."
    LogOnlyDrops "log-only-drops" "Who keeps only the log drops it before enough full voters have it (trap 25)."
    LeadAcross "lead-across" "A survivor of a forced recovery runs for leadership before its log is of the new history."
    QuietWindow "quiet-window" "A window with a single copy does not stand in the loss ledger."
    InstallUnpromised "install-unpromised" "A snapshot is installed although it ends with a ballot that was never promised here."
    TrustDamagedLog "trust-damaged-log" "A replica whose log has lost entries votes as if it had them."
    AckBeforeSync "ack-before-sync" "Log writes are reported durable before the sync (traps 1 and 2)."
    LostPromise "lost-promise" "Promises are reported durable and never written."
    RecycleEarly "recycle-early" "The log is recycled once applied, not once the rows are on disk (trap 8)."
    SettleBySlot "settle-by-slot" "A writer is answered by whatever entry is chosen at its slot."
    ReadUnconfirmed "read-unconfirmed" "A read is answered without lease or majority (trap 20)."
    RefusalUnconfirmed "refusal-unconfirmed" "A refusal is answered before what it saw is chosen."
    LostAsRefused "lost-as-refused" "Writes that a lost leadership leaves open are reported as not applied."
    DoubleApply "double-apply" "A request that comes again is executed again (trap 29)."
    NoChecksum "no-checksum" "Recovery of the log does not compare checksums (trap 5)."
    NoDirSync "no-dir-sync" "New segments are used before their name is on disk (trap 4)."
    UnprepareAlone "unprepare-alone" "A group that said yes and hears no decision says no after a while, without asking."
    NoTombstone "no-tombstone" "A group that is asked about an attempt it does not know says no without writing it down (trap 28)."
    VoteBeforeLog "vote-before-log" "A group says yes before its vote is in its log."
    ForgetDecision "forget-decision" "A coordinator forgets an attempt before every group has applied its COMMIT."
    ReadAroundLocks "read-around-locks" "Transactions over several groups read rows that others hold."
    CutSplits "cut-splits" "A group handles messages from behind a cut before its log has the cut."
    ResultForgotten "result-forgotten" "The result of a transaction over several groups is not kept, so it can be run again (trap 29)."
    FloorForgotten "floor-forgotten" "The floor of an add is not checked."
    TransferFloor "transfer-floor" "Transfers and reservations do not look at the floor of the debit account."
    TransferTwice "transfer-twice" "The id of a transfer is not looked up, so a retry moves the money again."
    HoldTwice "hold-twice" "A reservation that was posted can be posted again."
    RetryAnew "retry-anew" "A retry of a transfer that stands is told what would become of it now."
    EscrowIgnored "escrow-ignored" "Transfers are decided as if undecided ones with other groups did not exist."
    ReadAroundEscrow "read-around-escrow" "Accounts are read without the transfers that are committed and not applied."
    CreditUnasked "credit-unasked" "Debits happen whatever the credit side of a transfer says."
    CommitOffOverlay "commit-off-overlay" "Who decides sees transfers between groups only once their COMMIT is applied, and no longer in escrow."
    ValidateNothing "validate-nothing" "The second round of a read over several groups finds every row as it was."
    ValidateAroundLocks "validate-around-locks" "The second round of a read over several groups does not look at locks."
    Diverge "diverge" "A follower now and then loses a row that an entry writes."
    AppliedApart "applied-apart" "The applied position reaches the disk apart from the rows (trap 6)."
}

impl Bug {
    /// The bug of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// Plants one bug for the life of the process. A second one is ignored.
#[cfg(madsim)]
pub fn plant(bug: Bug) {
    let _already_planted = PLANTED.set(bug);
}

#[cfg(madsim)]
static PLANTED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// True if this bug is planted.
#[cfg(madsim)]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// True if this bug is planted: never, outside the simulation.
#[cfg(not(madsim))]
#[inline]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every bug is found by its name, and no two share one.
    #[test]
    fn names_are_unique() {
        for bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(*bug));
        }
    }

    /// Goal: the build that ships has no bug of its own making.
    #[cfg(not(madsim))]
    #[test]
    fn nothing_is_planted_outside_the_simulation() {
        assert!(Bug::ALL.iter().all(|bug| !planted(*bug)));
    }
}
