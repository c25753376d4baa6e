//! Which kinds of replicas make a group, and what of them it needs to go on: the rules that cluster files and
//! changes of members are held to.
//!
//! Votes are counted the same with every kind: a majority of the voters. Log-only replicas keep what is
//! written, and cannot lead; an arbiter keeps nothing, and with it the others are counted anew when some of
//! them are lost. So a full replica must be left besides a majority, and the rules below see to it that one is.

use std::fmt;

use quorate_types::ReplicaKind;

/// With an arbiter: so many voters that keep the log.
const BESIDE_ARBITER: [usize; 2] = [2, 4];

/// What is wrong with the kinds of the voters of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongKinds {
    /// Nobody could lead.
    NoFull,
    /// More than one arbiter.
    Arbiters(usize),
    /// An arbiter beside log-only replicas.
    ArbiterAndLogOnly,
    /// An arbiter beside a number of voters that it does not help.
    BesideArbiter(usize),
    /// Log-only replicas, and so few full ones that all of them may be lost.
    TooFewFull {
        /// How many there are.
        full: usize,
        /// How many there must be.
        needed: usize,
        /// Voters that keep the log.
        voters: usize,
    },
}

impl fmt::Display for WrongKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongKinds::NoFull => f.write_str("no full replica, and only those can lead"),
            WrongKinds::Arbiters(count) => write!(f, "{count} arbiters, and may have one"),
            WrongKinds::ArbiterAndLogOnly => {
                f.write_str("an arbiter and log-only replicas, which do not go together")
            }
            WrongKinds::BesideArbiter(voters) => write!(
                f,
                "an arbiter beside {voters} full replicas; it goes with 2 or 4 of them: an odd number needs none"
            ),
            WrongKinds::TooFewFull { full, needed, voters } => write!(
                f,
                "{full} full among {voters} replicas that vote; of those, {needed} must be full, because {} may \
                 be lost and only a full one can lead",
                needed - 1
            ),
        }
    }
}

/// Checks the kinds of the voters of a group.
///
/// # Errors
/// What is wrong, to be read behind `has`.
pub fn check_voters(voters: impl IntoIterator<Item = ReplicaKind>) -> Result<(), WrongKinds> {
    let (mut full, mut log_only, mut arbiters) = (0, 0, 0);
    for kind in voters {
        match kind {
            ReplicaKind::Full => full += 1,
            ReplicaKind::LogOnly => log_only += 1,
            ReplicaKind::Arbiter => arbiters += 1,
            ReplicaKind::ReadOnly => {}
        }
    }
    let voters: usize = full + log_only;
    let needed = voters.saturating_sub(1) / 2 + 1;
    if full == 0 {
        Err(WrongKinds::NoFull)
    } else if 1 < arbiters {
        Err(WrongKinds::Arbiters(arbiters))
    } else if 0 < arbiters && 0 < log_only {
        Err(WrongKinds::ArbiterAndLogOnly)
    } else if 0 < arbiters && !BESIDE_ARBITER.contains(&voters) {
        Err(WrongKinds::BesideArbiter(voters))
    } else if 0 < log_only && full < needed {
        Err(WrongKinds::TooFewFull { full, needed, voters })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(letters: &str) -> Result<(), WrongKinds> {
        let kind = |letter: char| ReplicaKind::of_letter(&letter.to_string()).expect("a kind");
        check_voters(letters.chars().map(kind))
    }

    #[test]
    fn a_full_replica_is_left_whatever_minority_is_lost() {
        // Goal: kinds are accepted if and only if every majority has a replica that can lead, and an arbiter
        // stands where it helps.
        for good in ["F", "FF", "FFF", "FFL", "FFFFL", "FFFLL", "FFA", "FFFFA", "FFRRR", "FFFL"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("L"), Err(WrongKinds::NoFull));
        assert_eq!(check("RRA"), Err(WrongKinds::NoFull));
        assert_eq!(check("FLL"), Err(WrongKinds::TooFewFull { full: 1, needed: 2, voters: 3 }));
        assert_eq!(check("FFLLL"), Err(WrongKinds::TooFewFull { full: 2, needed: 3, voters: 5 }));
        assert_eq!(check("FFAA"), Err(WrongKinds::Arbiters(2)));
        assert_eq!(check("FFLA"), Err(WrongKinds::ArbiterAndLogOnly));
        for (bad, voters) in [("FA", 1), ("FFFA", 3), ("FFFFFA", 5)] {
            assert_eq!(check(bad), Err(WrongKinds::BesideArbiter(voters)), "{bad}");
        }
    }
}
