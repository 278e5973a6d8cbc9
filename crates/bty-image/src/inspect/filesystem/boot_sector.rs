//! exFAT, whose boot sector says all that is wanted.

use super::FileSystem;
use crate::fields::{array, has, u32_le, u64_le};

/// exFAT (Microsoft, exFAT file system specification, section 3.1).
pub(super) fn exfat(head: &[u8]) -> Option<FileSystem> {
    if !has(head, 3, b"EXFAT   ") {
        return None;
    }
    let [sector_log2, _, _, _, percent] = array::<5>(head, 108)?;
    if !(9..=12).contains(&sector_log2) {
        return None;
    }
    let size_bytes = u64_le(head, 72)?.checked_mul(1 << sector_log2)?;
    // 0xff: it does not say.
    let used = (percent <= 100).then(|| u128::from(size_bytes) * u128::from(percent) / 100);
    let used_bytes = used.and_then(|used| u64::try_from(used).ok());
    let uuid = serial(u32_le(head, 100)?);
    Some(FileSystem { kind: "exfat", label: String::new(), uuid, size_bytes, used_bytes })
}

/// A volume's serial number as DOS shows it.
pub(super) fn serial(number: u32) -> String {
    if number == 0 {
        return String::new();
    }
    format!("{:04X}-{:04X}", number >> 16, number & 0xffff)
}
