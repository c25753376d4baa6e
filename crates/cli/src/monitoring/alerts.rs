//! The alert rules as a file for Prometheus.

use std::fmt::Write as _;

use super::table::ALERTS;

/// The rules. Texts are quoted as JSON strings, which YAML reads as well.
pub(crate) fn rules() -> String {
    let mut text = String::from(
        "# Made by `quorate generate alerts`. The scrape job has the name `quorate`.\n\
         groups:\n  - name: quorate\n    rules:\n",
    );
    for alert in ALERTS {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          \
             severity: {}\n        annotations:\n          summary: {}\n          action: {}\n",
            alert.name,
            quoted(alert.expression),
            alert.lasts,
            alert.severity.word(),
            quoted(alert.summary),
            quoted(alert.action),
        );
    }
    text
}
