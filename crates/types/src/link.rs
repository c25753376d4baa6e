//! What is done to the links between places of a cluster, in demos and tests of real processes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most links that a node is told of.
pub const LINKS_MAX: usize = 1_024;
/// The longest time that anything may take on a link.
pub const LINK_DELAY_MAX: Duration = Duration::from_secs(10);

/// One direction between two places: cities, IDCs or nodes of the cluster file, by name. As text
/// `sh>hz=3ms` or `sh>hz=cut`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// How long everything takes on it.
    pub delay: Duration,
    /// Whether nothing gets through.
    pub cut: bool,
}

impl Link {
    /// A link on which everything takes this long.
    #[must_use]
    pub fn far(from: impl Into<String>, to: impl Into<String>, delay: Duration) -> Link {
        Link { from: from.into(), to: to.into(), delay, cut: false }
    }

    /// A link through which nothing gets.
    #[must_use]
    pub fn cut(from: impl Into<String>, to: impl Into<String>) -> Link {
        Link { from: from.into(), to: to.into(), delay: Duration::ZERO, cut: true }
    }

    /// Parses links separated by commas; none if the text is empty.
    ///
    /// # Errors
    /// What would be right, in a sentence.
    pub fn parse_all(text: &str) -> Result<Vec<Link>, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let links: Vec<Link> = parts.map(str::parse).collect::<Result<_, _>>()?;
        if LINKS_MAX < links.len() {
            return Err(format!("{} links are given, at most {LINKS_MAX}", links.len()));
        }
        Ok(links)
    }

    /// The text of links that `parse_all` reads.
    #[must_use]
    pub fn text_of(links: &[Link]) -> String {
        links.iter().map(Link::to_string).collect::<Vec<String>>().join(",")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Link { from, to, delay, cut } = self;
        if *cut {
            return write!(f, "{from}>{to}=cut");
        }
        let micros = delay.as_micros();
        if micros.is_multiple_of(1_000) {
            write!(f, "{from}>{to}={}ms", micros / 1_000)
        } else {
            write!(f, "{from}>{to}={micros}us")
        }
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Link, String> {
        let malformed = || {
            format!("{text:?} is no link; write FROM>TO=3ms or FROM>TO=cut, with names of places")
        };
        let (places, what) = text.split_once('=').ok_or_else(malformed)?;
        let (from, to) = places.split_once('>').ok_or_else(malformed)?;
        let (from, to, what) = (from.trim(), to.trim(), what.trim());
        if from.is_empty() || to.is_empty() {
            return Err(malformed());
        }
        if what == "cut" {
            return Ok(Link::cut(from, to));
        }
        let (digits, micros_each) = match (what.strip_suffix("ms"), what.strip_suffix("us")) {
            (Some(digits), _) => (digits, 1_000),
            (None, Some(digits)) => (digits, 1),
            (None, None) => return Err(malformed()),
        };
        let number: u64 = digits.trim().parse().map_err(|_| malformed())?;
        let delay = Duration::from_micros(number.saturating_mul(micros_each));
        if LINK_DELAY_MAX < delay {
            return Err(format!("{text:?} takes longer than {LINK_DELAY_MAX:?}"));
        }
        Ok(Link::far(from, to, delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_they_are_written() {
        // Goal: what a demo hands to its nodes as text arrives as it was meant.
        let ms = Duration::from_millis;
        let links = vec![
            Link::far("sh", "hz", ms(3)),
            Link::far("hz-a", "sh", Duration::from_micros(1_500)),
            Link::cut("n1", "sz"),
        ];
        let text = "sh>hz=3ms,hz-a>sh=1500us,n1>sz=cut";
        assert_eq!(Link::text_of(&links), text);
        assert_eq!(Link::parse_all(text), Ok(links));
        assert_eq!(Link::parse_all(" "), Ok(Vec::new()));
        let spaced = Link::parse_all("sh > hz = 3ms ,").expect("spaces are allowed");
        assert_eq!(spaced, [Link::far("sh", "hz", ms(3))]);
        for text in ["sh", "sh>hz", "sh=3ms", ">hz=3ms", "a>b=3", "a>b=3s", "a>b=x", "a>b=11000ms"]
        {
            assert!(Link::parse_all(text).is_err(), "{text}");
        }
    }
}
