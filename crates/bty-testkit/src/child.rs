//! Child processes that never outlive the test that started them.
//!
//! A child is killed when its [`Child`] is dropped, and by the kernel when this process dies without dropping anything
//! (`setpriv --pdeathsig`, because `pre_exec` would be unsafe code). That signal is bound to the *thread* that forked, so
//! all children are forked by one thread which lives as long as the process: any thread may start a child and end.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{namespace::Namespace, wait};

/// How long a child that was asked to end may take before it is killed on drop.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A program to start, with its arguments and where it runs.
#[derive(Debug, Clone)]
pub struct Program {
    path: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    namespace: Option<Namespace>,
    directory: Option<PathBuf>,
}

impl Program {
    /// The program at `path`, or of that name in `PATH`.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            namespace: None,
            directory: None,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// In a network namespace.
    #[must_use]
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// In a directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// What the program is called in messages.
    fn name(&self) -> String {
        Path::new(&self.path).file_name().unwrap_or(&self.path).to_string_lossy().into_owned()
    }

    fn command(&self) -> Command {
        let mut words: Vec<&OsStr> = ["setpriv", "--pdeathsig", "KILL"].map(OsStr::new).to_vec();
        if let Some(namespace) = &self.namespace {
            words.extend(["ip", "netns", "exec", namespace.name()].map(OsStr::new));
        }
        words.push(&self.path);
        words.extend(self.arguments.iter().map(OsString::as_os_str));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Starts the program with its output (both streams, in order) in the file `log`.
    pub fn spawn(&self, log: &Path) -> Result<Child> {
        let name = self.name();
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut command = self.command();
        command.stdout(output.try_clone().context("sharing the log")?).stderr(output);
        let process =
            fork_from_lasting_thread(command).with_context(|| format!("starting {name}"))?;
        Ok(Child { name, process, log: log.to_owned() })
    }

    /// Runs the program to its end; an error with its output unless it exits 0.
    pub fn run(&self) -> Result<String> {
        let output = self.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} {:?} ended with {}: {}{}",
            self.name(),
            self.arguments,
            output.status,
            tail(&text, 2000),
            tail(&complaint, 2000)
        )
    }

    /// Runs the program to its end with its standard output in the file `output`; an error unless it exits 0.
    pub fn run_into(&self, output: &Path) -> Result<()> {
        let file = File::create(output).with_context(|| format!("making {}", output.display()))?;
        let mut command = self.command();
        command.stdout(file).stderr(Stdio::piped());
        let done = fork_from_lasting_thread(command)
            .and_then(|child| Ok(child.wait_with_output()?))
            .with_context(|| format!("running {}", self.name()))?;
        let complaint = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{} ended with {}: {complaint}", self.name(), done.status);
        Ok(())
    }

    /// Runs the program to its end and gives its status and output, whatever they are.
    pub fn output(&self) -> Result<process::Output> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        fork_from_lasting_thread(command)
            .and_then(|child| Ok(child.wait_with_output()?))
            .with_context(|| format!("running {}", self.name()))
    }
}

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: process::Child,
    log: PathBuf,
}

impl Child {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that has the child's output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What the child has written so far.
    pub fn log(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How the child ended; `None` while it runs.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("asking for {}", self.name))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id()).context("a process id beyond i32")?;
        kill(Pid::from_raw(id), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits for the child to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, timeout, || self.status()).with_context(|| self.last_words())
    }

    /// Sends SIGTERM and waits for the child to end.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.status()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait(timeout)
    }

    /// Waits for a text in the child's output; the child's end is an error.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let what = format!("{text:?} from {}", self.name);
        wait::until_true(&what, timeout, || {
            let ended = self.status()?;
            if self.log()?.contains(text) {
                return Ok(true);
            }
            match ended {
                Some(status) => bail!("{} ended with {status}", self.name),
                None => Ok(false),
            }
        })
        .with_context(|| self.last_words())
    }

    /// The end of the child's output, for messages.
    pub fn last_words(&self) -> String {
        let log = self.log().unwrap_or_default();
        format!("the last output of {} ({}):\n{}", self.name, self.log.display(), tail(&log, 3000))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child that has ended or can't be signalled needs nothing more than reaping.
        let _ = self.process.kill();
        let _ = wait::until(&self.name, KILL_TIMEOUT, || Ok(self.process.try_wait()?));
    }
}

/// A copy of the program of this name in `folder`. `AppArmor`'s profiles are of paths, and those that Debian has for DHCP clients
/// and servers keep them from files in temporary folders.
pub fn copied(name: &str, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join(name);
    if copy.exists() {
        return Ok(copy);
    }
    // Not every PATH has the folders of administrators' programs.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    let found = found.with_context(|| format!("there is no program {name}"))?;
    fs::copy(&found, &copy).with_context(|| format!("copying {}", found.display()))?;
    Ok(copy)
}

/// Whether a status means that this signal ended the process.
pub fn was_killed_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// The last `limit` bytes of a text, from a character's start.
fn tail(text: &str, limit: usize) -> &str {
    let start = text.ceil_char_boundary(text.len().saturating_sub(limit));
    text.get(start..).unwrap_or(text)
}

type Request = (Command, mpsc::SyncSender<io::Result<process::Child>>);

/// Forks from a thread that never ends, because the parent-death signal comes when the forking *thread* ends (prctl(2)).
fn fork_from_lasting_thread(command: Command) -> Result<process::Child> {
    static FORKER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // A caller that is gone drops the child; there is nobody left to tell.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (reply, answer) = mpsc::sync_channel(1);
    let requests = forker.lock().unwrap_or_else(PoisonError::into_inner).clone();
    requests.send((command, reply)).map_err(|_| anyhow!("the forking thread has ended"))?;
    Ok(answer.recv().context("the forking thread has ended")??)
}
