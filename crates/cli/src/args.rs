//! Parsers of single arguments. Each error is a sentence that says what would be right; `cli.rs`
//! turns it into a coded error.

use std::time::Duration;

use quorate_types::{AccountAddress, GroupId, TransferId, Uid};

/// The longest time-out that makes sense to wait for on a terminal.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// A UID: a whole number of 64 bits.
pub(crate) fn uid(text: &str) -> Result<Uid, String> {
    let digits = text.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(format!("{text:?} is no UID; a UID is a whole number from 0 to {}", u64::MAX));
    }
    digits
        .parse()
        .map(Uid)
        .map_err(|_| format!("{text:?} is too large for a UID; the largest is {}", u64::MAX))
}

/// An account: `uid:ledger` or `uid:ledger:code`.
pub(crate) fn account(text: &str) -> Result<AccountAddress, String> {
    text.trim().parse()
}

/// The id of a transfer: 1 to 32 hexadecimal digits.
pub(crate) fn transfer_id(text: &str) -> Result<TransferId, String> {
    text.trim().parse()
}

/// What a transfer carries for its caller: 1 to 32 hexadecimal digits.
pub(crate) fn user_data(text: &str) -> Result<u128, String> {
    let digits = text.trim();
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| is_hex && digits.len() <= 32);
    number.ok_or_else(|| format!("{text:?} is no user data; write 1 to 32 hexadecimal digits"))
}

/// A time span: a number with `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || {
        format!("{text:?} is no time span; write a number with ms, s, m or h, such as 500ms or 5s")
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| malformed())?;
    let ms_each = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(malformed()),
    };
    let span = Duration::from_millis(number.saturating_mul(ms_each));
    if span.is_zero() {
        return Err(format!("{text:?} leaves no time at all"));
    }
    if DURATION_MAX < span {
        return Err(format!("{text:?} is longer than a day"));
    }
    Ok(span)
}

/// A group, as `2`, `g2` or `RZ01/g2`.
pub(crate) fn group(text: &str) -> Result<GroupId, String> {
    let last = text.rsplit('/').next().unwrap_or(text);
    let digits = last.strip_prefix('g').unwrap_or(last);
    digits
        .parse()
        .map(GroupId)
        .map_err(|_| format!("{text:?} is no group; write its number or label, such as 2 or g2"))
}

/// Bytes in hexadecimal digits, two for each byte; a leading `0x` is allowed.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("{text:?} has characters that are no hexadecimal digits"));
    }
    if !digits.len().is_multiple_of(2) {
        return Err(format!(
            "{text:?} has {} hexadecimal digits; each byte takes two",
            digits.len()
        ));
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    Ok(digits.as_bytes().chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect())
}

/// A signed 64-bit integer; a leading `+` is allowed.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| {
        format!("{text:?} is no integer; integers lie between {} and {}", i64::MIN, i64::MAX)
    })
}

/// The known name nearest to `name`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&lower, &known.to_ascii_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1.max(known.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// What to say after an unknown name: the nearest one, or all there are.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(name, known.clone()) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => {
            let all: Vec<&str> = known.into_iter().take(20).collect();
            format!("known are: {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_whole_numbers_of_64_bits() {
        assert_eq!(uid("18446744073709551615"), Ok(Uid(u64::MAX)));
        assert_eq!(uid(" 007 "), Ok(Uid(7)));
        for text in ["", "abc", "-1", "+1", "1.0", "1e3", "0x10", "18446744073709551616"] {
            let error = uid(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("18446744073709551615"), "{error}");
        }
    }

    #[test]
    fn user_data_is_hexadecimal() {
        assert_eq!(user_data(&"f".repeat(32)), Ok(u128::MAX));
        assert_eq!(user_data("0"), Ok(0));
        for text in ["", "+1", "-1", "g", &"0".repeat(33)] {
            assert!(user_data(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn time_spans_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "5", "s", "-5s", "5d", "5 s s", "0s", "25h", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn groups_are_named_in_three_ways() {
        for text in ["2", "g2", "RZ01/g2"] {
            assert_eq!(group(text), Ok(GroupId(2)), "{text}");
        }
        for text in ["", "g", "RZ01", "RZ01/", "-2"] {
            assert!(group(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(hex("00ff"), Ok(vec![0, 255]));
        assert_eq!(hex("0xCafe"), Ok(vec![0xca, 0xfe]));
        assert_eq!(hex(""), Ok(vec![]));
        for text in ["0", "0g", "0x0", "é"] {
            assert!(hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_name_finds_its_nearest() {
        let known = ["purchases", "load", "profiles"];
        assert_eq!(did_you_mean("purchasse", known), "did you mean \"purchases\"?");
        assert_eq!(did_you_mean("xyz", known), "known are: purchases, load, profiles");
    }
}
