//! What the machine can do: commands, rights, helper programs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Why a fault cannot be made here, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lacking(pub(crate) String);

/// Runs a command. An error has what it printed.
pub(crate) fn run<I: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = I>,
) -> Result<String, Failure> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{}: {}: {text}", program.display(), output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Mounting is for root.
pub(crate) fn need_root() -> Result<(), Lacking> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Lacking("needs root, to mount file systems".to_owned()))
}

/// Compiles a helper program into the folder.
pub(crate) fn compile(folder: &Path, name: &str, source: &str) -> Result<PathBuf, Lacking> {
    let (input, output) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&input, source).map_err(|error| Lacking(format!("{name}.c: {error}")))?;
    let words: [&OsStr; 5] = [
        OsStr::new("-O1"),
        OsStr::new("-Wall"),
        OsStr::new("-o"),
        output.as_os_str(),
        input.as_os_str(),
    ];
    run("cc", words).map_err(|error| Lacking(format!("needs a C compiler: {error}")))?;
    Ok(output)
}

/// The program that switches file systems off.
pub(crate) fn cut_power_helper(folder: &Path) -> Result<PathBuf, Lacking> {
    compile(folder, "cut_power", include_str!("../helper/cut_power.c"))
}

/// The program that runs another one without syncs, shown to work.
pub(crate) fn no_sync_helper(folder: &Path) -> Result<PathBuf, Lacking> {
    let helper = compile(folder, "no_sync", include_str!("../helper/no_sync.c"))?;
    run(&helper, ["true"])
        .map_err(|error| Lacking(format!("needs filters of system calls: {error}")))?;
    Ok(helper)
}
