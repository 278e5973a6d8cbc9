//! What a controller can do and how a namespace is formatted (NVMe Base 2.0, section 5.17.2; NVM Command Set 1.0, section 4.1.5).

use super::IDENTIFY_BYTES;

/// What a controller can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controller {
    /// It has Format NVM (OACS).
    pub can_format: bool,
    /// A format with an erase is of all its namespaces (FNA).
    pub formats_all: bool,
    /// A format can forget the key (FNA).
    pub format_forgets_key: bool,
    /// A sanitize can forget the key (SANICAP).
    pub sanitize_forgets_key: bool,
    /// A sanitize can erase all blocks (SANICAP).
    pub sanitize_erases_blocks: bool,
}

impl Controller {
    /// Reads Identify Controller.
    pub fn parse(data: &[u8; IDENTIFY_BYTES]) -> Self {
        let bit = |at: usize, number: u8| data.get(at).is_some_and(|byte| byte >> number & 1 == 1);
        let (oacs, sanicap, fna) = (256, 328, 524);
        Self {
            can_format: bit(oacs, 1),
            formats_all: bit(fna, 0) || bit(fna, 1),
            format_forgets_key: bit(fna, 2),
            sanitize_forgets_key: bit(sanicap, 0),
            sanitize_erases_blocks: bit(sanicap, 1),
        }
    }
}

/// How a namespace is formatted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Formatted LBA size (FLBAS): bits 3 to 0 and 6 to 5 the format's number, bit 4 whether metadata follows each block's data.
    flbas: u8,
    /// End-to-end protection (DPS): bits 2 to 0 its type, bit 3 whether it comes first in the metadata.
    dps: u8,
}

impl Namespace {
    /// Reads Identify Namespace.
    pub fn parse(data: &[u8; IDENTIFY_BYTES]) -> Self {
        let byte = |at: usize| data.get(at).copied().unwrap_or_default();
        Self { flbas: byte(26), dps: byte(29) }
    }

    /// Dword 10 of a Format NVM that keeps it so (section 5.14, figure 189).
    pub(super) fn format_dword(self) -> u32 {
        let (flbas, dps) = (u32::from(self.flbas), u32::from(self.dps));
        let (format_low, format_high) = (flbas & 0xf, flbas >> 5 & 3);
        let (metadata, protection, first) = (flbas >> 4 & 1, dps & 7, dps >> 3 & 1);
        format_low | metadata << 4 | protection << 5 | first << 8 | format_high << 12
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[(usize, u8)]) -> [u8; IDENTIFY_BYTES] {
        let mut data = [0; IDENTIFY_BYTES];
        for (at, byte) in bytes {
            data[*at] = *byte;
        }
        data
    }

    #[test]
    fn what_a_controller_can_do_is_read() {
        assert_eq!(Controller::parse(&data(&[])), Controller::default());
        let all = Controller::parse(&data(&[(256, 0x1e), (328, 3), (524, 7)]));
        let wanted = Controller {
            can_format: true,
            formats_all: true,
            format_forgets_key: true,
            sanitize_forgets_key: true,
            sanitize_erases_blocks: true,
        };
        assert_eq!(all, wanted);
        assert!(!Controller::parse(&data(&[(256, 1), (328, 4)])).can_format);
        assert!(Controller::parse(&data(&[(524, 2)])).formats_all);
    }

    #[test]
    fn a_format_keeps_the_format_as_it_is() {
        let cases = [(0, 0, 0), (2, 0, 2), (0x11, 0, 0x11), (0x21, 0, 0x1001), (0, 0x0a, 0x140)];
        for (flbas, dps, dword) in cases {
            let namespace = Namespace::parse(&data(&[(26, flbas), (29, dps)]));
            assert_eq!(namespace.format_dword(), dword, "{flbas:#x} {dps:#x}");
        }
    }
}
