//! What values settings take: which texts make sense, and what to say about the others.

use std::time::Duration;

use quorate_types::Link;
use tracing_subscriber::EnvFilter;

use crate::args;

/// Bytes of a mebibyte.
pub(super) const MIB: u64 = 1024 * 1024;

/// Units of sizes, the largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1024 * 1024 * MIB), ("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024), ("B", 1)];

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file or folder. In a file it counts from the folder of that file.
    Path,
    /// A name.
    Name,
    /// One of a few words.
    Words(&'static [&'static str]),
    /// Yes or no.
    Boolean,
    /// A whole number.
    Count {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number of bytes with its unit.
    Size {
        /// The smallest, in bytes.
        min: u64,
        /// The largest, in bytes.
        max: u64,
    },
    /// A time span with its unit.
    Time {
        /// The shortest, in milliseconds.
        min_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// The same, or the word `never`.
    TimeOrNever {
        /// The shortest, in milliseconds.
        min_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// Levels of the log.
    Filter,
    /// Links between places.
    Links,
}

/// Instead of a time between two things that never happen.
const NEVER: &str = "never";

/// A time, or zero for never.
///
/// # Errors
/// What would be right, in a sentence.
pub(crate) fn time_or_never(text: &str) -> Result<Duration, String> {
    if text == NEVER { Ok(Duration::ZERO) } else { args::duration(text) }
}

impl Kind {
    /// The text as it is kept, if it is a value of this kind.
    ///
    /// # Errors
    /// What would be right, in a sentence.
    pub(crate) fn check(self, text: &str) -> Result<String, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("it is empty; write {}", self.wanted()));
        }
        match self {
            Kind::Path | Kind::Name => {}
            Kind::Words(words) => {
                if !words.contains(&text) {
                    let hint = args::did_you_mean(text, words.iter().copied());
                    return Err(format!("{text:?} is none of its words; {hint}"));
                }
            }
            Kind::Boolean => {
                if text.parse::<bool>().is_err() {
                    return Err(format!("{text:?} is not true or false"));
                }
            }
            Kind::Count { min, max } => {
                let number: u64 =
                    text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
                if !(min..=max).contains(&number) {
                    return Err(format!("{number} is not between {min} and {max}"));
                }
            }
            Kind::Size { min, max } => {
                if !(min..=max).contains(&size(text)?) {
                    let (min, max) = (words_of_size(min), words_of_size(max));
                    return Err(format!("{text} is not between {min} and {max}"));
                }
            }
            Kind::Time { min_ms, max_ms } => {
                let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
                if !(min..=max).contains(&args::duration(text)?) {
                    return Err(format!("{text} is not between {min:?} and {max:?}"));
                }
            }
            Kind::TimeOrNever { min_ms, max_ms } => {
                if text != NEVER {
                    return Kind::Time { min_ms, max_ms }.check(text);
                }
            }
            Kind::Links => {
                Link::parse_all(text)?;
            }
            Kind::Filter => {
                EnvFilter::try_new(text)
                    .map_err(|error| format!("{text:?}: {error}; write {}", self.wanted()))?;
            }
        }
        Ok(text.to_owned())
    }

    /// What to write, in words.
    pub(crate) fn wanted(self) -> String {
        match self {
            Kind::Path => "a path".to_owned(),
            Kind::Name => "a name".to_owned(),
            Kind::Words(words) => words.join(" or "),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Size { min, max } => format!(
                "a size with its unit, from {} to {}",
                words_of_size(min),
                words_of_size(max)
            ),
            Kind::Time { min_ms, max_ms } => format!(
                "a time with its unit, from {:?} to {:?}",
                Duration::from_millis(min_ms),
                Duration::from_millis(max_ms)
            ),
            Kind::TimeOrNever { min_ms, max_ms } => {
                format!("{}, or {NEVER}", Kind::Time { min_ms, max_ms }.wanted())
            }
            Kind::Links => "links such as sh>hz=3ms,hz>sh=cut".to_owned(),
            Kind::Filter => {
                "a level such as info, or levels by module such as info,quorate_log=debug"
                    .to_owned()
            }
        }
    }

    /// Whether it stands in a file without quotes.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Kind::Boolean | Kind::Count { .. })
    }
}

/// Bytes, from a whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// What would be right, in a sentence.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let malformed = || {
        format!(
            "{text:?} is no size; write a whole number with B, KiB, MiB, GiB or TiB, such as 64MiB"
        )
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| malformed())?;
    let unit = UNITS.iter().find(|(word, _)| *word == unit.trim()).ok_or_else(malformed)?;
    number.checked_mul(unit.1).ok_or_else(|| format!("{text:?} is more than any disk has"))
}

/// Bytes with the largest unit that divides them.
pub(super) fn words_of_size(bytes: u64) -> String {
    let fits = |unit: &&(&str, u64)| 0 < bytes && bytes.is_multiple_of(unit.1);
    let (word, each) = UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
    format!("{}{word}", bytes / each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        // Goal: a number without a unit, or with one that means two things, is not guessed at.
        assert_eq!(size("64MiB"), Ok(64 * MIB));
        assert_eq!(size("1 TiB"), Ok(1024 * 1024 * MIB));
        assert_eq!(size("0B"), Ok(0));
        for text in ["64", "64MB", "MiB", "-1MiB", "1.5GiB", "64mib", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 3 * MIB, 1024 * MIB] {
            assert_eq!(size(&words_of_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn each_kind_refuses_what_it_is_not() {
        // Goal: every mistake is told with what would be right.
        for (kind, text, part) in [
            (Kind::Path, " ", "write a path"),
            (Kind::Words(&["normal", "small"]), "smal", "did you mean \"small\"?"),
            (Kind::Boolean, "yes", "not true or false"),
            (Kind::Count { min: 1, max: 8 }, "9", "9 is not between 1 and 8"),
            (Kind::Count { min: 1, max: 8 }, "two", "no whole number"),
            (Kind::Size { min: MIB, max: 2 * MIB }, "3MiB", "not between 1MiB and 2MiB"),
            (Kind::Size { min: MIB, max: 2 * MIB }, "3", "no size"),
            (Kind::Time { min_ms: 100, max_ms: 2000 }, "3s", "not between 100ms and 2s"),
            (Kind::Time { min_ms: 100, max_ms: 2000 }, "3", "no time span"),
            (Kind::Filter, "quorate=loud", "write a level such as info"),
            (Kind::Links, "sh>hz", "write FROM>TO=3ms or FROM>TO=cut"),
        ] {
            let error = kind.check(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(Kind::Size { min: MIB, max: 4 * MIB }.check(" 2MiB "), Ok("2MiB".to_owned()));
    }
}
