//! The Security feature set of an ATA disk (ACS-4, section 4.17): a password is set, the disk is erased, which takes the password away.
//!
//! The password is always the same and is told to the person: a disk whose erase was cut off by a power cut can be opened again, and bty
//! opens it by itself when it is run again.

use std::time::Duration;

use bty_sys::ScsiData;

use super::{AtaOffer, Failed};
use crate::{
    ata::{AtaCommand, BLOCK_BYTES, EraseTime, Security, identify, send},
    commands::{CommandError, Commands},
};

/// The password that the disk has while it is erased.
pub const PASSWORD: &str = "bty-erase";

const SET_PASSWORD: (&str, u8) = ("SECURITY SET PASSWORD", 0xf1);
const UNLOCK: (&str, u8) = ("SECURITY UNLOCK", 0xf2);
const ERASE_PREPARE: (&str, u8) = ("SECURITY ERASE PREPARE", 0xf3);
const ERASE_UNIT: (&str, u8) = ("SECURITY ERASE UNIT", 0xf4);
const DISABLE_PASSWORD: (&str, u8) = ("SECURITY DISABLE PASSWORD", 0xf6);

/// For everything but the erase.
const SHORT: Duration = Duration::from_secs(30);
/// Added to twice what the disk says that an erase takes.
const GRACE: Duration = Duration::from_hours(1);
/// How long an erase may take of which the disk says nothing.
const UNKNOWN: Duration = Duration::from_hours(24);

/// Of the first word of an erase's data: the enhanced one.
const ENHANCED: u8 = 1 << 1;

/// What the disk has now.
pub(super) fn offer(device: &dyn Commands) -> Result<AtaOffer, CommandError> {
    let identity = identify(device, SHORT)?;
    Ok(AtaOffer {
        security: identity.security,
        erase_time: identity.erase_time,
        enhanced_erase_time: identity.enhanced_erase_time,
    })
}

/// Takes bty's own password off a disk whose erase was cut off; gives what the disk has then. Another's password stays.
pub(super) fn reopen(device: &dyn Commands, offer: AtaOffer) -> Result<AtaOffer, CommandError> {
    let Security { is_supported, is_enabled, is_locked, is_frozen, is_expired, .. } =
        offer.security;
    if !is_supported || !is_enabled || is_frozen || is_expired {
        return Ok(offer);
    }
    if open(device, is_locked).is_err() {
        return Ok(offer);
    }
    self::offer(device)
}

/// Unlocks the disk and takes the password off.
fn open(device: &dyn Commands, is_locked: bool) -> Result<(), CommandError> {
    if is_locked {
        with_password(device, UNLOCK, 0, SHORT)?;
    }
    with_password(device, DISABLE_PASSWORD, 0, SHORT)
}

/// Erases. On a failure the password is taken off again; where that fails too, the error says it.
pub(super) fn erase(
    device: &dyn Commands,
    is_enhanced: bool,
    time: EraseTime,
) -> Result<(), Failed> {
    let mode = if is_enhanced { ENHANCED } else { 0 };
    // One that was not answered may have set the password.
    let erased = with_password(device, SET_PASSWORD, 0, SHORT)
        .and_then(|()| send(device, command(ERASE_PREPARE, SHORT), ScsiData::None))
        .and_then(|_| with_password(device, ERASE_UNIT, mode, limit(time)));
    // Whatever was answered: the disk itself knows whether it still has a password.
    let security = offer(device).map(|offer| offer.security);
    match (erased, security) {
        (Ok(()), Ok(Security { is_enabled: false, .. })) => Ok(()),
        (erased, security) => {
            let is_locked = security.as_ref().is_ok_and(|security| security.is_locked);
            let is_free = security.is_ok_and(|security| !security.is_enabled);
            let problem = erased.err().map(Box::new);
            if is_free || open(device, is_locked).is_ok() {
                return Err(problem.map_or(Failed::PasswordStayed, |problem| (*problem).into()));
            }
            Err(Failed::Locked { password: PASSWORD, problem })
        }
    }
}

fn limit(time: EraseTime) -> Duration {
    match time {
        EraseTime::Minutes(minutes) => Duration::from_mins(2 * u64::from(minutes)) + GRACE,
        EraseTime::MoreThan(minutes) => Duration::from_mins(4 * u64::from(minutes)) + UNKNOWN,
        EraseTime::Unknown => UNKNOWN,
    }
}

const fn command((name, code): (&'static str, u8), timeout: Duration) -> AtaCommand {
    AtaCommand { name, code, features: 0, lba: 0, wants_registers: false, timeout }
}

/// A command whose data is the user password, and a first word with only this in it.
fn with_password(
    device: &dyn Commands,
    which: (&'static str, u8),
    mode: u8,
    timeout: Duration,
) -> Result<(), CommandError> {
    let mut block = [0; BLOCK_BYTES];
    block[0] = mode;
    // Words 1 to 16 (ACS-4, table 118).
    for (to, from) in block.iter_mut().skip(2).zip(PASSWORD.bytes()) {
        *to = from;
    }
    send(device, command(which, timeout), ScsiData::ToDevice(&block)).map(drop)
}
