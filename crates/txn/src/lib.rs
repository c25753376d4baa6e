//! Evaluates a request into effects against a view, keeps sessions, applies effects.
