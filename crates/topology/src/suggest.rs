//! The nearest known name to a mistyped one.

/// Names longer than this are no typing mistakes of ours.
const NAME_BYTES_MAX: usize = 64;
/// Candidates looked at; bounds the work a hostile file can cause.
const CANDIDATES_MAX: usize = 512;

/// The candidate nearest to `name`, if it is near enough to be meant. Ties go to the first.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if NAME_BYTES_MAX < name.len() {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|candidate| candidate.len() <= NAME_BYTES_MAX)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?` if something is near, otherwise the list of what is known.
pub(crate) fn hint<'a>(
    name: &str,
    known_word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(nearest) = nearest(name, candidates.clone()) {
        return Some(format!("did you mean {nearest:?}?"));
    }
    let known: Vec<&str> = candidates.into_iter().take(13).collect();
    match known.len() {
        0 => None,
        1..=12 => Some(format!("known {known_word}: {}", known.join(", "))),
        _ => Some(format!("known {known_word}: {}, ...", known[..12].join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let keys = ["leader-order", "locality", "members", "id"];
        assert_eq!(nearest("leader-oder", keys), Some("leader-order"));
        assert_eq!(nearest("leader_order", keys), Some("leader-order"));
        assert_eq!(nearest("Members", keys), Some("members"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"x".repeat(100_000), keys), None);
        assert_eq!(hint("colour", "keys", ["id"]), Some("known keys: id".to_owned()));
        assert_eq!(hint("colour", "keys", []), None);
    }
}
