//! The Rust client: routes by UID, pipelines, retries what is safe, hides leader moves.
