//! Where the replicas of a group stand and who leads first: `F@sh-a,F@sh-b,L@hz-a` and
//! `sh-a,sh-b;hz-a`, the words OceanBase users type.

use std::fmt;

use quorate_types::ReplicaKind;

/// One replica of a locality: a kind in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What the replica holds.
    pub kind: ReplicaKind,
    /// The name of its zone.
    pub zone: String,
}

/// The replicas of a group, one per zone, in the order they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Invariant: no zone occurs twice, at least one placement.
    pub placements: Vec<Placement>,
}

impl Locality {
    /// Parses `F@sh-a,F@sh-b`. Whether the zones exist is not looked at here.
    ///
    /// # Errors
    /// A fragment that names the part that is wrong.
    pub fn parse(text: &str) -> Result<Locality, String> {
        let mut placements: Vec<Placement> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((letter, zone)) = part.split_once('@') else {
                return Err(format!("{part:?} is no replica; write KIND@ZONE, such as F@sh-a"));
            };
            let (letter, zone) = (letter.trim(), zone.trim());
            let Some(kind) = ReplicaKind::of_letter(letter) else {
                return Err(format!(
                    "{letter:?} is no replica kind; kinds are F (full), L (log-only), R \
                     (read-only), A (arbiter)"
                ));
            };
            if zone.is_empty() {
                return Err(format!("{part:?} names no zone; write KIND@ZONE, such as F@sh-a"));
            }
            if placements.iter().any(|placement| placement.zone == zone) {
                return Err(format!(
                    "zone {zone:?} is named twice; a zone fails as one, so it holds at most one \
                     replica of a group (declare a [[zone]] for each part that fails alone)"
                ));
            }
            placements.push(Placement { kind, zone: zone.to_owned() });
        }
        Ok(Locality { placements })
    }

    /// The names of the zones, in the order they were written.
    pub fn zones(&self) -> impl Iterator<Item = &str> + Clone {
        self.placements.iter().map(|placement| placement.zone.as_str())
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, placement) in self.placements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}@{}", placement.kind.letter(), placement.zone)?;
        }
        Ok(())
    }
}

/// Zones in order of preference for the leader: `,` means equal, `;` means then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderOrder {
    /// Zones of equal preference, the most wanted first. Invariant: no zone occurs twice.
    pub ranks: Vec<Vec<String>>,
}

impl LeaderOrder {
    /// Parses `sh-a,sh-b;hz-a`. Whether the zones exist is not looked at here.
    ///
    /// # Errors
    /// A fragment that says what is wrong.
    pub fn parse(text: &str) -> Result<LeaderOrder, String> {
        let mut order = LeaderOrder::default();
        for rank_text in text.split(';') {
            let mut rank: Vec<String> = Vec::new();
            for zone in rank_text.split(',').map(str::trim) {
                if zone.is_empty() {
                    return Err(format!(
                        "a zone is missing in {text:?}; write zones with \",\" for equal and \";\" \
                         for then"
                    ));
                }
                if rank.iter().any(|known| known == zone) || order.zones().any(|z| z == zone) {
                    return Err(format!("zone {zone:?} is named twice"));
                }
                rank.push(zone.to_owned());
            }
            order.ranks.push(rank);
        }
        Ok(order)
    }

    /// No preference: all zones equal where a replica can lead.
    pub(crate) fn equal(locality: &Locality) -> LeaderOrder {
        let can_lead = locality.placements.iter().filter(|it| it.kind.may_lead());
        LeaderOrder { ranks: vec![can_lead.map(|it| it.zone.clone()).collect()] }
    }

    /// Every zone named, the most wanted first.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.ranks.iter().flatten().map(String::as_str)
    }

    /// The rank of a zone, 0 for the most wanted. Zones that are not named come last, all equal.
    #[must_use]
    pub fn rank_of(&self, zone: &str) -> u32 {
        let named = self.ranks.iter().position(|rank| rank.iter().any(|known| known == zone));
        u32::try_from(named.unwrap_or(self.ranks.len())).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for LeaderOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rank) in self.ranks.iter().enumerate() {
            let semicolon = if index == 0 { "" } else { ";" };
            write!(f, "{semicolon}{}", rank.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_of_every_kind_are_parsed_and_printed() {
        let locality = Locality::parse("F@sh-a, F@sh-b,L@hz-a,R@hz-b,A@sz-a").unwrap();
        assert_eq!(locality.to_string(), "F@sh-a,F@sh-b,L@hz-a,R@hz-b,A@sz-a");
        let voters = locality.placements.iter().filter(|placement| placement.kind.votes()).count();
        assert_eq!(voters, 4);
    }

    #[test]
    fn bad_localities_are_refused() {
        for text in ["", "F", "F@", "X@sh-a", "f@sh-a", "F@sh-a,F@sh-a", "F@sh-a,", "FF@sh-a"] {
            assert!(Locality::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ranks_follow_the_order_and_unnamed_zones_come_last() {
        let order = LeaderOrder::parse("sh-a, sh-b;hz-a").unwrap();
        assert_eq!(order.to_string(), "sh-a,sh-b;hz-a");
        let ranks: Vec<u32> =
            ["sh-a", "sh-b", "hz-a", "hz-b"].map(|zone| order.rank_of(zone)).to_vec();
        assert_eq!(ranks, [0, 0, 1, 2]);
        for text in ["", "a;;b", "a,", "a;a", "a,a"] {
            assert!(LeaderOrder::parse(text).is_err(), "{text:?}");
        }
    }
}
