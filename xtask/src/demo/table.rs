//! The live table of machines: redrawn in place on a terminal, a line for each change elsewhere.

use std::collections::HashMap;

use bty_testkit::Firmware;

use super::cycle::{Cycle, Phase};

/// Where the table is shown, and what was shown last.
#[derive(Debug)]
pub(super) struct Table {
    wanted: bool,
    terminal: bool,
    lines: usize,
    last: HashMap<String, String>,
}

impl Table {
    pub(super) fn new(wanted: bool, terminal: bool) -> Self {
        Self { wanted, terminal, lines: 0, last: HashMap::new() }
    }

    /// Shows how things are now.
    pub(super) fn show<'a>(&mut self, cycles: impl Iterator<Item = &'a Cycle>) {
        if !self.wanted {
            return;
        }
        let mut cycles: Vec<&Cycle> = cycles.collect();
        cycles.sort_by(|one, other| one.name.cmp(&other.name));
        if self.terminal {
            self.redraw(&cycles);
        } else {
            self.changes(&cycles);
        }
    }

    fn redraw(&mut self, cycles: &[&Cycle]) {
        let mut text = String::new();
        if self.lines > 0 {
            text += &format!("\x1b[{}A", self.lines);
        }
        text += &format!(
            "\x1b[2K{:<6} {:<18} {:<10} {:>7}  {}\n",
            "NAME", "MAC", "FIRMWARE", "SECONDS", "STAGE"
        );
        for cycle in cycles {
            text += &format!("\x1b[2K{}\n", row(cycle));
        }
        self.lines = cycles.len() + 1;
        eprint!("{text}");
    }

    fn changes(&mut self, cycles: &[&Cycle]) {
        for cycle in cycles {
            let stage = stage(cycle);
            if self.last.get(&cycle.name) != Some(&stage) {
                eprintln!("{}", row(cycle));
                self.last.insert(cycle.name.clone(), stage);
            }
        }
    }
}

fn row(cycle: &Cycle) -> String {
    let firmware = firmware_name(cycle.firmware);
    let seconds = cycle
        .marks
        .last()
        .map_or(0.0, |(at, _)| if cycle.is_over() { *at } else { cycle.elapsed() });
    format!("{:<6} {:<18} {firmware:<10} {seconds:>7.1}  {}", cycle.name, cycle.mac, stage(cycle))
}

/// What people call it.
pub(super) fn firmware_name(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "BIOS PXE",
        Firmware::UefiPxe => "UEFI PXE",
        Firmware::UefiHttp => "UEFI HTTP",
        Firmware::Arm64Pxe => "ARM PXE",
        Firmware::Arm64Http => "ARM HTTP",
    }
}

fn stage(cycle: &Cycle) -> String {
    match cycle.phase {
        Phase::Waiting => "waits for its turn".to_owned(),
        Phase::LeftAlone => "done: flashed once, booted twice".to_owned(),
        Phase::Failed => format!("failed: {}", cycle.failure.lines().next().unwrap_or_default()),
        Phase::Flashing | Phase::Again => {
            let mark = cycle.marks.last().map_or("", |(_, what)| what.as_str());
            match cycle.progress {
                // By tens, so that a log does not get a line for each percent.
                Some(percent) => format!("{mark} {} %", percent / 10 * 10),
                None => mark.to_owned(),
            }
        }
    }
}
