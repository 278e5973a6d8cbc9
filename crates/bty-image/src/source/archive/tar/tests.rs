//! What headers and maps may say, and that nothing in an archive makes the reader panic.

use proptest::prelude::*;

use super::*;

/// A header with the right checksum.
fn header(kind: u8, name: &str, bytes: u64) -> Vec<u8> {
    let mut block = name.as_bytes().to_vec();
    block.resize(512, 0);
    block[124..135].copy_from_slice(format!("{bytes:011o}").as_bytes());
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
    summed(block)
}

fn summed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// Whole blocks.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while format!("{length}{rest}").len() != length {
        length += 1;
    }
    format!("{length}{rest}")
}

fn pax(records: &str) -> Vec<u8> {
    [header(b'x', "pax", records.len() as u64), padded(records.as_bytes())].concat()
}

fn read(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    Member::open(archive)?.take(1 << 20).read_to_end(&mut raw)?;
    Ok(raw)
}

const END: [u8; 1024] = [0; 1024];

#[test]
fn the_only_file_is_read_and_folders_are_passed_over() {
    let disk = [7; 1024];
    for kind in [b'0', 0, b'7'] {
        let archive = [
            header(b'5', "folder/", 0),
            pax(&record("path", "folder/a very long name")),
            header(kind, "short", 1024),
            disk.to_vec(),
            header(b'5', "another/", 0),
            END.to_vec(),
        ];
        assert_eq!(read(&archive.concat()).unwrap(), disk);
    }
}

#[test]
fn what_else_is_in_an_archive_is_named() {
    let file = |name| [header(b'0', name, 512), vec![7; 512]].concat();
    for (archive, want) in [
        (END.to_vec(), "no file"),
        ([file("a.img"), file("b.img"), END.to_vec()].concat(), "a.img and b.img"),
        ([header(b'0', "README", 11), padded(b"hello world"), END.to_vec()].concat(), "README"),
        ([header(b'0', "empty", 0), END.to_vec()].concat(), "empty"),
        ([header(b'2', "link", 0), END.to_vec()].concat(), "link"),
        ([file("a.img"), header(b'1', "b.img", 0), END.to_vec()].concat(), "b.img"),
        (file("a.img"), "cut off"),
        ([file("a.img")[..700].to_vec()].concat(), "cut off"),
    ] {
        let shown = read(&archive).unwrap_err().to_string();
        assert!(shown.contains(want), "{want}: {shown}");
    }
}

#[test]
fn a_name_can_not_draw_on_a_terminal() {
    let archive = [header(b'0', "a\u{1b}[2J.img", 11), padded(b"hello world")].concat();
    assert!(!read(&archive).unwrap_err().to_string().contains('\u{1b}'));
}

#[test]
fn a_size_of_posix_and_one_of_many_bytes_count() {
    let by_pax = [pax(&record("size", "1024")), header(b'0', "a", 0), vec![7; 1024], END.to_vec()];
    let mut base256 = header(b'0', "a", 0);
    base256[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    let base256 = [summed(base256), vec![7; 1024], END.to_vec()];
    for archive in [by_pax.concat(), base256.concat()] {
        assert_eq!(read(&archive).unwrap(), [7; 1024]);
    }
}

#[test]
fn a_map_that_contradicts_itself_is_refused() {
    let sparse = |map: &str, stored: usize| {
        let records = [
            record("GNU.sparse.major", "1"),
            record("GNU.sparse.minor", "0"),
            record("GNU.sparse.name", "disk.raw"),
            record("GNU.sparse.realsize", "4096"),
        ];
        let map = padded(map.as_bytes());
        let size = (map.len() + stored) as u64;
        let parts = [pax(&records.concat()), header(b'0', "a", size), map];
        [parts.concat(), padded(&vec![7; stored]), END.to_vec()].concat()
    };
    let good = read(&sparse("2\n512\n512\n4096\n0\n", 512)).unwrap();
    assert_eq!(good, [vec![0; 512], vec![7; 512], vec![0; 3072]].concat());
    assert_eq!(read(&sparse("0\n", 0)).unwrap(), [0; 4096]);
    for (map, stored) in [
        ("1\n512\n512\n", 1024),
        ("1\n4000\n512\n", 512),
        ("2\n512\n512\n600\n512\n", 1024),
        ("2\n1024\n512\n0\n512\n", 1024),
        ("1\n18446744073709551615\n512\n", 512),
        ("99999999999999999999999\n", 0),
        ("-1\n", 0),
        ("3\n512\n512\n", 512),
    ] {
        let shown = read(&sparse(map, stored)).unwrap_err().to_string();
        assert!(shown.contains("damaged"), "{map:?}: {shown}");
    }
}

proptest! {
    #[test]
    fn any_blocks_are_an_archive_or_not(blocks in proptest::collection::vec((any::<u8>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..600)), 0..5)) {
        let mut archive = Vec::new();
        for (kind, bytes, rest) in blocks {
            let kind = b"05xLgSK17V"[usize::from(kind) % 10];
            archive.extend(header(kind, "a", bytes % 2048));
            archive.extend(padded(&rest));
        }
        let _ = read(&archive);
    }

    #[test]
    fn any_records_are_read_or_refused(records in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Pax::parse(&records);
    }

    #[test]
    fn any_map_gives_the_size_that_is_stated(
        parts in proptest::collection::vec((0..2000_u64, 0..2000_u64), 0..6),
        more in 0..2000_u64,
    ) {
        let (mut map, mut data, mut want, mut end) = (String::new(), Vec::new(), Vec::new(), 0);
        for (gap, bytes) in &parts {
            map += &format!("{}\n{bytes}\n", end + gap);
            end += gap + bytes;
            want.resize(want.len() + usize::try_from(*gap).unwrap(), 0);
            want.resize(want.len() + usize::try_from(*bytes).unwrap(), 7);
            data.resize(data.len() + usize::try_from(*bytes).unwrap(), 7);
        }
        let size = (end + more).next_multiple_of(512).max(512);
        want.resize(usize::try_from(size).unwrap(), 0);
        let map = padded(format!("{}\n{map}", parts.len()).as_bytes());
        let records = [
            record("GNU.sparse.major", "1"),
            record("GNU.sparse.minor", "0"),
            record("GNU.sparse.realsize", &size.to_string()),
        ];
        let stored = (map.len() + data.len()) as u64;
        let archive = [pax(&records.concat()), header(b'0', "a", stored), map, padded(&data), END.to_vec()];
        prop_assert_eq!(read(&archive.concat()).unwrap(), want);
    }
}
