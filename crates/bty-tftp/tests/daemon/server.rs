//! A bty-tftp of its own, on a port of its own, in folders of its own.

use std::{
    fs,
    net::SocketAddrV4,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    dir: TempDir,
    program: Child,
    pub(crate) address: SocketAddrV4,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these settings besides.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("bty.toml"), "").unwrap();
        let notify_path = dir.path().join("notify");
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(DEADLINE)).unwrap();
        let program = command(dir.path())
            .arg("--set")
            .arg(format!("tftp.root={:?}", root.to_str().unwrap()))
            .args(["--set", "tftp.listen=\"127.0.0.1:0\""])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .env("NOTIFY_SOCKET", &notify_path)
            .spawn()
            .unwrap();
        let address = ready_on(&notify);
        Self { dir, program, address }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The folder below which all daemons have their sockets.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn api_socket(&self) -> PathBuf {
        self.run_dir().join("tftp/api.sock")
    }

    /// Puts a file into the folder.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Puts a file of this many bytes into the folder, and gives its content.
    pub(crate) fn write_bytes(&self, name: &str, bytes: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..bytes)
            .map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap())
            .collect();
        self.write(name, &content);
        content
    }

    /// Resident memory, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.program.try_wait().unwrap(), None, "the server ended");
    }

    /// Tells the server to end, and waits for it.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let id = self.program.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.program.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// The program with its folders below `dir`.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bty-tftp"));
    command
        .arg("--config")
        .arg(dir.join("bty.toml"))
        .arg("--state-dir")
        .arg(dir.join("state"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .stderr(Stdio::null());
    command
}

/// Waits for READY=1 and takes the address from the line of status.
fn ready_on(notify: &UnixDatagram) -> SocketAddrV4 {
    let begin = Instant::now();
    let mut buffer = [0; 4096];
    while begin.elapsed() < DEADLINE {
        let length = notify.recv(&mut buffer).expect("the server never said that it is ready");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.contains("READY=1") {
            let address = text.rsplit(' ').next().unwrap();
            return address.trim().parse().unwrap_or_else(|_| panic!("no address in {text:?}"));
        }
    }
    panic!("the server was not ready in {DEADLINE:?}");
}
