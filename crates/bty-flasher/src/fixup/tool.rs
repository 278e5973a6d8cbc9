//! Running the field's own tools.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Characters of what a tool complained that are repeated.
const MOST_CHARS: usize = 300;

/// Where a tool is; a live system has no `PATH` that says so.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let is_program = |file: &Path| {
        fs::metadata(file)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    folders.map(|folder| folder.join(name)).find(|file| file.is_absolute() && is_program(file))
}

/// Runs a tool to its end; the error is what it said.
pub(super) fn run(program: &Path, arguments: &[&OsStr]) -> Result<(), String> {
    run_to(program, arguments, 0)
}

/// The same of a tool that has more than one good exit code, the last of which is this.
pub(super) fn run_to(program: &Path, arguments: &[&OsStr], last_good: i32) -> Result<(), String> {
    let name = program.display();
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|problem| format!("starting {name}: {problem}"))?;
    if output.status.code().is_some_and(|code| (0..=last_good).contains(&code)) {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = said.chars().take(MOST_CHARS).collect();
    Err(format!("{name} ended with {}: {shown}", output.status))
}
