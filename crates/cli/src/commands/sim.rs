//! `quorate sim`: simulated clusters, run by `quorate-sim`, the same code built for a simulator.
//!
//! The simulator needs a build of its own (`--cfg madsim`), so this command finds that program and
//! becomes it. Without address randomisation, or a seed could not be replayed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_types::Code;

use crate::exit::Failure;

/// Names the program where it is not found by itself.
const VARIABLE: &str = "QUORATE_SIM";

/// Arguments of `quorate sim`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct SimArgs {
    /// `run --seeds 1..100`, `replay SEED`, `regressions`, `planted`, `bugs`, `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Becomes `quorate-sim`. Returns only if that fails.
pub(crate) fn run(args: SimArgs) -> Result<(), Failure> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let beside = std::env::current_exe().ok();
    let candidates = candidates(named.as_deref(), beside.as_deref());
    let Some(program) = candidates.iter().find(|path| path.is_file()) else {
        let looked: Vec<String> = candidates.iter().map(|it| it.display().to_string()).collect();
        let message = format!(
            "quorate-sim is not there (looked at {}); build it in a checkout with `make sim-build`, \
             or name it in {VARIABLE}",
            looked.join(", ")
        );
        return Err(Failure::new(Code::ConfigInvalid, message));
    };
    let mut command = Command::new("setarch");
    command.arg("-R").arg(program).args(&args.arguments);
    if let [verb, seed, ..] = args.arguments.as_slice()
        && verb == "replay"
    {
        command.env("MADSIM_TEST_SEED", seed);
    }
    let error = command.exec();
    let message = format!("{} cannot be started through setarch: {error}", program.display());
    Err(Failure::new(Code::Internal, message))
}

/// Where the program may be: named, beside this one, or where a checkout builds it.
fn candidates(named: Option<&Path>, this: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let folder = this.and_then(Path::parent);
    let beside = folder.map(|folder| folder.join("quorate-sim"));
    let built = folder.and_then(Path::parent).map(|target| target.join("sim/sim/quorate-sim"));
    beside.into_iter().chain(built).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the variable wins; else the program is looked for beside this one, then in the checkout.
    #[test]
    fn the_program_is_looked_for_where_it_may_be() {
        let this = Path::new("/target/release/quorate");
        assert_eq!(candidates(Some(Path::new("/x")), Some(this)), [PathBuf::from("/x")]);
        let found = candidates(None, Some(this));
        assert_eq!(found[0], Path::new("/target/release/quorate-sim"));
        assert_eq!(found[1], Path::new("/target/sim/sim/quorate-sim"));
    }
}
