//! The other end of `NOTIFY_SOCKET`: hearing when a program says that it is ready (`sd_notify`(3)).

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The longest message that is read; systemd's own limit is 4096.
const MESSAGE_LIMIT: usize = 4096;

/// A socket that one program tells its state.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Listens at `path`, which must not exist.
    pub fn bind(path: &Path) -> Result<Self> {
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("listening at {}", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The value for `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a message with the line `wanted`, such as `READY=1`; `alive` is asked from time to time and its error ends
    /// the wait. Gives the whole message's lines.
    pub fn wait_for(
        &self,
        wanted: &str,
        timeout: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        self.socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .context("setting the timeout")?;
        let mut buffer = [0; MESSAGE_LIMIT];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    if lines.iter().any(|line| line == wanted) {
                        return Ok(lines);
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) =>
                {
                    alive()?;
                }
                Err(error) => return Err(error).context("listening for readiness"),
            }
            if Instant::now() >= deadline {
                bail!("waited {:.1} s in vain for {wanted}", timeout.as_secs_f64());
            }
        }
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // The folder may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}
