//! CRC-32C (RFC 3720, appendix B.4), which tables of virtual disks and metadata of file systems carry.

/// The Castagnoli polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What each byte does to a checksum.
static TABLE: [u32; 256] = table();

/// Goes on with a checksum, without the inversions that begin and end one.
pub(crate) fn update(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| next(crc, byte))
}

/// The checksum of a structure, with the four bytes that it is kept in taken as zeros.
pub(crate) fn of_table(table: &[u8], kept_at: usize) -> u32 {
    let (before, rest) = table.split_at_checked(kept_at).unwrap_or((table, &[]));
    let kept = rest.len().min(4);
    let behind = rest.get(kept..).unwrap_or_default();
    let crc = update(u32::MAX, before);
    !update((0..kept).fold(crc, |crc, _| next(crc, 0)), behind)
}

fn next(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    (crc >> 8) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default()
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    let mut entry: u32 = 0;
    while byte < table.len() {
        let mut crc = entry;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
        entry += 1;
    }
    table
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
