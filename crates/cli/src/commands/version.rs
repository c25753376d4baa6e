//! `quorate version`.

use serde_json::json;

use crate::output::{API_VERSION, Document, Output};

/// Runs `quorate version`.
pub(crate) fn run(out: &Output) {
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if !out.is_json() {
        out.say(format_args!("quorate {version} ({profile}, documents {API_VERSION})"));
    }
    out.document(&Document::new("version").item(json!({ "version": version, "build": profile })));
}
