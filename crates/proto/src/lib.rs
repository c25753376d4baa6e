//! The wire: code generated from proto/ and its checked conversions to our own types.
