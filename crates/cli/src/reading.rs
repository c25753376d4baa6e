//! The options of commands that read: how fresh the answer must be, and who may give it.

use std::time::Duration;

use clap::Args;
use quorate_client::{Client, Reads, Token};

use crate::args;

/// Longest age that a replica can vouch for.
const AGE_MAX: Duration = Duration::from_secs(60);

/// How fresh the answer must be; without any of these it is linearizable and the leader gives it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Who may answer")]
pub(crate) struct ReadArgs {
    /// Any replica that has what this token stands for; writes print one with -o json
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["stale_max", "city_local"])]
    at_least: Option<Token>,
    /// Any replica whose rows are at most this old; 0 is as good as the leader, at most 60s
    #[arg(long, value_name = "SPAN", value_parser = age, conflicts_with = "city_local")]
    stale_max: Option<Duration>,
    /// The nearest replica if it is at most 60 s behind, also without a leader; may show parts of what
    /// is under way between units
    #[arg(long)]
    city_local: bool,
    /// The nearest replicas are in this IDC or city
    #[arg(long, value_name = "PLACE", env = "QUORATE_NEAR")]
    near: Option<String>,
}

impl ReadArgs {
    /// Where this command runs, if it was said.
    pub(crate) fn near(&self) -> Option<&str> {
        self.near.as_deref()
    }

    /// The client, with reads as they were asked for.
    pub(crate) fn of(&self, client: &Client) -> Client {
        client.with_reads(match (&self.at_least, self.stale_max, self.city_local) {
            (Some(token), ..) => Reads::AtLeast(token.clone()),
            (None, Some(age), _) => Reads::BoundedStale(age),
            (None, None, true) => Reads::CityLocal,
            (None, None, false) => Reads::Strong,
        })
    }
}

/// An age: 0, or a span of at most a minute.
fn age(text: &str) -> Result<Duration, String> {
    if matches!(text.trim(), "0" | "0ms" | "0s") {
        return Ok(Duration::ZERO);
    }
    match args::duration(text)? {
        age if age <= AGE_MAX => Ok(age),
        _ => Err(format!("{text:?} is more than 60s: no replica vouches for rows that old")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_end_at_a_minute() {
        // Goal: a bound that no replica keeps is refused with what would be right.
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert_eq!(age("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(age("1m"), Ok(AGE_MAX));
        assert!(age("61s").unwrap_err().contains("60s"));
        assert!(age("soon").unwrap_err().contains("500ms"));
    }
}
