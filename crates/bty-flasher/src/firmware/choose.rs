//! Which boot entry is used, and what is written for it. A function of what the firmware has.
//!
//! Firmware keeps its variables in a small flash that wears and fills: what is there is used, what bty made for this disk before is
//! changed, and only then is an entry made. The boot order stays as it is, unless the operator has told otherwise.

use std::collections::BTreeMap;

use super::{device_path::HardDrive, load_option::LoadOption};

/// What the firmware has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The contents of the variables `Boot####`, by number.
    pub(super) entries: BTreeMap<u16, Vec<u8>>,
    /// `BootOrder`.
    pub(super) order: Vec<u16>,
    /// `BootCurrent`: the entry that the live system came by.
    pub(super) current: Option<u16>,
}

/// What is to be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The partition.
    pub(super) drive: HardDrive,
    /// The program on it.
    pub(super) file: String,
    /// What bty calls its entry for this disk.
    pub(super) label: String,
}

/// The entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its number.
    pub(super) number: u16,
    /// What to write to it; nothing where it is right as it is.
    pub(super) content: Option<Vec<u8>>,
    /// Whether there is none of this number yet.
    pub(super) is_new: bool,
}

/// Chooses the entry; `None` where every number is taken.
pub(super) fn choose(known: &Known, wanted: &Wanted) -> Option<Choice> {
    let options = || {
        known
            .entries
            .iter()
            .filter_map(|(&number, bytes)| Some((number, LoadOption::parse(bytes)?)))
    };
    if let Some((number, _)) =
        options().find(|(_, option)| option.boots(&wanted.drive, &wanted.file))
    {
        return Some(Choice { number, content: None, is_new: false });
    }
    let ours = options().find(|(_, option)| option.label == wanted.label);
    // A number that only the boot order names is not free: an entry there would be in the order at once.
    let is_free = |number: &u16| {
        !known.entries.contains_key(number)
            && !known.order.contains(number)
            && known.current != Some(*number)
    };
    let is_new = ours.is_none();
    let number = ours.map(|(number, _)| number).or_else(|| (0..=u16::MAX).find(is_free))?;
    let content = LoadOption::build(&wanted.label, &wanted.drive, &wanted.file);
    Some(Choice { number, content: Some(content), is_new })
}

/// The boot order with the network first, then this entry, then the rest as it was; an error where it isn't known which entry is
/// the network's, since an order that is wrong strands the machine.
pub(super) fn reorder(known: &Known, number: u16) -> Result<Vec<u16>, &'static str> {
    let current = known.current.ok_or("the firmware does not say which entry it has booted")?;
    let option = known.entries.get(&current).and_then(|bytes| LoadOption::parse(bytes));
    if !option.is_some_and(|option| option.is_network()) {
        return Err("the entry that the firmware has booted is not the network's");
    }
    let first = [current, number];
    let rest = known.order.iter().copied().filter(|entry| !first.contains(entry));
    Ok(first.into_iter().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::device_path::Signature, *};

    const DRIVE: HardDrive =
        HardDrive { partition: 1, start: 2048, size: 4096, signature: Signature::Guid([7; 16]) };
    const SHIM: &str = "\\EFI\\debian\\shimx64.efi";

    fn wanted() -> Wanted {
        Wanted { drive: DRIVE, file: SHIM.into(), label: "bty: S1".into() }
    }

    fn entry(label: &str, start: u64) -> Vec<u8> {
        LoadOption::build(label, &HardDrive { start, ..DRIVE }, SHIM)
    }

    fn network() -> Vec<u8> {
        let mut bytes = vec![1, 0, 0, 0, 41, 0, b'P', 0, 0, 0, 3, 11, 37, 0];
        bytes.extend([0; 33]);
        bytes.extend([0x7f, 0xff, 4, 0]);
        bytes
    }

    fn known(entries: &[(u16, Vec<u8>)], order: &[u16], current: u16) -> Known {
        Known {
            entries: entries.iter().cloned().collect(),
            order: order.to_vec(),
            current: Some(current),
        }
    }

    #[test]
    fn an_entry_is_used_else_changed_else_made() {
        let fresh = || Some(entry("bty: S1", 2048));
        let rows = [
            ("nothing there", known(&[], &[], 0xffff), 0, fresh()),
            ("the system's own", known(&[(3, entry("debian", 2048))], &[3], 0), 3, None),
            ("bty's, right already", known(&[(9, entry("bty: S1", 2048))], &[], 0), 9, None),
            ("bty's of before", known(&[(9, entry("bty: S1", 999))], &[], 0), 9, fresh()),
            ("of another disk", known(&[(0, entry("bty: S2", 999))], &[0], 0), 1, fresh()),
            ("rubbish there", known(&[(0, vec![1, 2, 3])], &[], 0), 1, fresh()),
            ("a gap that the order names", known(&[(0, network())], &[0, 1, 2], 0), 3, fresh()),
            ("a gap that was booted", known(&[(0, network())], &[0], 1), 2, fresh()),
        ];
        for (name, known, number, content) in rows {
            let is_new = !known.entries.contains_key(&number);
            let want = Choice { number, content, is_new };
            assert_eq!(choose(&known, &wanted()), Some(want), "{name}");
        }
    }

    #[test]
    fn a_full_store_has_no_entry() {
        let entries: BTreeMap<u16, Vec<u8>> = (0..=u16::MAX).map(|n| (n, vec![])).collect();
        assert_eq!(choose(&Known { entries, ..Known::default() }, &wanted()), None);
    }

    #[test]
    fn the_network_stays_first_or_nothing_is_moved() {
        let entries = [(0, network()), (4, entry("debian", 2048))];
        assert_eq!(reorder(&known(&entries, &[2, 4, 0, 1], 0), 4), Ok(vec![0, 4, 2, 1]));
        assert_eq!(reorder(&known(&entries, &[], 0), 7), Ok(vec![0, 7]));
        assert!(reorder(&known(&entries, &[0], 4), 4).is_err(), "a disk was booted");
        assert!(reorder(&known(&entries, &[0], 5), 4).is_err(), "it is gone");
        let unsaid = Known { current: None, ..known(&entries, &[0], 0) };
        assert!(reorder(&unsaid, 4).is_err());
    }
}
