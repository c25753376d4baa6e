//! Criterion benches of the write path; see `benches/`.
