//! Tokens: what somebody has seen of a cluster, as positions in the logs of its groups.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use quorate_types::{ClusterId, GroupId, Slot};

/// The version of the text form.
const VERSION: &str = "1";
/// Most groups a token may name.
const GROUPS_MAX: usize = 4096;

/// What its holder has written or read, for reads by others that must contain it: see
/// [`Reads::AtLeast`](crate::Reads::AtLeast).
///
/// It travels as text, in a header or a cookie: [`Display`](fmt::Display) and [`FromStr`]. To look into
/// it or to change it is not for its holders; a wrong one makes reads fail or old, and harms nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    cluster: ClusterId,
    positions: BTreeMap<GroupId, Position>,
}

/// What was seen of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Everything through here. Never falls.
    pub(crate) slot: Slot,
    /// And something whose place is not known: only the leader surely knows of it.
    pub(crate) is_unplaced: bool,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoToken;

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no token; take one from the answer of a write, as it is")
    }
}

impl std::error::Error for NoToken {}

impl Token {
    /// Of somebody who has seen nothing yet.
    #[must_use]
    pub fn new(cluster: ClusterId) -> Token {
        Token { cluster, positions: BTreeMap::new() }
    }

    /// The cluster it is about.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// True if it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// What the holders of both have seen together. Tokens of another cluster add nothing.
    #[must_use]
    pub fn merge(mut self, other: &Token) -> Token {
        if self.cluster != other.cluster {
            return self;
        }
        for (group, theirs) in &other.positions {
            let mine = self.positions.entry(*group).or_default();
            mine.slot = mine.slot.max(theirs.slot);
            mine.is_unplaced |= theirs.is_unplaced;
        }
        self
    }

    /// What was seen of a group.
    pub(crate) fn position(&self, group: GroupId) -> Option<Position> {
        self.positions.get(&group).copied()
    }

    /// The groups of which only the leaders know everything.
    pub(crate) fn unplaced(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.positions.iter().filter(|(_, position)| position.is_unplaced).map(|(group, _)| *group)
    }

    /// Something was seen at this position.
    pub(crate) fn raise(&mut self, group: GroupId, slot: Slot) {
        let position = self.positions.entry(group).or_default();
        position.slot = position.slot.max(slot);
    }

    /// The group took part in something whose place in its log is not known.
    pub(crate) fn ask_leader(&mut self, group: GroupId) {
        self.positions.entry(group).or_default().is_unplaced = true;
    }

    /// Its leader has answered since: what took part stands at or below the position.
    pub(crate) fn place(&mut self, group: GroupId) {
        self.positions.entry(group).or_default().is_unplaced = false;
    }
}

/// `1-CLUSTER-GROUP.SLOT-GROUP.SLOT`, with `*` behind the slot of a group whose leader must be asked.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}-{}", self.cluster)?;
        for (group, Position { slot, is_unplaced }) in &self.positions {
            let mark = if *is_unplaced { "*" } else { "" };
            write!(f, "-{}.{}{mark}", group.0, slot.0)?;
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Token, NoToken> {
        let mut parts = text.trim().split('-');
        if parts.next() != Some(VERSION) {
            return Err(NoToken);
        }
        let cluster = parts.next().and_then(|cluster| cluster.parse().ok()).ok_or(NoToken)?;
        let mut token = Token::new(cluster);
        for part in parts {
            let (group, slot) = part.split_once('.').ok_or(NoToken)?;
            let (slot, is_unplaced) = match slot.strip_suffix('*') {
                Some(slot) => (slot, true),
                None => (slot, false),
            };
            let slot = Slot(slot.parse().map_err(|_| NoToken)?);
            let group = GroupId(group.parse().map_err(|_| NoToken)?);
            let is_new = token.positions.insert(group, Position { slot, is_unplaced }).is_none();
            if !is_new || GROUPS_MAX < token.positions.len() {
                return Err(NoToken);
            }
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        format!("1-000000000000000000000000000000ff{text}").parse().expect(text)
    }

    #[test]
    fn tokens_travel_as_text() {
        // Goal: what is printed is what is read, and nothing else is taken for a token.
        for text in ["", "-4.17", "-1.0-4.0*-9.18446744073709551615"] {
            assert_eq!(token(text).to_string().parse(), Ok(token(text)));
        }
        let cluster = "000000000000000000000000000000ff";
        let twice = format!("1-{cluster}-4.1-4.2");
        let other_version = format!("2-{cluster}-4.1");
        let signed = format!("1-{cluster}-4.-1");
        let cut_off = format!("1-{cluster}-4");
        for text in ["", "1", "1-4.1", &twice, &other_version, &signed, &cut_off] {
            assert_eq!(text.parse::<Token>(), Err(NoToken), "{text:?}");
        }
    }

    #[test]
    fn together_tokens_ask_for_the_later_position() {
        // Goal: neither holder loses what he has seen, in whichever order they meet.
        let (one, other) = (token("-1.5-2.9-4.0*"), token("-1.7-3.1-4.8-2.1*"));
        let both = token("-1.7-2.9*-3.1-4.8*");
        assert_eq!(one.clone().merge(&other), both);
        assert_eq!(other.merge(&one), both);
        let foreign: Token = "1-00000000000000000000000000000001-1.99".parse().unwrap();
        assert_eq!(one.clone().merge(&foreign), one);
    }

    #[test]
    fn positions_only_rise() {
        // Goal: an answer that took long does not bring back the past.
        let mut token = token("");
        token.raise(GroupId(1), Slot(5));
        token.raise(GroupId(1), Slot(4));
        token.ask_leader(GroupId(1));
        token.raise(GroupId(1), Slot(3));
        assert_eq!(token.position(GroupId(1)), Some(Position { slot: Slot(5), is_unplaced: true }));
        token.place(GroupId(1));
        assert_eq!(
            token.position(GroupId(1)),
            Some(Position { slot: Slot(5), is_unplaced: false })
        );
    }
}
