//! The real daemons, started as systemd would: with a configuration file, folders of their own, and told to end by SIGTERM.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    child::{Child, Program},
    namespace::Namespace,
    readiness::NotifySocket,
};

/// How long a daemon may take until it is ready, on a machine that is busy emulating others.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a daemon may take to end; its own grace is 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A daemon to start.
#[derive(Debug, Clone)]
pub struct DaemonSpec {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    namespace: Option<Namespace>,
    folder: PathBuf,
}

impl DaemonSpec {
    /// The program at `path`, with its log and its readiness socket in `folder`.
    pub fn new(path: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            program: path.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            namespace: None,
            folder: folder.to_owned(),
        }
    }

    /// One of bty's daemons (`bty-registry` and so on), as an installation below `folder` has it: the configuration in
    /// `bty.toml`, which [`write_config`] writes, state in `state`, sockets in `run`.
    pub fn of_bty(binaries: &Path, name: &str, folder: &Path) -> Self {
        Self::new(binaries.join(name), folder)
            .arg("--config")
            .arg(config_path(folder).display().to_string())
            .arg("--state-dir")
            .arg(folder.join("state").display().to_string())
            .arg("--run-dir")
            .arg(folder.join("run").display().to_string())
    }

    /// With an argument more.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// In a network namespace.
    #[must_use]
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(self) -> Result<Daemon> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("making {}", self.folder.display()))?;
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let notify_path = self.folder.join(format!("{name}.notify"));
        // Left by one that was killed.
        let _ = fs::remove_file(&notify_path);
        let notify = NotifySocket::bind(&notify_path)?;
        let mut program = Program::new(&self.program)
            .args(&self.arguments)
            .env("NOTIFY_SOCKET", &notify_path)
            .env("RUST_BACKTRACE", "1");
        for (variable, value) in &self.variables {
            program = program.env(variable, value);
        }
        if let Some(namespace) = &self.namespace {
            program = program.within(namespace);
        }
        let started = Instant::now();
        let mut child = program.spawn(&self.folder.join(format!("{name}.log")))?;
        notify
            .wait_for("READY=1", READY_TIMEOUT, || match child.status()? {
                Some(status) => bail!("{name} ended with {status} before it was ready"),
                None => Ok(()),
            })
            .with_context(|| child.last_words())?;
        let ready_after = started.elapsed();
        Ok(Daemon { spec: self, child, notify, ready_after })
    }
}

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    spec: DaemonSpec,
    child: Child,
    notify: NotifySocket,
    ready_after: Duration,
}

impl Daemon {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long it took from its start to `READY=1`, with the starting of the process.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process, for signals and its log.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        self.child.log()
    }

    /// Waits for a line that it tells systemd, such as `STATUS=...`.
    pub fn wait_for_notice(&mut self, line: &str, timeout: Duration) -> Result<Vec<String>> {
        let child = &mut self.child;
        self.notify.wait_for(line, timeout, || match child.status()? {
            Some(status) => bail!("{} ended with {status}", child.name()),
            None => Ok(()),
        })
    }

    /// Memory that it has resident, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmRSS")
    }

    /// The most memory that it ever had resident, in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmHWM")
    }

    fn memory_bytes(&self, what: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .context("reading the daemon's status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("the kernel says nothing of {what}"))? * 1024)
    }

    /// Ends it with SIGTERM; an error unless it exits 0 in time.
    pub fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "it ended with {status}; {}", self.child.last_words());
        Ok(())
    }

    /// Ends it with SIGTERM and gives how it ended.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.child.stop(STOP_TIMEOUT)
    }

    /// Ends it with SIGTERM and starts it again as it was.
    pub fn restart(self) -> Result<Self> {
        let spec = self.spec.clone();
        self.stop()?;
        spec.start()
    }

    /// Kills it as a power cut would, and starts it again as it was.
    pub fn kill_and_restart(self) -> Result<Self> {
        let spec = self.spec.clone();
        drop(self);
        spec.start()
    }
}

/// Where the configuration of the installation below `folder` is.
pub fn config_path(folder: &Path) -> PathBuf {
    folder.join("bty.toml")
}

/// Writes the configuration of the installation below `folder`.
pub fn write_config(folder: &Path, toml: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = config_path(folder);
    fs::write(&path, toml).with_context(|| format!("writing {}", path.display()))
}

/// Where this build's programs are: `BTY_BINARIES`, or the folder of the running program (a test's is one further down).
pub fn binaries() -> Result<PathBuf> {
    if let Some(named) = env::var_os("BTY_BINARIES") {
        return Ok(named.into());
    }
    let own = env::current_exe().context("asking where this program is")?;
    let folder = own.parent().context("this program is nowhere")?;
    Ok(match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder).to_owned(),
        _ => folder.to_owned(),
    })
}
