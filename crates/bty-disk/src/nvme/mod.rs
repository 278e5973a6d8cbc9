//! NVMe admin commands, and what controllers answer (section numbers are those of NVMe Base 2.0).

mod identify;
mod sanitize;

use std::time::Duration;

use bty_sys::NvmeCommand;

pub use identify::{Controller, Namespace};
pub use sanitize::{SanitizeState, SanitizeStatus};

use crate::commands::{CommandError, Commands};

/// The namespace that means all of them, or the controller itself.
const ALL: u32 = u32::MAX;
/// Bytes of what Identify gives.
pub const IDENTIFY_BYTES: usize = 4096;
/// Bytes of the log pages that are read here.
pub const LOG_BYTES: usize = 512;
/// How long a command may take that only gives information.
const SHORT: Duration = Duration::from_secs(10);
/// How long a format may take. It has no progress to ask for, and small controllers overwrite.
const FORMAT: Duration = Duration::from_hours(4);

/// Of status code type and code: the low 11 bits. Others say whether to retry.
const STATUS: u16 = 0x7ff;

fn send(
    device: &dyn Commands,
    name: &'static str,
    command: NvmeCommand,
    data: &mut [u8],
) -> Result<(), CommandError> {
    let status =
        device.nvme(command, data).map_err(|source| CommandError::Io { command: name, source })?;
    match status & STATUS {
        0 => Ok(()),
        status => Err(CommandError::Nvme { command: name, status }),
    }
}

/// Identify (section 5.17) of this kind (CNS).
fn identify(
    device: &dyn Commands,
    namespace: u32,
    kind: u32,
) -> Result<[u8; IDENTIFY_BYTES], CommandError> {
    let mut data = [0; IDENTIFY_BYTES];
    let command = NvmeCommand {
        opcode: 0x06,
        namespace,
        dword10: kind,
        timeout: SHORT,
        ..NvmeCommand::default()
    };
    send(device, "Identify", command, &mut data)?;
    Ok(data)
}

/// What the controller can do.
pub fn controller(device: &dyn Commands) -> Result<Controller, CommandError> {
    Ok(Controller::parse(&identify(device, 0, 1)?))
}

/// How this namespace is formatted, and which number it has.
pub fn namespace(device: &dyn Commands) -> Result<(u32, Namespace), CommandError> {
    let command = "the namespace's number";
    let number = device.nvme_namespace().map_err(|source| CommandError::Io { command, source })?;
    Ok((number, Namespace::parse(&identify(device, number, 0)?)))
}

/// How many namespaces are there beside this one, as far as the controller tells: those that it gives access to (Active Namespace ID list), and
/// where it tells of them, those of the whole subsystem that other controllers have, or none (Allocated Namespace ID list).
pub fn other_namespaces(device: &dyn Commands, own: u32) -> Result<usize, CommandError> {
    const ACTIVE: u32 = 0x02;
    const ALLOCATED: u32 = 0x10;
    let others = |list: [u8; IDENTIFY_BYTES]| {
        let ids = list.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id));
        ids.take_while(|&id| id != 0).filter(|&id| id != own).count()
    };
    let active = others(identify(device, 0, ACTIVE)?);
    Ok(identify(device, 0, ALLOCATED).map_or(active, |list| others(list).max(active)))
}

/// A log page (Get Log Page, section 5.16).
pub fn log_page(device: &dyn Commands, page: u8) -> Result<[u8; LOG_BYTES], CommandError> {
    let mut data = [0; LOG_BYTES];
    let dwords = u32::try_from(LOG_BYTES / 4).unwrap_or_default() - 1;
    let command = NvmeCommand {
        opcode: 0x02,
        namespace: ALL,
        dword10: dwords << 16 | u32::from(page),
        timeout: SHORT,
        ..NvmeCommand::default()
    };
    send(device, "Get Log Page", command, &mut data)?;
    Ok(data)
}

/// What a format erases with (SES, section 5.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatErase {
    /// The user's data: contents are indeterminate afterwards.
    UserData = 1,
    /// The key that it is encrypted with.
    Key = 2,
}

/// Format NVM: the namespace as it is formatted now, erased. Returns when it is done.
pub fn format(
    device: &dyn Commands,
    number: u32,
    namespace: Namespace,
    erase: FormatErase,
) -> Result<(), CommandError> {
    let command = NvmeCommand {
        opcode: 0x80,
        namespace: number,
        dword10: namespace.format_dword() | (erase as u32) << 9,
        timeout: FORMAT,
        ..NvmeCommand::default()
    };
    send(device, "Format NVM", command, &mut [])
}

/// What a sanitize does (SANACT, section 5.22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeAction {
    /// Erases all blocks.
    Block = 2,
    /// Forgets the key.
    Key = 4,
}

/// Begins a sanitize of the whole subsystem, which goes on by itself, even when the power is cut. May be left again where it fails (AUSE).
pub fn begin_sanitize(device: &dyn Commands, action: SanitizeAction) -> Result<(), CommandError> {
    const UNRESTRICTED_EXIT: u32 = 1 << 3;
    let command = NvmeCommand {
        opcode: 0x84,
        namespace: 0,
        dword10: UNRESTRICTED_EXIT | action as u32,
        timeout: Duration::from_mins(1),
        ..NvmeCommand::default()
    };
    send(device, "Sanitize", command, &mut [])
}

/// Leaves the state that a failed sanitize left the disk in, in which it refuses to be read and written.
pub fn leave_failed_sanitize(device: &dyn Commands) -> Result<(), CommandError> {
    let command =
        NvmeCommand { opcode: 0x84, dword10: 1, timeout: SHORT, ..NvmeCommand::default() };
    send(device, "Sanitize (exit failure mode)", command, &mut [])
}

/// How far a sanitize is (log page 0x81, section 5.16.1.25).
pub fn sanitize_status(device: &dyn Commands) -> Result<SanitizeStatus, CommandError> {
    Ok(SanitizeStatus::parse(&log_page(device, 0x81)?))
}
