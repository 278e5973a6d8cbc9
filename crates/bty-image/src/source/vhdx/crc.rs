//! CRC-32C, of tables that have 64 KiB at most.

/// The Castagnoli polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of a table, with the four bytes that it is kept in taken as zeros.
pub(super) fn of_table(table: &[u8], kept_at: usize) -> u32 {
    let kept = kept_at..kept_at.saturating_add(4);
    let bytes = table.iter().enumerate();
    let crc = bytes
        .fold(u32::MAX, |crc, (at, &byte)| next(crc, if kept.contains(&at) { 0 } else { byte }));
    !crc
}

fn next(crc: u32, byte: u8) -> u32 {
    (0..8)
        .fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
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
    }
}
