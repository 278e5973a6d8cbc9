//! Running the field's own tools.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// For how long a tool may work: a disk that answers no more would hold the machine for ever. Growing the file system of the largest
/// disk takes minutes.
const PATIENCE: Duration = Duration::from_mins(30);
/// How long a killed one may take to go.
const GRACE: Duration = Duration::from_secs(5);
/// Characters of what a tool complained that are repeated.
const MOST_CHARS: usize = 300;
/// Bytes of it that are kept meanwhile: its end, which tells most.
const KEPT_BYTES: usize = 4096;

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
    run_within(program, arguments, last_good, PATIENCE)
}

fn run_within(
    program: &Path,
    arguments: &[&OsStr],
    last_good: i32,
    patience: Duration,
) -> Result<(), String> {
    let name = program.display();
    let failed = |problem: io::Error| format!("running {name}: {problem}");
    let (mut output, input) = io::pipe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(input.try_clone().map_err(failed)?)
        .stderr(input)
        .spawn()
        .map_err(failed)?;
    let (tell, told) = mpsc::channel();
    // Left behind where the tool doesn't end.
    thread::spawn(move || tell.send(ending(&mut output)));
    let Ok(said) = told.recv_timeout(patience) else {
        // One that waits for a disk that answers no more can't be killed, and is not waited for.
        let outcome = child.kill().map(|()| told.recv_timeout(GRACE).is_ok());
        let is_over = matches!(outcome, Ok(true)) && child.wait().is_ok();
        let end = if is_over { "was killed" } else { "can't be killed: it waits for the disk" };
        return Err(format!("{name} did not end within {patience:?} and {end}"));
    };
    let status = child.wait().map_err(failed)?;
    if status.code().is_some_and(|code| (0..=last_good).contains(&code)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let surplus = said.chars().count().saturating_sub(MOST_CHARS);
    let shown: String = said.chars().skip(surplus).collect();
    Err(format!("{name} ended with {status}: {shown}"))
}

/// The last bytes of all that comes; a damaged file system makes some tools talk without end.
fn ending(output: &mut impl Read) -> Vec<u8> {
    let (mut said, mut piece) = (Vec::new(), [0; KEPT_BYTES]);
    // One that can't be read any more has said all.
    while let Ok(count @ 1..) = output.read(&mut piece) {
        said.extend_from_slice(piece.get(..count).unwrap_or_default());
        said.drain(..said.len().saturating_sub(KEPT_BYTES));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_a_tool_said_is_repeated() {
        let shell = find("sh").unwrap();
        let ran = |script: &str, last_good| {
            run_to(&shell, &[OsStr::new("-c"), OsStr::new(script)], last_good)
        };
        assert_eq!(ran("echo fine; exit 1", 1), Ok(()));
        let talk = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done; echo bad >&2; exit 2";
        let why = ran(talk, 1).unwrap_err();
        assert!(why.contains("exit status: 2: ") && why.ends_with("line 19999 bad"), "{why}");
        assert!(why.len() < 400, "{why}");
    }

    #[test]
    fn a_tool_that_does_not_end_is_killed() {
        let shell = find("sh").unwrap();
        let arguments = [OsStr::new("-c"), OsStr::new("exec sleep 600")];
        let why = run_within(&shell, &arguments, 0, Duration::from_millis(200)).unwrap_err();
        assert!(why.ends_with("did not end within 200ms and was killed"), "{why}");
    }
}
