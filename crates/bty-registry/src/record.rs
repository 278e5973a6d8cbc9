//! What the registry keeps: machines, runs, images, events and tokens, as Rust has them.
//!
//! `store` reads and writes these, `decide` judges them, `view` shows them as messages of the contract. Wish and observation of
//! a machine are apart: nothing but an operator's update changes an [`Intent`].

use std::time::SystemTime;

use bty_api::{
    registry::v1::{FixUpResult, FlashWork, ImageContents, NextBoot, Partition, Role, RunProgress},
    types::v1::{Action, BootPath, Disk, FixUps, Hardware, Platform, Stage},
};
use bty_types::{
    BootChain, BootEntry, DiskSelector, ImageId, ImageName, ImageSelector, MacAddr, Policy,
};

/// A machine: the wish, the observation, and when either last changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    /// Its MAC address.
    pub mac: MacAddr,
    /// What the operator wants.
    pub intent: Intent,
    /// What was seen.
    pub observed: Observed,
    /// Counts changes of anything that the registry keeps.
    pub revision: u64,
}

/// What the operator wants of a machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intent {
    /// A name for people.
    pub name: Option<String>,
    /// What to do at its boots.
    pub policy: Policy,
    /// The assigned image.
    pub image: Option<ImageSelector>,
    /// The disk to write.
    pub disk: Option<DiskSelector>,
    /// Counts changes of policy, image and disk, from 1.
    pub generation: u64,
    /// How it boots, where that isn't the registry's default.
    pub chain: Option<BootChain>,
    /// What becomes of its firmware's boot entries after a flash, where that isn't the registry's default.
    pub boot_entry: Option<BootEntry>,
    /// Whether its disk is written even where it says that it is about to fail.
    pub failing_disk_ok: bool,
    /// What is changed on its disk after a flash, without contents.
    pub fix_ups: Option<FixUps>,
}

/// What was seen of a machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    /// When it was first seen or made.
    pub first_seen: SystemTime,
    /// When it was last seen on the network.
    pub last_seen: Option<SystemTime>,
    /// The address it last had; empty where it had none.
    pub address: String,
    /// How far it came.
    pub stage: Stage,
    /// When it came there.
    pub stage_at: Option<SystemTime>,
    /// Its hardware, as last reported.
    pub hardware: Option<Hardware>,
    /// When it was reported.
    pub hardware_at: Option<SystemTime>,
    /// The latest generation whose work was finished; 0 where none was.
    pub finished_generation: u64,
    /// The image that its disk holds, proved.
    pub flashed: Option<Flashed>,
    /// Its latest run.
    pub run: Option<LatestRun>,
    /// How often this generation's work was begun and not finished, the try under way included.
    pub attempts: u32,
    /// Its latest power-on.
    pub attempt: Option<Attempt>,
    /// The boot id of a try that was begun and has not ended.
    pub open_boot_id: Option<String>,
    /// When it was told to boot its disk for the first time since it was last flashed, by us or by its firmware.
    pub disk_turn_at: Option<SystemTime>,
    /// How its latest work failed, where it has not been finished since.
    pub failure: Option<Failure>,
    /// What its firmware is.
    pub platform: Platform,
    /// What its boots have taught of how it boots.
    pub way: Way,
    /// How often in a row it came back right after we sent it to its disk.
    pub returns: u32,
    /// How often in a row it came back soon after its firmware was told to boot the disk, which proves less.
    pub restart_returns: u32,
    /// The boot id of the agent that checked in last.
    pub checked_in: Option<String>,
}

/// The choices among the ways to boot a machine, each on its usual side or the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// It gets the iPXE with network drivers of its own.
    pub own_drivers: bool,
    /// It leaves for its disk the other way.
    pub other_exit: bool,
    /// When the boot program was last changed.
    pub moved_at: Option<SystemTime>,
}

/// The end of a good flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flashed {
    /// What the disk holds.
    pub image: ImageId,
    /// Since when.
    pub at: SystemTime,
}

/// What a decision needs to know of a machine's latest run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LatestRun {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub state: RunState,
    /// The boot that it is part of.
    pub boot_id: String,
    /// How far it is, in percent.
    pub percent: u32,
}

/// One power-on, as far as the network saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// What it was told.
    pub action: Action,
    /// The ways by which it asked.
    pub paths: Vec<BootPath>,
    /// When it last asked.
    pub at: SystemTime,
}

/// How work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The generation that it served.
    pub generation: u64,
    /// A word for programs, such as `DISK_ABSENT`.
    pub reason: String,
    /// What a person reads.
    pub message: String,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RunState {
    /// The agent works.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended in an error.
    Failed,
    /// The agent was not heard of again.
    Lost,
}

/// One piece of work on one machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// A UUID of version 7.
    pub id: String,
    /// The machine.
    pub mac: MacAddr,
    /// The boot that it is part of.
    pub boot_id: String,
    /// Flash or inventory.
    pub action: Action,
    /// The generation of the wish that it serves.
    pub generation: u64,
    /// How it stands.
    pub state: RunState,
    /// The image that is written.
    pub image_id: Option<ImageId>,
    /// The digest of its chunk index, `blake3:HEX`; empty for an inventory.
    pub index_digest: String,
    /// The image as the wish named it; empty for an inventory.
    pub image: String,
    /// The disk as the wish named it; empty for an inventory.
    pub disk_selector: String,
    /// The disk that it turned out to be.
    pub disk: Option<Disk>,
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// When its agent was last heard of.
    pub heard_at: SystemTime,
    /// How often its agent has checked in.
    pub check_ins: u32,
    /// The version of its agent.
    pub agent_version: String,
    /// How far it is, in percent.
    pub percent: u32,
    /// How far it is, as its agent says.
    pub progress: Option<RunProgress>,
    /// The steps so far, in order.
    pub steps: Vec<Step>,
    /// Why it failed.
    pub failure: Option<RunFailure>,
    /// What a good flash came to.
    pub record: Option<FlashRecord>,
    /// When it last changed.
    pub revision: u64,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its name.
    pub name: String,
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all; 0 where it isn't counted in bytes.
    pub total_bytes: u64,
}

/// Why a run failed, with the logs that tell more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunFailure {
    /// A word for programs.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The end of the agent's log.
    pub agent_log: String,
    /// The end of the live kernel's log.
    pub kernel_log: String,
}

/// What a good flash came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FlashRecord {
    /// What was read back from the disk.
    pub proved_id: ImageId,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Bytes made zero without sending them.
    pub zeroed_bytes: u64,
    /// From the gate to the proof, in milliseconds.
    pub elapsed_ms: u64,
    /// How the firmware was told to boot the disk; none where it was not to be told.
    pub next_boot: Option<NextBoot>,
    /// What was asked, and what it took; none of an agent that is older than that.
    pub work: Option<FlashWork>,
    /// What was changed on the disk afterwards.
    pub fix_ups: Vec<FixUpResult>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    /// The BLAKE3 of the raw disk bytes.
    pub id: ImageId,
    /// The names that point at it.
    pub names: Vec<String>,
    /// Size of the disk it makes.
    pub raw_bytes: u64,
    /// Size of its file.
    pub stored_bytes: u64,
    /// Bytes of the raw disk that are not in all-zero chunks.
    pub mapped_bytes: u64,
    /// Size of its chunks.
    pub chunk_bytes: u32,
    /// The digest of its chunk index, `blake3:HEX`.
    pub index_digest: String,
    /// What it was imported from.
    pub source: String,
    /// The format of the source.
    pub source_format: String,
    /// When it was imported.
    pub imported_at: SystemTime,
    /// `gpt`, `mbr` or `none`.
    pub partition_table: String,
    /// The partitions, in the table's order.
    pub partitions: Vec<Partition>,
    /// Whether it has boot code for a BIOS.
    pub boots_bios: bool,
    /// Whether it has an EFI system partition.
    pub boots_uefi: bool,
    /// Sector size that its partition table was made for; 0 where it has none.
    pub sector_bytes: u32,
    /// What is in it, where somebody has looked.
    pub contents: Option<ImageContents>,
    /// When its file was last verified.
    pub verified_at: Option<SystemTime>,
    /// How many of its chunks were wrong then.
    pub wrong_chunks: u64,
}

#[cfg(test)]
impl Image {
    /// An image without anything in it.
    pub(crate) fn for_tests(id: ImageId, imported_at: SystemTime) -> Self {
        Self {
            id,
            names: Vec::new(),
            raw_bytes: 512,
            stored_bytes: 100,
            mapped_bytes: 512,
            chunk_bytes: 1 << 18,
            index_digest: String::new(),
            source: String::new(),
            source_format: "raw".into(),
            imported_at,
            partition_table: "none".into(),
            partitions: Vec::new(),
            boots_bios: false,
            boots_uefi: false,
            sector_bytes: 0,
            contents: None,
            verified_at: None,
            wrong_chunks: 0,
        }
    }
}

/// Where a name points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// The name.
    pub name: ImageName,
    /// The image.
    pub image: ImageId,
    /// Since when.
    pub at: SystemTime,
}

/// Something that happens, before it has its number and its time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewEvent {
    /// What sort, a stable word such as `run.failed`.
    pub kind: &'static str,
    /// Who did it.
    pub actor: String,
    /// The machine it is about.
    pub mac: Option<MacAddr>,
    /// The run it is about; empty where it is about none.
    pub run_id: String,
    /// The image it is about.
    pub image_id: Option<ImageId>,
    /// What happened, one sentence.
    pub message: String,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// A name for people.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The BLAKE3 of its secret.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: SystemTime,
    /// When it ends by itself.
    pub expires_at: Option<SystemTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<SystemTime>,
}

impl Run {
    /// Whether the disk no longer holds what it held: its blanking comes before anything is written.
    pub(crate) fn has_touched_disk(&self) -> bool {
        self.action == Action::Flash
            && self.steps.iter().any(|step| matches!(step.name.as_str(), "blank" | "write"))
    }
}

impl Observed {
    /// Takes it that its disk boots, until it comes back from there again.
    pub(crate) fn count_returns_anew(&mut self) {
        self.returns = 0;
        self.restart_returns = 0;
    }
}

impl Machine {
    /// A machine that nothing is known of but its address.
    pub(crate) fn new(mac: MacAddr, policy: Policy, now: SystemTime) -> Self {
        Self {
            mac,
            intent: Intent {
                name: None,
                policy,
                image: None,
                disk: None,
                generation: 1,
                chain: None,
                boot_entry: None,
                failing_disk_ok: false,
                fix_ups: None,
            },
            observed: Observed {
                first_seen: now,
                last_seen: None,
                address: String::new(),
                stage: Stage::Unspecified,
                stage_at: None,
                hardware: None,
                hardware_at: None,
                finished_generation: 0,
                flashed: None,
                run: None,
                attempts: 0,
                attempt: None,
                open_boot_id: None,
                disk_turn_at: None,
                failure: None,
                platform: Platform::Unspecified,
                way: Way::default(),
                returns: 0,
                restart_returns: 0,
                checked_in: None,
            },
            revision: 0,
        }
    }

    /// How people call it: its name, or its address.
    pub(crate) fn called(&self) -> String {
        self.intent.name.clone().unwrap_or_else(|| self.mac.to_string())
    }

    /// Takes it that the machine came so far.
    pub(crate) fn reached(&mut self, stage: Stage, at: SystemTime) {
        self.observed.stage = stage;
        self.observed.stage_at = Some(at);
        self.observed.last_seen = Some(at);
    }

    /// Begins a new generation: what was tried and failed before no longer counts.
    pub(crate) fn begin_generation(&mut self) {
        self.intent.generation += 1;
        self.observed.attempts = 0;
        self.observed.open_boot_id = None;
        self.observed.failure = None;
        self.observed.count_returns_anew();
    }

    /// Boots it in the usual way again.
    pub(crate) fn reset_way(&mut self) {
        self.observed.way = Way::default();
        self.observed.count_returns_anew();
    }

    /// Boots it in the usual way again because its operator says so. A disk that it came back from has its turn again: what is on
    /// it is not flashed over.
    pub(crate) fn let_go(&mut self) {
        if self.observed.returns > 0 || self.observed.restart_returns > 0 {
            self.observed.disk_turn_at = None;
        }
        self.reset_way();
    }

    /// The run under way, if one is.
    pub(crate) fn running(&self) -> Option<&LatestRun> {
        self.observed.run.as_ref().filter(|run| run.state == RunState::Running)
    }
}
