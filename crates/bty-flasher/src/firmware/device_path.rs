//! UEFI device paths (UEFI 2.10, section 10): the few nodes that say which file on which partition, and that a path goes over a
//! network. Everything else is kept as it is.

/// A node's header: type, subtype, length in two bytes.
const HEADER_BYTES: usize = 4;
/// A node for a partition, header included (10.3.5.1).
const HARD_DRIVE_BYTES: u16 = 42;

const MESSAGING: u8 = 3;
const MEDIA: u8 = 4;
const END: u8 = 0x7f;
const MAC_ADDRESS: u8 = 11;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
const END_ENTIRE: u8 = 0xff;

/// A partition, as firmware finds it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardDrive {
    /// Its number, from 1.
    pub partition: u32,
    /// Its first sector.
    pub start: u64,
    /// Its sectors.
    pub size: u64,
    /// What tells its disk or itself from others.
    pub signature: Signature,
}

/// What tells a partition from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// A GPT partition's own GUID, in the order of its bytes on the disk.
    Guid([u8; 16]),
    /// The disk's signature in its master boot record.
    Mbr(u32),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A partition.
    HardDrive(HardDrive),
    /// A file, or a piece of its path.
    File(String),
    /// A network card.
    Network,
    /// Anything else: type, subtype.
    Other(u8, u8),
}

/// The nodes of the first path; `None` where the bytes are no device path.
pub fn parse(bytes: &[u8]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut rest = bytes;
    loop {
        let &[kind, sub, low, high] = rest.first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let data = rest.get(HEADER_BYTES..length)?;
        // The end of all, or of the first of several: firmware tries the first.
        if kind == END {
            return Some(nodes);
        }
        nodes.push(match (kind, sub) {
            (MEDIA, HARD_DRIVE) => hard_drive(data).map_or(Node::Other(kind, sub), Node::HardDrive),
            (MEDIA, FILE_PATH) => Node::File(text(data)),
            (MESSAGING, MAC_ADDRESS) => Node::Network,
            _ => Node::Other(kind, sub),
        });
        rest = rest.get(length..)?;
    }
}

/// The path of a file on a partition, which firmware completes by looking for the partition.
pub fn of_file(drive: &HardDrive, file: &str) -> Vec<u8> {
    let mut path = vec![MEDIA, HARD_DRIVE];
    path.extend(HARD_DRIVE_BYTES.to_le_bytes());
    path.extend(drive.partition.to_le_bytes());
    path.extend(drive.start.to_le_bytes());
    path.extend(drive.size.to_le_bytes());
    let (signature, format) = match drive.signature {
        Signature::Mbr(signature) => {
            let mut field = [0; 16];
            let (low, _) = field.split_at_mut(4);
            low.copy_from_slice(&signature.to_le_bytes());
            (field, 1)
        }
        Signature::Guid(guid) => (guid, 2),
    };
    path.extend(signature);
    // The table's format and the signature's kind have the same numbers.
    path.extend([format, format]);
    let name: Vec<u8> = file.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let length = u16::try_from(HEADER_BYTES + name.len()).unwrap_or(u16::MAX);
    path.extend([MEDIA, FILE_PATH]);
    path.extend(length.to_le_bytes());
    path.extend(name);
    path.extend([END, END_ENTIRE, 4, 0]);
    path
}

/// The partition and the file that a path ends with; `None` where it ends otherwise.
pub fn file_of(nodes: &[Node]) -> Option<(HardDrive, String)> {
    let (at, drive) = nodes.iter().enumerate().find_map(|(at, node)| match node {
        Node::HardDrive(drive) => Some((at, *drive)),
        _ => None,
    })?;
    let pieces = nodes.get(at + 1..).unwrap_or_default().iter().map(|node| match node {
        Node::File(piece) => Some(piece.trim_matches('\\')),
        _ => None,
    });
    let mut pieces = pieces.collect::<Option<Vec<&str>>>()?;
    pieces.retain(|piece| !piece.is_empty());
    if pieces.is_empty() {
        return None;
    }
    Some((drive, format!("\\{}", pieces.join("\\"))))
}

fn hard_drive(data: &[u8]) -> Option<HardDrive> {
    let (partition, rest) = data.split_first_chunk::<4>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (signature, kinds) = rest.split_first_chunk::<16>()?;
    let signature = match kinds {
        [1, 1] => Signature::Mbr(u32::from_le_bytes(*signature.first_chunk()?)),
        [2, 2] => Signature::Guid(*signature),
        _ => return None,
    };
    Some(HardDrive {
        partition: u32::from_le_bytes(*partition),
        start: u64::from_le_bytes(*start),
        size: u64::from_le_bytes(*size),
        signature,
    })
}

/// Text of 16-bit units, to its NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRIVE: HardDrive = HardDrive {
        partition: 2,
        start: 4096,
        size: 16384,
        signature: Signature::Guid(*b"0123456789abcdef"),
    };

    #[test]
    fn a_path_is_laid_out_as_efibootmgr_lays_it_out() {
        let path = of_file(&DRIVE, "\\A");
        let want = [
            &[4, 1, 42, 0, 2, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0][..],
            b"0123456789abcdef",
            &[2, 2],
            &[4, 4, 10, 0, b'\\', 0, b'A', 0, 0, 0],
            &[0x7f, 0xff, 4, 0],
        ];
        assert_eq!(path, want.concat());
    }

    #[test]
    fn what_leads_to_the_partition_and_pieces_of_a_file_make_no_difference() {
        let pieces = |names: &[&str]| {
            let mut nodes = vec![Node::Other(2, 1), Node::Other(1, 1), Node::HardDrive(DRIVE)];
            nodes.extend(names.iter().map(|name| Node::File((*name).to_owned())));
            file_of(&nodes)
        };
        let want = Some((DRIVE, "\\EFI\\debian\\shimx64.efi".to_owned()));
        assert_eq!(pieces(&["\\EFI\\debian\\shimx64.efi"]), want);
        assert_eq!(pieces(&["\\EFI\\debian", "shimx64.efi"]), want);
        assert_eq!(pieces(&["\\EFI\\debian\\", "\\", "\\shimx64.efi"]), want);
        assert_eq!(pieces(&[]), None);
        assert_eq!(pieces(&["\\"]), None);
        assert_eq!(file_of(&[Node::File("\\A".into())]), None);
        assert_eq!(file_of(&[Node::HardDrive(DRIVE), Node::Other(4, 3)]), None);
    }

    #[test]
    fn a_path_over_a_network_is_told_from_others() {
        // PciRoot(0)/Pci(2,0)/MAC(...), as OVMF writes it.
        let mut path = vec![2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0, 1, 1, 6, 0, 0, 2];
        path.extend([3, 11, 37, 0]);
        path.extend([0; 33]);
        path.extend([0x7f, 0xff, 4, 0]);
        assert_eq!(parse(&path), Some(vec![Node::Other(2, 1), Node::Other(1, 1), Node::Network]));
    }

    #[test]
    fn what_is_cut_off_or_goes_in_circles_is_no_path() {
        let path = of_file(&DRIVE, "\\A");
        for length in 0..path.len() {
            assert_eq!(parse(path.get(..length).unwrap()), None, "{length} bytes");
        }
        assert_eq!(parse(&[4, 4, 0, 0, 0x7f, 0xff, 4, 0]), None, "a node shorter than its header");
    }

    fn any_signature() -> impl Strategy<Value = Signature> {
        prop_oneof![
            any::<[u8; 16]>().prop_map(Signature::Guid),
            any::<u32>().prop_map(Signature::Mbr)
        ]
    }

    proptest! {
        #[test]
        fn a_file_reads_back(
            partition: u32, start: u64, size: u64, signature in any_signature(), name in "[^\0\\\\]{1,60}",
        ) {
            let drive = HardDrive { partition, start, size, signature };
            let file = format!("\\EFI\\{name}");
            let nodes = parse(&of_file(&drive, &file)).unwrap();
            prop_assert_eq!(file_of(&nodes), Some((drive, file)));
        }

        #[test]
        fn any_bytes_are_parsed_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let nodes = parse(&bytes).unwrap_or_default();
            prop_assert!(nodes.len() * HEADER_BYTES <= bytes.len());
        }
    }
}
