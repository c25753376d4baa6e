//! What became of one transfer of a batch: a byte in the log and on the wire.

use std::fmt;

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = ($number:literal, $name:literal, $words:literal),)*) => {
        /// What became of a transfer. Numbers and names never change their meaning.
        ///
        /// Only a created transfer leaves a row. The id of a refused one may be used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Verdict { $($(#[$doc])* $variant = $number,)* }

        impl Verdict {
            /// Every verdict, in order of number.
            pub const ALL: &'static [Verdict] = &[$(Verdict::$variant,)*];

            /// The name in documents and tables.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Verdict::$variant => $name,)* } }

            /// What it means, a fragment.
            #[must_use]
            pub fn words(self) -> &'static str { match self { $(Verdict::$variant => $words,)* } }

            /// The verdict with this number, as read from the log or the wire.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Verdict> {
                match number { $($number => Some(Verdict::$variant),)* _ => None }
            }
        }
    };
}

verdicts! {
    /// It took effect, durably, exactly once.
    Created = (1, "created", "it took effect"),
    /// It had taken effect before, under the same id with the same content; nothing happened now.
    AlreadyApplied = (2, "already_applied", "it had taken effect before"),
    /// Another transfer of the debit user has this id.
    IdReused = (10, "id_reused", "another transfer has this id"),
    /// The debit account does not exist.
    DebitAccountMissing = (11, "debit_account_missing", "the debit account does not exist"),
    /// The credit account does not exist.
    CreditAccountMissing = (12, "credit_account_missing", "the credit account does not exist"),
    /// The debit account allows no debits.
    DebitsFrozen = (13, "debits_frozen", "the debit account allows no debits"),
    /// The credit account allows no credits.
    CreditsFrozen = (14, "credits_frozen", "the credit account allows no credits"),
    /// The free balance of the debit account would fall below its floor: funds are insufficient.
    FloorReached = (15, "floor_reached", "the free balance would fall below the floor"),
    /// The balance of the credit account would leave 64 bits.
    BalanceOverflow = (16, "balance_overflow", "the balance of the credit account would leave 64 bits"),
    /// The group of the debit account has as many open reservations as it may have.
    HoldLimit = (17, "hold_limit", "the group has as many open reservations as it may have"),
    /// There is no pending transfer with this id.
    PendingMissing = (20, "pending_missing", "there is no such pending transfer"),
    /// The pending transfer is between other accounts.
    PendingDiffers = (21, "pending_differs", "the pending transfer is between other accounts"),
    /// The pending transfer was posted.
    PendingPosted = (22, "pending_posted", "the pending transfer was posted"),
    /// The pending transfer was voided.
    PendingVoided = (23, "pending_voided", "the pending transfer was voided"),
    /// The pending transfer has expired.
    PendingExpired = (24, "pending_expired", "the pending transfer has expired"),
    /// More is to be posted than is pending.
    AmountAbovePending = (25, "amount_above_pending", "more is to be posted than is pending"),
    /// Another transfer of its chain was refused.
    LinkedFailed = (30, "linked_failed", "another transfer of its chain was refused"),
    /// The batch ends inside its chain.
    ChainOpen = (31, "chain_open", "the batch ends inside its chain"),
    /// It contradicts itself: `Transfer::check` says how.
    Invalid = (40, "invalid", "it contradicts itself"),
}

impl Verdict {
    /// The number in the log and on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// True if the transfer stands: now, or since an earlier attempt.
    #[must_use]
    pub fn stands(self) -> bool {
        matches!(self, Verdict::Created | Verdict::AlreadyApplied)
    }

    /// The verdict with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Verdict> {
        Verdict::ALL.iter().copied().find(|verdict| verdict.name() == name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_found_again() {
        // Goal: a verdict in the log means the same for ever.
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(Verdict::from_number(verdict.number()), Some(*verdict));
            assert_eq!(Verdict::from_name(verdict.name()), Some(*verdict));
            for other in &Verdict::ALL[index + 1..] {
                assert!(verdict.number() < other.number(), "{verdict} and {other} out of order");
            }
        }
        assert_eq!(Verdict::from_number(0), None);
        assert_eq!(Verdict::from_number(u8::MAX), None);
    }
}
