//! Fields of structures on disks: numbers, texts and UUIDs, where there are enough bytes.

/// Two bytes, the lower first.
pub(crate) fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(array(bytes, at)?))
}

/// Four bytes, the lowest first.
pub(crate) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(array(bytes, at)?))
}

/// Eight bytes, the lowest first.
pub(crate) fn u64_le(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array(bytes, at)?))
}

/// Two bytes, the higher first.
pub(crate) fn u16_be(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(array(bytes, at)?))
}

/// Four bytes, the highest first.
pub(crate) fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(array(bytes, at)?))
}

/// Eight bytes, the highest first.
pub(crate) fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(array(bytes, at)?))
}

/// So many bytes.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Whether these bytes are there.
pub(crate) fn has(bytes: &[u8], at: usize, wanted: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(wanted))
}

/// Text of a fixed length, to its first NUL, without blanks around it and what a terminal obeys.
pub(crate) fn text(bytes: &[u8], at: usize, length: usize) -> String {
    let bytes = bytes.get(at..).unwrap_or_default();
    let bytes = bytes.get(..length.min(bytes.len())).unwrap_or_default();
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    plain(&String::from_utf8_lossy(bytes))
}

/// UTF-16 text, the lower byte first, to its first NUL.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|&unit| unit != 0);
    let text: String = char::decode_utf16(units)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    plain(&text)
}

fn plain(text: &str) -> String {
    text.trim().chars().filter(|character| !character.is_control()).collect()
}

/// A UUID as people write it; empty where all its bytes are zero.
pub(crate) fn uuid(bytes: &[u8], at: usize) -> String {
    let Some(uuid) = array::<16>(bytes, at).filter(|uuid| *uuid != [0; 16]) else {
        return String::new();
    };
    let number = u128::from_be_bytes(uuid);
    let part = |from: u32, digits: usize| {
        format!("{:0digits$x}", number >> from & ((1 << (digits * 4)) - 1))
    };
    format!("{}-{}-{}-{}-{}", part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_people_write_it() {
        let bytes: Vec<u8> = (0..16).map(|n| n * 17).collect();
        assert_eq!(uuid(&bytes, 0), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!((uuid(&[0; 16], 0), uuid(&[1; 15], 0)), (String::new(), String::new()));
    }

    #[test]
    fn texts_end_at_their_nul() {
        assert_eq!(text(b"xx root \0 rubbish", 2, 12), "root");
        assert_eq!(text(b"a\x1b[2J\xff", 0, 99), "a[2J\u{fffd}");
        assert_eq!(text(b"a", 5, 3), "");
        assert_eq!(utf16(b"E\0S\0P\0\0\0x\0"), "ESP");
    }
}
