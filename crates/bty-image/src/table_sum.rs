//! CRC-32C as tables of virtual disks and metadata of file systems carry it: over themselves.

/// The checksum of a structure, with the four bytes that it is kept in taken as zeros.
pub(crate) fn of_table(table: &[u8], kept_at: usize) -> u32 {
    let (before, rest) = table.split_at_checked(kept_at).unwrap_or((table, &[]));
    let kept_bytes = rest.len().min(4);
    let crc = crc32c::crc32c(before);
    let crc = crc32c::crc32c_append(crc, [0; 4].get(..kept_bytes).unwrap_or_default());
    crc32c::crc32c_append(crc, rest.get(kept_bytes..).unwrap_or_default())
}

/// Goes on with a checksum, without the inversions that begin and end one: as ext4 has it.
pub(crate) fn go_on(crc: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720, appendix B.4.
        assert_eq!(of_table(&[0; 32], usize::MAX), 0x8a91_36aa);
        assert_eq!(of_table(b"123456789", usize::MAX), 0xe306_9283);
        assert_eq!(of_table(&[0, 0, 7, 7, 7, 7, 0, 0], 2), of_table(&[0; 8], usize::MAX));
        assert_eq!(!go_on(go_on(u32::MAX, b"12345"), b"6789"), 0xe306_9283);
        assert_eq!(of_table(&[0, 0, 7], 2), of_table(&[0; 3], usize::MAX));
    }
}
