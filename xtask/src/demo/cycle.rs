//! One machine's way through the demo: empty disk, flashed, login, switched on again, left alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, text},
    osimage::LOGIN_PROMPT,
};
use serde_json::Value;

/// How far a machine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not switched on yet.
    Waiting,
    /// Switched on with an empty disk.
    Flashing,
    /// Switched on again, with the image on its disk.
    Again,
    /// It came to its login twice and was flashed once: the end.
    LeftAlone,
    /// It did not come through.
    Failed,
}

/// A machine and how far it has come.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) name: String,
    pub(super) mac: String,
    pub(super) firmware: Firmware,
    pub(super) phase: Phase,
    /// What the appliance says it is doing.
    pub(super) stage: String,
    /// Percent of the image written, while it is.
    pub(super) progress: Option<u64>,
    /// Seconds from the first power-on to what happened.
    pub(super) marks: Vec<(f64, String)>,
    /// Why it did not come through.
    pub(super) failure: String,
    machine: Machine,
    started: Option<Instant>,
    phase_began: Instant,
    /// The longest that one power-on may take to its login.
    limit: Duration,
}

impl Cycle {
    pub(super) fn new(
        name: String,
        mac: String,
        firmware: Firmware,
        machine: Machine,
        limit: Duration,
    ) -> Self {
        Self {
            name,
            mac,
            firmware,
            phase: Phase::Waiting,
            stage: String::new(),
            progress: None,
            marks: Vec::new(),
            failure: String::new(),
            machine,
            started: None,
            phase_began: Instant::now(),
            limit,
        }
    }

    /// Switches the machine on for the first time.
    pub(super) fn start(&mut self) -> Result<()> {
        self.machine.power_on()?;
        self.started = Some(Instant::now());
        self.enter(Phase::Flashing, "power-on, the disk is empty");
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::LeftAlone | Phase::Failed)
    }

    /// Seconds since the first power-on.
    pub(super) fn elapsed(&self) -> f64 {
        self.started.map_or(0.0, |started| started.elapsed().as_secs_f64())
    }

    /// Looks at what the appliance and the console say, and goes on where it is time.
    pub(super) fn look(&mut self, appliance: &Appliance, list: &Value) -> Result<()> {
        let machines = list.pointer("/machines").and_then(Value::as_array);
        let known =
            machines.into_iter().flatten().find(|machine| machine["mac"] == self.mac.as_str());
        if let Some(known) = known {
            let stage = text(known, "/observed/stage")?;
            let stage = stage.trim_start_matches("STAGE_").to_ascii_lowercase().replace('_', " ");
            if stage != self.stage && stage != "unspecified" {
                self.mark(&stage);
                self.stage = stage;
            }
            self.progress = known.pointer("/observed/progress_percent").and_then(Value::as_u64);
            let held = text(known, "/observed/held_reason")?;
            if !held.is_empty() {
                self.fail(format!("the appliance holds it: {held}"));
                return Ok(());
            }
        }
        if !self.machine.is_on() {
            self.fail("its QEMU ended".to_owned());
        } else if self.machine.console().has(LOGIN_PROMPT)? {
            self.reached_login(appliance)?;
        } else if self.phase_began.elapsed() > self.limit {
            let words = self.machine.console().last_words();
            self.fail(format!(
                "no login within {} s; its console ends: {words}",
                self.limit.as_secs()
            ));
        }
        Ok(())
    }

    fn reached_login(&mut self, appliance: &Appliance) -> Result<()> {
        let runs = appliance.runs(&self.mac)?;
        let succeeded = runs.iter().filter(|run| run["state"] == "RUN_STATE_SUCCEEDED").count();
        if (runs.len(), succeeded) != (1, 1) {
            self.fail(format!(
                "{} runs, of which {succeeded} succeeded, where one should have",
                runs.len()
            ));
            return Ok(());
        }
        match self.phase {
            Phase::Flashing => {
                self.mark("login from the flashed disk");
                self.machine.power_cycle().context("switching it on again")?;
                self.enter(Phase::Again, "power-on again");
            }
            Phase::Again => {
                self.enter(Phase::LeftAlone, "login again, left alone");
                self.machine.power_off()?;
            }
            Phase::Waiting | Phase::LeftAlone | Phase::Failed => {}
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase, mark: &str) {
        self.phase = phase;
        self.phase_began = Instant::now();
        self.mark(mark);
    }

    fn mark(&mut self, what: &str) {
        self.marks.push((self.elapsed(), what.to_owned()));
    }

    fn fail(&mut self, why: String) {
        self.failure = why;
        self.enter(Phase::Failed, "failed");
        // Its console stays to be looked at; the machine itself only takes processor time.
        let _ = self.machine.power_off();
    }
}
