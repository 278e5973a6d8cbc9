//! QEMU's machine protocol: commands to a running virtual machine.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::wait;

/// How long QEMU may take to listen and to answer; a machine with both cores busy is slow at both.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    requests: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket once QEMU listens there; `alive` ends the wait.
    pub(super) fn connect(path: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        let requests = wait::until("QEMU's control socket", TIMEOUT, || {
            alive()?;
            Ok(UnixStream::connect(path).ok())
        })?;
        requests.set_read_timeout(Some(TIMEOUT)).context("setting QEMU's timeout")?;
        let answers = BufReader::new(requests.try_clone().context("sharing QEMU's socket")?);
        let mut qmp = Self { requests, answers };
        qmp.receive()?; // The greeting.
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Sends a command and gives what it returns.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.requests, "{request}")
            .with_context(|| format!("asking QEMU to {command}"))?;
        loop {
            let answer = self.receive()?;
            if let Some(returned) = answer.get("return") {
                return Ok(returned.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            // Events come in between.
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).context("listening to QEMU")?;
        if length == 0 {
            bail!("QEMU has closed its control socket");
        }
        serde_json::from_str(&line).context("parsing QEMU's answer")
    }
}
