//! `quorate-sim`: runs one seed of the simulation. `scripts/sim.sh` runs many.

#[cfg(madsim)]
mod command;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "this build of quorate-sim has no simulation in it; build it with\n\n  scripts/cargo --sim \
         build --profile sim -p quorate-sim\n\nor run seeds with `make sim SEEDS=1..100`"
    );
    std::process::ExitCode::from(2)
}
