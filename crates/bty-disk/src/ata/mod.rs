//! ATA commands, sent through SCSI (SAT-4, section 12.2), and what a disk answers.

mod identify;

use std::time::Duration;

use bty_sys::{ScsiAnswer, ScsiData};

#[cfg(test)]
pub(crate) use identify::tests as identify_tests;
pub use identify::{EraseTime, Identity, Security};

use crate::commands::{CommandError, Commands};

/// Bytes of a block of ATA data.
pub const BLOCK_BYTES: usize = 512;

/// IDENTIFY DEVICE (ACS-4, section 7.13).
const IDENTIFY: u8 = 0xec;
/// SCSI's CHECK CONDITION (SAM-5, section 5.3.1).
const CHECK_CONDITION: u8 = 2;
/// Of the status register: the command failed, or the device is at fault (ACS-4, section 6.2).
const FAILED: u8 = 0x21;

/// A command that moves at most one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtaCommand {
    /// What it is called, for errors.
    pub name: &'static str,
    /// Which command.
    pub code: u8,
    /// The features register.
    pub features: u8,
    /// The lower 24 bits of the LBA registers.
    pub lba: u32,
    /// Whether the registers are wanted as they are afterwards.
    pub wants_registers: bool,
    /// How long the disk may take.
    pub timeout: Duration,
}

/// The registers after a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// Status.
    pub status: u8,
    /// Error.
    pub error: u8,
    /// The lower 24 bits of the LBA.
    pub lba: u32,
}

/// Carries out a command. Registers are given only where the adapter returns them.
pub fn send(
    device: &dyn Commands,
    command: AtaCommand,
    data: ScsiData<'_>,
) -> Result<Option<Registers>, CommandError> {
    let block = command_block(command, &data);
    let answer =
        device.scsi(&block, data, command.timeout).map_err(|source| match source.kind() {
            // What is no SCSI device at all.
            std::io::ErrorKind::Unsupported => CommandError::NoAta,
            _ if source.raw_os_error() == Some(ENOTTY) => CommandError::NoAta,
            _ => CommandError::Io { command: command.name, source },
        })?;
    read_answer(command.name, &answer)
}

/// No such ioctl.
const ENOTTY: i32 = 25;

/// The disk's description of itself.
pub fn identify(device: &dyn Commands, timeout: Duration) -> Result<Identity, CommandError> {
    let mut block = [0; BLOCK_BYTES];
    let command = AtaCommand {
        name: "IDENTIFY DEVICE",
        code: IDENTIFY,
        features: 0,
        lba: 0,
        wants_registers: false,
        timeout,
    };
    send(device, command, ScsiData::FromDevice(&mut block))?;
    Identity::parse(&block).ok_or(CommandError::Garbled)
}

/// ATA PASS-THROUGH (16).
fn command_block(command: AtaCommand, data: &ScsiData<'_>) -> [u8; 16] {
    /// Of byte 1: non-data, PIO data in, PIO data out.
    const PROTOCOL: [u8; 3] = [3 << 1, 4 << 1, 5 << 1];
    /// Of byte 2: return the registers; to the host; count in blocks, which is in the count field.
    const CK_COND: u8 = 1 << 5;
    const T_DIR: u8 = 1 << 3;
    const BLOCKS: u8 = 1 << 2 | 2;
    let (protocol, mut flags, count) = match data {
        ScsiData::None => (PROTOCOL[0], 0, 0),
        ScsiData::FromDevice(_) => (PROTOCOL[1], T_DIR | BLOCKS, 1),
        ScsiData::ToDevice(_) => (PROTOCOL[2], BLOCKS, 1),
    };
    if command.wants_registers {
        flags |= CK_COND;
    }
    let [low, middle, high, _] = command.lba.to_le_bytes();
    [
        0x85,
        protocol,
        flags,
        0,
        command.features,
        0,
        count,
        0,
        low,
        0,
        middle,
        0,
        high,
        0,
        command.code,
        0,
    ]
}

fn read_answer(
    command: &'static str,
    answer: &ScsiAnswer,
) -> Result<Option<Registers>, CommandError> {
    if answer.host_status != 0 {
        return Err(CommandError::Adapter { command, host_status: answer.host_status });
    }
    match registers(&answer.sense) {
        Some(Registers { status, error, .. }) if status & FAILED != 0 => {
            Err(CommandError::Ata { command, status, error })
        }
        Some(registers) => Ok(Some(registers)),
        None if answer.status != CHECK_CONDITION && answer.status != 0 => {
            Err(CommandError::Ata { command, status: answer.status, error: 0 })
        }
        None if answer.status == 0 => Ok(None),
        None => match sense_key(&answer.sense) {
            // Recovered: the registers were asked for, and the adapter has none to give.
            Some(1) => Ok(None),
            // Aborted: an ATA disk said no, and the adapter doesn't say more.
            Some(0xb) => Err(CommandError::Ata { command, status: 0x51, error: 4 }),
            _ => Err(CommandError::NoAta),
        },
    }
}

/// The sense key (SPC-5, section 4.4).
fn sense_key(sense: &[u8]) -> Option<u8> {
    let byte = match sense.first()? & 0x7f {
        0x72 | 0x73 => sense.get(1)?,
        0x70 | 0x71 => sense.get(2)?,
        _ => return None,
    };
    Some(byte & 0xf)
}

/// The registers in sense data: the ATA Status Return descriptor (SAT-4, section 12.2.2.6), or the same in fixed format (12.2.2.7), which
/// is told from other fixed sense by its code, "ATA pass-through information available".
fn registers(sense: &[u8]) -> Option<Registers> {
    let byte = |at: usize| sense.get(at).copied();
    match byte(0)? & 0x7f {
        0x72 | 0x73 => {
            let mut at = 8;
            while let (Some(kind), Some(length)) = (byte(at), byte(at + 1)) {
                if kind == 9 && length >= 12 {
                    let lba = u32::from_le_bytes([byte(at + 7)?, byte(at + 9)?, byte(at + 11)?, 0]);
                    return Some(Registers { error: byte(at + 3)?, status: byte(at + 13)?, lba });
                }
                at += 2 + usize::from(length);
            }
            None
        }
        0x70 | 0x71 if (byte(12)?, byte(13)?) == (0, 0x1d) => {
            let lba = u32::from_le_bytes([byte(9)?, byte(10)?, byte(11)?, 0]);
            Some(Registers { error: byte(3)?, status: byte(4)?, lba })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status_of_smart() -> AtaCommand {
        AtaCommand {
            name: "SMART RETURN STATUS",
            code: 0xb0,
            features: 0xda,
            lba: 0x00c2_4f00,
            wants_registers: true,
            timeout: Duration::from_secs(1),
        }
    }

    fn answer(status: u8, sense: &[u8]) -> ScsiAnswer {
        ScsiAnswer { status, host_status: 0, sense: sense.to_vec() }
    }

    #[test]
    fn commands_are_put_into_sixteen_bytes() {
        let block = command_block(status_of_smart(), &ScsiData::None);
        assert_eq!(block, [0x85, 6, 0x20, 0, 0xda, 0, 0, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0xb0, 0]);
        let erase = AtaCommand { code: 0xf4, wants_registers: false, lba: 0, ..status_of_smart() };
        let block = command_block(erase, &ScsiData::ToDevice(&[0; 512]));
        assert_eq!((block[1], block[2], block[6], block[14]), (10, 6, 1, 0xf4));
        let block = command_block(erase, &ScsiData::FromDevice(&mut [0; 512]));
        assert_eq!((block[1], block[2], block[6]), (8, 14, 1));
    }

    #[test]
    fn registers_come_in_both_formats_of_sense() {
        let mut descriptor = vec![0x72, 1, 0, 0x1d, 0, 0, 0, 14];
        descriptor.extend([9, 12, 0, 0, 0, 0, 0, 0, 0, 0xf4, 0, 0x2c, 0, 0x50]);
        let mut fixed = vec![0x70, 0, 1, 0, 0x50, 0, 0, 10, 0, 0, 0xf4, 0x2c, 0, 0x1d];
        fixed.extend([0; 4]);
        for sense in [descriptor, fixed] {
            let got = read_answer("x", &answer(2, &sense)).unwrap();
            assert_eq!(got, Some(Registers { status: 0x50, error: 0, lba: 0x002c_f400 }));
        }
        assert_eq!(read_answer("x", &answer(0, &[])).unwrap(), None);
    }

    #[test]
    fn a_disk_that_refuses_is_told_from_an_adapter_that_knows_no_ata() {
        let mut refused = vec![0x72, 0xb, 0, 0, 0, 0, 0, 14];
        refused.extend([9, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x51]);
        let cases: [(&[u8], &str); 4] = [
            (&refused, "refuses x (status 0x51, error 0x04)"),
            // Illegal request, invalid operation code: a USB stick, a SAS disk.
            (&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0], "takes no ATA commands"),
            (&[0x70, 0, 0xb, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0], "refuses x"),
            (&[], "takes no ATA commands"),
        ];
        for (sense, says) in cases {
            let problem = read_answer("x", &answer(2, sense)).unwrap_err().to_string();
            assert!(problem.contains(says), "{problem}");
        }
        let gone = ScsiAnswer { status: 0, host_status: 3, sense: Vec::new() };
        assert!(read_answer("x", &gone).unwrap_err().to_string().contains("a time-out"));
    }

    proptest! {
        #[test]
        fn any_sense_is_read(status: u8, host_status in 0_u16..3, sense in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_answer("x", &ScsiAnswer { status, host_status, sense });
        }
    }
}
