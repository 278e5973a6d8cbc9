//! Erasing disks that are simulated: their bytes, their commands, and what goes wrong.

use std::{
    io,
    sync::{Mutex, MutexGuard},
};

use bty_sys::{NvmeCommand, ScsiAnswer, ScsiData};

use super::*;
use crate::ata::identify_tests::block as identity;

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;

/// What a simulated disk is, and what it does wrong.
#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// ATA passwords: what is set, whether it is locked, whether an erase was prepared.
    password: Option<Vec<u8>>,
    is_locked: bool,
    is_prepared: bool,
    /// The ATA or NVMe commands that were carried out, in order.
    seen: Vec<u8>,
    /// Commands that fail.
    refuses: Vec<u8>,
    /// Says that it is done, and erases nothing.
    lies: bool,
    /// Looks until a sanitize is done.
    sanitizing: Option<u32>,
    sanitize_fails: bool,
    is_unwritable: bool,
    /// What an erase leaves.
    leaves: u8,
    /// A namespace that another controller has.
    other_namespace: u8,
}

struct Simulated {
    state: Mutex<State>,
    discards: bool,
    ata: bool,
    sanicap: u8,
}

impl Simulated {
    fn new() -> Self {
        let bytes = (0..SIZE).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
        let state = Mutex::new(State { bytes, ..State::default() });
        Self { state, discards: false, ata: false, sanicap: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn disk(&self) -> Disk {
        let transport = match (self.ata, self.sanicap) {
            (true, _) => "sata",
            (_, 0) => "virtio",
            _ => "nvme",
        };
        Disk { transport: transport.into(), ..Disk::default() }
    }

    fn erase(&self, how: How) -> Result<Erased, EraseError> {
        self.erase_unless(how, &AtomicBool::new(false))
    }

    fn erase_unless(&self, how: How, cancelled: &AtomicBool) -> Result<Erased, EraseError> {
        let offer = look(self, &self.disk(), how)?;
        erase(self, &choose(how, &offer), &offer, cancelled, &|_| {})
    }

    fn has_blank_edges(&self) -> bool {
        let state = self.state();
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        is_zero(&state.bytes[..MIB]) && is_zero(&state.bytes[SIZE - MIB..])
    }
}

impl State {
    fn wipe(&mut self) {
        if !self.lies {
            let leaves = self.leaves;
            self.bytes.fill(leaves);
        }
    }

    fn range(&mut self, offset: u64, bytes: u64) -> io::Result<&mut [u8]> {
        if self.is_locked || self.is_unwritable || self.sanitizing.is_some() {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(&mut self.bytes[usize::try_from(offset).unwrap()..][..usize::try_from(bytes).unwrap()])
    }

    fn ata(&mut self, code: u8, data: ScsiData<'_>) -> bool {
        self.seen.push(code);
        if self.refuses.contains(&code) {
            return false;
        }
        let given = match &data {
            ScsiData::ToDevice(block) => block[2..34].to_vec(),
            _ => Vec::new(),
        };
        let is_right = self.password.as_ref() == Some(&given);
        match code {
            0xec => {
                let ScsiData::FromDevice(room) = data else { return false };
                let bits = 0x21 | u16::from(self.password.is_some()) << 1;
                let bits = bits | u16::from(self.is_locked) << 2;
                let words = [(82, 2), (83, 0x4000), (89, 1), (90, 1), (128, bits)];
                room.copy_from_slice(&identity(&words));
                true
            }
            0xf1 => {
                self.password = Some(given);
                true
            }
            0xf2 => {
                self.is_locked &= !is_right;
                is_right
            }
            0xf3 => {
                self.is_prepared = true;
                true
            }
            0xf4 if self.is_prepared && is_right => {
                self.password = None;
                self.wipe();
                true
            }
            0xf6 if is_right && !self.is_locked => {
                self.password = None;
                true
            }
            _ => false,
        }
    }
}

impl Target for Simulated {
    fn size_bytes(&self) -> u64 {
        SIZE as u64
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state().range(offset, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.copy_from_slice(self.state().range(offset, buffer.len() as u64)?);
        Ok(())
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let lies = state.lies;
        let range = state.range(offset, bytes)?;
        if !lies {
            range.fill(0);
        }
        Ok(())
    }

    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let (leaves, lies) = (state.leaves, state.lies);
        let range = state.range(offset, bytes)?;
        if !lies {
            range.fill(leaves);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Commands for Simulated {
    fn nvme_namespace(&self) -> io::Result<u32> {
        Ok(1)
    }

    fn nvme(&self, command: NvmeCommand, data: &mut [u8]) -> io::Result<u16> {
        let mut state = self.state();
        state.seen.push(command.opcode);
        if state.refuses.contains(&command.opcode) {
            return Ok(0x4002);
        }
        match (command.opcode, command.dword10 & 0xff) {
            // The controller: format, and what sanitizes it has; a list of one namespace.
            (0x06, 1) => (data[256], data[328]) = (2, self.sanicap),
            (0x06, 2) => data[0] = 1,
            (0x06, 0x10) => (data[0], data[4]) = (1, state.other_namespace),
            (0x06, _) => {}
            (0x02, 0x81) => {
                data[2] = match state.sanitizing {
                    None => u8::from(state.sanitize_fails) * 3,
                    Some(0) if state.sanitize_fails => 3,
                    Some(0) => 1,
                    Some(_) => 2,
                };
                match state.sanitizing {
                    Some(0) => state.sanitizing = None,
                    Some(left) => {
                        data[1] = 0x80;
                        state.sanitizing = Some(left - 1);
                    }
                    None => {}
                }
            }
            (0x84, 1) => state.sanitize_fails = false,
            (0x84, _) => {
                state.wipe();
                state.sanitizing = Some(1);
            }
            (0x80, _) => state.wipe(),
            _ => return Ok(1),
        }
        Ok(0)
    }

    fn scsi(&self, block: &[u8], data: ScsiData<'_>, _: Duration) -> io::Result<ScsiAnswer> {
        let is_done = self.ata && self.state().ata(block[14], data);
        // Aborted, or, of what knows no ATA: an invalid operation code.
        let (status, key) = (if is_done { 0 } else { 2 }, if self.ata { 0xb } else { 5 });
        let sense = if is_done { Vec::new() } else { vec![0x70, 0, key, 0, 0, 0, 0, 0] };
        Ok(ScsiAnswer { status, host_status: 0, sense })
    }

    fn takes_discards(&self) -> bool {
        self.discards
    }
}

fn ata() -> Simulated {
    Simulated { ata: true, ..Simulated::new() }
}

fn nvme(sanicap: u8) -> Simulated {
    Simulated { sanicap, ..Simulated::new() }
}

#[test]
fn what_another_controller_has_is_not_sanitized() {
    let disk = nvme(3);
    disk.state().other_namespace = 2;
    assert_eq!(disk.erase(How::Auto).unwrap().way, Way::FormatData);
    let problem = disk.erase(How::NvmeSanitize).unwrap_err().to_string();
    assert!(problem.contains("1 more of the controller's namespaces"), "{problem}");
}

#[test]
fn an_ata_disk_is_erased_with_a_password_that_goes_with_it() {
    let disk = ata();
    let erased = disk.erase(How::Auto).unwrap();
    assert_eq!((erased.way, erased.attempts.len()), (Way::AtaEnhanced, 0));
    assert!(erased.reading.is_zeros() && disk.has_blank_edges());
    let state = disk.state();
    assert_eq!(state.password, None);
    assert_eq!(state.seen, [0xec, 0xf1, 0xf3, 0xf4, 0xec]);
}

#[test]
fn an_ata_erase_that_fails_leaves_no_password_and_the_next_way_is_tried() {
    let disk = ata();
    disk.state().refuses = vec![0xf4];
    let erased = disk.erase(How::Auto).unwrap();
    let tried: Vec<Way> = erased.attempts.iter().map(|(way, _)| *way).collect();
    assert_eq!((erased.way, tried), (Way::Zeroes, vec![Way::AtaEnhanced, Way::AtaErase]));
    assert_eq!(disk.state().password, None);
}

#[test]
fn a_password_that_stays_is_said_and_nothing_else_is_tried() {
    let disk = ata();
    disk.state().refuses = vec![0xf4, 0xf6];
    let problem = disk.erase(How::Auto).unwrap_err();
    let EraseError::Locked(why) = &problem else { panic!("{problem:?}") };
    let said = why.to_string();
    assert!(said.contains(PASSWORD) && said.contains("--security-unlock"), "{said}");
    assert!(said.contains("refuses SECURITY ERASE UNIT"), "{said}");
    assert!(disk.state().password.is_some());
    // Once more, when the disk has been without power.
    let mut state = disk.state();
    state.is_locked = true;
    state.refuses.clear();
    drop(state);
    assert_eq!(disk.erase(How::AtaSecureErase).unwrap().way, Way::AtaEnhanced);
    assert!(!disk.state().is_locked && disk.state().password.is_none());
}

#[test]
fn another_ones_password_is_left_alone() {
    let disk = ata();
    disk.state().password = Some(vec![b'x'; 32]);
    disk.state().is_locked = true;
    let problem = disk.erase(How::AtaSecureErase).unwrap_err();
    assert!(problem.to_string().contains("not bty's"), "{problem}");
    assert!(matches!(disk.erase(How::Auto).unwrap_err(), EraseError::Blank(_)));
    assert!(disk.state().password.is_some());
}

#[test]
fn a_sanitize_is_waited_for() {
    let disk = nvme(3);
    let erased = disk.erase(How::NvmeSanitize).unwrap();
    assert_eq!((erased.way, erased.attempts.len()), (Way::SanitizeKey, 0));
    assert!(disk.has_blank_edges());
}

#[test]
fn what_lost_its_key_reads_as_noise_and_has_blank_edges_all_the_same() {
    let disk = nvme(1);
    disk.state().leaves = 0x5a;
    let erased = disk.erase(How::Auto).unwrap();
    assert_eq!((erased.way, erased.reading.zeros), (Way::SanitizeKey, 0));
    assert!(!erased.reading.is_zeros() && disk.has_blank_edges());
}

#[test]
fn a_sanitize_that_fails_is_left_and_a_format_does_it() {
    let disk = nvme(2);
    disk.state().sanitize_fails = true;
    let erased = disk.erase(How::Auto).unwrap();
    assert_eq!(erased.way, Way::FormatData);
    assert!(matches!(erased.attempts[..], [(Way::SanitizeBlocks, Failed::SanitizeFailed)]));
}

#[test]
fn a_disk_that_sanitizes_already_is_left_alone() {
    let disk = nvme(2);
    disk.state().sanitizing = Some(9);
    let problem = disk.erase(How::Auto).unwrap_err();
    assert!(problem.to_string().contains("50 %"), "{problem}");
}

#[test]
fn a_sanitize_that_is_called_off_goes_on() {
    let (disk, cancelled) = (nvme(2), AtomicBool::new(false));
    let offer = look(&disk, &disk.disk(), How::NvmeSanitize).unwrap();
    let plan = choose(How::NvmeSanitize, &offer);
    let problem = erase(&disk, &plan, &offer, &cancelled, &|said| {
        if matches!(said, Said::Trying(_)) {
            cancelled.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(problem, Err(EraseError::Cancelled { goes_on: true })), "{problem:?}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    for (disk, how) in
        [(ata(), How::AtaSecureErase), (nvme(1), How::NvmeSanitize), (nvme(1), How::NvmeFormat)]
    {
        disk.state().lies = true;
        let problem = disk.erase(how).unwrap_err();
        assert!(problem.to_string().contains("still hold what they held"), "{problem}");
        assert!(problem.to_string().contains("NOT erased"), "{problem}");
        assert!(disk.has_blank_edges(), "it doesn't boot at least");
    }
    let disk = Simulated { discards: true, ..Simulated::new() };
    disk.state().lies = true;
    let problem = disk.erase(How::Auto).unwrap_err().to_string();
    assert!(
        problem.contains("discard: ") && problem.contains("reads as something else"),
        "{problem}"
    );
}

#[test]
fn a_disk_without_commands_is_made_zero() {
    let disk = Simulated::new();
    let erased = disk.erase(How::Auto).unwrap();
    assert_eq!((erased.way, erased.attempts.len()), (Way::Zeroes, 0));
    assert!(disk.state().bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_disk_that_can_not_do_it_is_not_touched() {
    for (disk, how) in [
        (Simulated::new(), How::NvmeSanitize),
        (Simulated::new(), How::AtaSecureErase),
        (Simulated::new(), How::Discard),
        (nvme(4), How::NvmeSanitize),
    ] {
        let before = disk.state().bytes.clone();
        let problem = disk.erase(how).unwrap_err();
        assert!(matches!(problem, EraseError::NotOffered { .. }), "{problem:?}");
        assert!(disk.state().bytes == before);
    }
}

#[test]
fn a_disk_that_refuses_writes_is_not_said_to_be_erased() {
    let disk = Simulated { discards: true, ..Simulated::new() };
    disk.state().is_unwritable = true;
    assert!(matches!(disk.erase(How::Auto).unwrap_err(), EraseError::Blank(_)));
}

#[test]
fn an_erase_that_is_called_off_does_not_boot() {
    for how in [How::Zeroes, How::Discard] {
        let disk = Simulated { discards: true, ..Simulated::new() };
        let problem = disk.erase_unless(how, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(problem, EraseError::Cancelled { goes_on: false }));
        assert!(disk.has_blank_edges());
    }
}
