//! The JSON document every command prints with `-o json`: one envelope, so that a program reads them
//! all the same way. Ids and 64-bit numbers are strings; a field never changes its meaning.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_types::{ClusterId, Error, RetryClass};
use serde::Serialize;
use serde_json::{Value, json};

/// The version of the documents.
pub(crate) const API_VERSION: &str = "quorate.v1";

/// The result of one command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// What the items are, such as `status`.
    pub(crate) kind: &'static str,
    /// The cluster that answered, if one was asked.
    pub(crate) cluster_id: Option<ClusterId>,
    /// The result.
    pub(crate) items: Vec<Value>,
    /// What went wrong, each with code, message and fix. See [`error_json`].
    pub(crate) errors: Vec<Value>,
}

impl Document {
    /// An empty document.
    #[must_use]
    pub(crate) fn new(kind: &'static str) -> Document {
        Document { kind, cluster_id: None, items: Vec::new(), errors: Vec::new() }
    }

    /// Says which cluster answered.
    #[must_use]
    pub(crate) fn of_cluster(mut self, cluster_id: ClusterId) -> Document {
        self.cluster_id = Some(cluster_id);
        self
    }

    /// Adds an item.
    #[must_use]
    pub(crate) fn item(mut self, item: Value) -> Document {
        self.items.push(item);
        self
    }

    /// The text of the document, without a final line end.
    #[must_use]
    pub(crate) fn to_text(&self, generated_at: SystemTime) -> String {
        let envelope = Envelope {
            api_version: API_VERSION,
            kind: self.kind,
            cluster_id: self.cluster_id.map(|id| id.to_string()),
            generated_at: rfc3339(generated_at),
            items: &self.items,
            errors: &self.errors,
        };
        // Serializing plain values to a string does not fail.
        serde_json::to_string_pretty(&envelope).unwrap_or_default()
    }
}

/// The document as it is printed: first what it is, then what it holds.
#[derive(Serialize)]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    cluster_id: Option<String>,
    generated_at: String,
    items: &'a [Value],
    errors: &'a [Value],
}

/// An error as it stands in a document.
#[must_use]
pub(crate) fn error_json(error: &Error, fix: Option<&str>) -> Value {
    json!({
        "code": error.code.name(),
        "number": error.code.number(),
        "message": error.message,
        "fix": fix.unwrap_or_else(|| error.code.fix()),
        "retry": retry_word(error.code.retry()),
        "facts": error.facts,
    })
}

/// The word for a retry class.
#[must_use]
pub(crate) fn retry_word(class: RetryClass) -> &'static str {
    match class {
        RetryClass::No => "no",
        RetryClass::Safe => "safe",
        RetryClass::SameId => "same-id",
    }
}

/// A moment as `2026-11-21T08:21:27.045Z`.
#[must_use]
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of a number of days since 1970-01-01, by the Gregorian calendar. Years are
/// counted from March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // Since 0000-03-01.
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_types::Code;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 45)
    }

    #[test]
    fn moments_are_written_as_rfc3339() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00.045Z");
        assert_eq!(rfc3339(at(951_782_400)), "2000-02-29T00:00:00.045Z");
        assert_eq!(rfc3339(at(951_868_800)), "2000-03-01T00:00:00.045Z");
        assert_eq!(rfc3339(at(1_795_249_287)), "2026-11-21T08:21:27.045Z");
        assert_eq!(rfc3339(at(4_102_444_799)), "2099-12-31T23:59:59.045Z");
    }

    #[test]
    fn a_document_has_the_envelope() {
        let error =
            Error::new(Code::UnknownTable, "no table has the name \"x\"").with("table", "x");
        let mut document =
            Document::new("rows").of_cluster(ClusterId(7)).item(json!({"uid": "42"}));
        document.errors.push(error_json(&error, None));
        let expected = r#"{
  "api_version": "quorate.v1",
  "kind": "rows",
  "cluster_id": "00000000000000000000000000000007",
  "generated_at": "1970-01-01T00:00:00.045Z",
  "items": [
    {
      "uid": "42"
    }
  ],
  "errors": [
    {
      "code": "UNKNOWN_TABLE",
      "facts": {
        "table": "x"
      },
      "fix": "use a table of the cluster file; `quorate topology show` lists them",
      "message": "no table has the name \"x\"",
      "number": 1004,
      "retry": "no"
    }
  ]
}"#;
        assert_eq!(document.to_text(at(0)), expected);
    }
}
