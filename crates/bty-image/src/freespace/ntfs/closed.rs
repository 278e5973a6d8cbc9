//! Whether an NTFS was closed: its dirty flag, its log, and whether a hibernated Windows will go on with it.

use super::super::map::{Doubt, Part, have};
use crate::{
    fields::{array, has, u16_le, u32_le, u64_le},
    inspect::filesystem::ntfs::{DATA, Geometry, VOLUME, attribute, runs},
};

/// The numbers of files.
const FILE_TABLE: u64 = 0;
const LOG: u64 = 2;
const ROOT: u64 = 5;
/// The sorts of attributes.
const VOLUME_INFORMATION: u32 = 0x70;
const ATTRIBUTE_LIST: u32 = 0x20;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
const DIRTY: u16 = 1;
/// In a log's restart area: nobody writes to it; it was closed.
const NO_CLIENT: u16 = u16::MAX;
const CLOSED: u16 = 2;
const NAME: &str = "hiberfil.sys";
/// What an image of memory begins with while Windows means to go on with it.
const AWAKE_FROM: [&[u8; 4]; 3] = [b"hibr", b"HIBR", b"RSTR"];
/// Bytes of the folder at the root that are looked at: it has some hundred names at most.
const MOST_FOLDER_BYTES: u64 = 4 << 20;
const PIECE_BYTES: u64 = 64 * 1024;
const SECTOR_BYTES: usize = 512;

/// Whether it was closed; why not, where it was not.
pub(super) fn check(part: &Part<'_>, geometry: &Geometry) -> Result<(), Doubt> {
    let volume = have(geometry.record(part, VOLUME))?;
    let value = attribute(&volume, VOLUME_INFORMATION).and_then(resident);
    if have(value.and_then(|value| u16_le(value, 10)))? & DIRTY != 0 {
        return Err(Doubt::Odd("it is marked dirty: chkdsk mends it"));
    }
    check_log(part, geometry)?;
    match is_hibernated(part, geometry) {
        Some(false) => Ok(()),
        Some(true) => {
            Err(Doubt::Odd("Windows hibernated and goes on with it: shut it down (shutdown /s)"))
        }
        None => Err(Doubt::Odd("whether Windows is hibernated can't be told")),
    }
}

/// The two pages that the log begins with say whether it was closed; they are written in turns, so the newer one counts. A log that was never
/// used is all ones.
fn check_log(part: &Part<'_>, geometry: &Geometry) -> Result<(), Doubt> {
    let record = have(geometry.record(part, LOG))?;
    let first = attribute(&record, DATA).and_then(|data| runs(data)?.first().copied());
    let (cluster, count) = have(first)?;
    let at = have(cluster.checked_mul(geometry.cluster_bytes))?;
    let bytes = have(count.checked_mul(geometry.cluster_bytes))?;
    let page = have(part.bytes(at, 4096))?;
    if page.iter().all(|&byte| byte == 0xff) {
        return Ok(());
    }
    let not_closed = Doubt::Odd("its log was not closed: Windows was not shut down, or hibernated");
    let size = u32_le(&page, 16).map(u64::from);
    let size = size.filter(|size| size.is_power_of_two() && (512..=PIECE_BYTES).contains(size));
    let (true, Some(size)) = (has(&page, 0, b"RSTR"), size.filter(|size| size * 2 <= bytes)) else {
        return Err(not_closed);
    };
    let mut pages = Vec::new();
    for number in 0..2 {
        pages.push(have(part.bytes(have(at.checked_add(number * size))?, size))?);
    }
    if have(was_closed(pages))? { Ok(()) } else { Err(not_closed) }
}

/// Whether the newer one of these pages says so. `None` where one is neither a page nor unused.
fn was_closed(mut pages: Vec<Vec<u8>>) -> Option<bool> {
    pages.retain(|page| page.iter().any(|&byte| byte != 0xff));
    let pages: Vec<(u64, bool)> = pages.into_iter().map(restart).collect::<Option<_>>()?;
    let newest = pages.iter().map(|(written, _)| *written).max();
    Some(pages.iter().all(|(written, is_closed)| Some(*written) != newest || *is_closed))
}

/// What a page at a log's beginning says: up to which record, and whether the log was closed.
fn restart(mut page: Vec<u8>) -> Option<(u64, bool)> {
    restore(&mut page)?;
    let area = usize::from(u16_le(&page, 24)?);
    let (client, flags) = (u16_le(&page, area + 12)?, u16_le(&page, area + 14)?);
    let is_closed = client == NO_CLIENT || flags & CLOSED != 0;
    has(&page, 0, b"RSTR").then_some((u64_le(&page, area)?, is_closed))
}

/// Whether Windows means to go on with an image of memory; `None` where that can't be told.
fn is_hibernated(part: &Part<'_>, geometry: &Geometry) -> Option<bool> {
    let root = geometry.record(part, ROOT)?;
    // What is in other records is not followed.
    if attribute(&root, ATTRIBUTE_LIST).is_some() {
        return None;
    }
    let index = attribute(&root, INDEX_ROOT).and_then(resident)?;
    // A block of the folder that is out of use may have an old entry, so each counts.
    let mut files: Vec<u64> = find(index.get(16..)?).into_iter().collect();
    if let Some(blocks) = attribute(&root, INDEX_ALLOCATION) {
        let size = u64::from(u32_le(index, 8)?);
        let is_sane = size.is_power_of_two() && (512..=PIECE_BYTES).contains(&size);
        let mut left = is_sane.then_some(MOST_FOLDER_BYTES)?;
        for (cluster, count) in runs(blocks)? {
            let start = cluster.checked_mul(geometry.cluster_bytes)?;
            let bytes = count.checked_mul(geometry.cluster_bytes)?;
            left = left.checked_sub(bytes)?;
            for at in (0..bytes).step_by(usize::try_from(size).ok()?) {
                let mut block = part.bytes(start.checked_add(at)?, size)?;
                if has(&block, 0, b"INDX") {
                    restore(&mut block)?;
                    files.extend(find(block.get(24..)?));
                }
            }
        }
    }
    files.sort_unstable();
    files.dedup();
    for file in files {
        let head = head(&record_of(part, geometry, file)?, part, geometry)?;
        if AWAKE_FROM.iter().any(|awake| head == **awake) {
            return Some(true);
        }
    }
    Some(false)
}

/// The first bytes of a file, zeros where it has none.
fn head(record: &[u8], part: &Part<'_>, geometry: &Geometry) -> Option<[u8; 4]> {
    let data = attribute(record, DATA)?;
    if let Some(value) = resident(data) {
        return Some(array(value, 0).unwrap_or_default());
    }
    let Some(&(cluster, _)) = runs(data)?.first() else { return Some([0; 4]) };
    let head = part.bytes(cluster.checked_mul(geometry.cluster_bytes)?, 4)?;
    array(&head, 0)
}

/// The number of the file with this name among the entries behind an index header.
fn find(header: &[u8]) -> Option<u64> {
    let mut rest = header.get(usize::try_from(u32_le(header, 0)?).ok()?..)?;
    loop {
        let length = usize::from(u16_le(rest, 8)?);
        let is_last = u16_le(rest, 12)? & 2 != 0;
        if is_last || length < 16 {
            return None;
        }
        // A name's attribute: its length in characters at 64, and the characters.
        let [characters] = array(rest, 16 + 64)?;
        let name = rest.get(16 + 66..)?.get(..usize::from(characters) * 2)?;
        if crate::fields::utf16(name).eq_ignore_ascii_case(NAME) {
            return Some(u64_le(rest, 0)? & 0xffff_ffff_ffff);
        }
        rest = rest.get(length..)?;
    }
}

/// A record of the file table, wherever the table goes on.
fn record_of(part: &Part<'_>, geometry: &Geometry, number: u64) -> Option<Vec<u8>> {
    let table = geometry.record(part, FILE_TABLE)?;
    let mut offset = number.checked_mul(geometry.record_bytes)?;
    for (cluster, count) in runs(attribute(&table, DATA)?)? {
        let bytes = count.checked_mul(geometry.cluster_bytes)?;
        if offset < bytes {
            let at = cluster.checked_mul(geometry.cluster_bytes)?.checked_add(offset)?;
            let mut record = part.bytes(at, geometry.record_bytes)?;
            restore(&mut record)?;
            return has(&record, 0, b"FILE").then_some(record);
        }
        offset -= bytes;
    }
    None
}

/// Puts the last bytes of a structure's sectors back, where they are what they should be.
fn restore(structure: &mut [u8]) -> Option<()> {
    let (at, count) = (usize::from(u16_le(structure, 4)?), usize::from(u16_le(structure, 6)?));
    let mark = array::<2>(structure, at)?;
    for sector in 1..count {
        let fix = array::<2>(structure, at + 2 * sector)?;
        let end = structure.get_mut(sector * SECTOR_BYTES - 2..sector * SECTOR_BYTES)?;
        if *end != mark {
            return None;
        }
        end.copy_from_slice(&fix);
    }
    Some(())
}

/// The value of an attribute that is in its record.
fn resident(attribute: &[u8]) -> Option<&[u8]> {
    if array(attribute, 8)? != [0] {
        return None;
    }
    let (length, at) = (u32_le(attribute, 16)?, u16_le(attribute, 20)?);
    attribute.get(usize::from(at)..)?.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of a log's beginning.
    fn page(written: u64, client: u16, flags: u16) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[..4].copy_from_slice(b"RSTR");
        page[4..6].copy_from_slice(&30_u16.to_le_bytes());
        page[6..8].copy_from_slice(&9_u16.to_le_bytes());
        page[24..26].copy_from_slice(&48_u16.to_le_bytes());
        page[48..56].copy_from_slice(&written.to_le_bytes());
        page[60..62].copy_from_slice(&client.to_le_bytes());
        page[62..64].copy_from_slice(&flags.to_le_bytes());
        page
    }

    #[test]
    fn the_newer_page_of_a_log_counts() {
        let (closed, open) = (|written| page(written, NO_CLIENT, 0), |written| page(written, 0, 0));
        assert_eq!(was_closed(vec![closed(7), open(6)]), Some(true));
        assert_eq!(was_closed(vec![closed(7), open(8)]), Some(false));
        assert_eq!(was_closed(vec![open(8), closed(7)]), Some(false));
        assert_eq!(was_closed(vec![closed(7), open(7)]), Some(false));
        assert_eq!(was_closed(vec![page(7, 0, CLOSED), vec![0xff; 4096]]), Some(true));
        let mut torn = closed(7);
        torn[1022] = 1;
        assert_eq!(was_closed(vec![torn, closed(6)]), None);
        assert_eq!(was_closed(vec![closed(7), vec![0; 4096]]), None);
    }
}
