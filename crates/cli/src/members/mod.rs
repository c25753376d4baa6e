//! Changes of who takes part in groups, as commands make them: look, plan, ask, carry out.
//!
//! ```text
//!  look       the members of groups as their leaders have them; nodes that could take a replica
//!  words      plans and steps as lines for people and as documents
//!  flags      what all these commands share: --dry-run, --yes, --wait, --accept-less-redundancy
//!  carry_out  step after step, each planned anew from what is
//! ```
//!
//! Plans are made by `quorate_topology::change`. Nothing is remembered between two runs: a command that was
//! interrupted is run again, looks, and goes on where the group is.

mod carry_out;
mod flags;
mod look;
mod words;

pub(crate) use carry_out::{Hands, carry_out};
pub(crate) use flags::Flags;
pub(crate) use look::{group_named, members_now, members_of, members_of_all, node_named, usable};
pub(crate) use words::{Made, document, fail, node_name, show, wish_words};
