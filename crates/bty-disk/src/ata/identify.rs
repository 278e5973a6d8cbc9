//! What an ATA disk says of itself: the words of IDENTIFY DEVICE (ACS-4, section 7.13.6) that matter here.

use super::BLOCK_BYTES;

/// An ATA disk's description of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// Whether it watches its own health.
    pub has_smart: bool,
    /// Whether it does so now.
    pub is_smart_on: bool,
    /// Its passwords, and its erase commands, which need one.
    pub security: Security,
    /// How long it says that a plain erase takes.
    pub erase_time: EraseTime,
    /// The same of an enhanced erase.
    pub enhanced_erase_time: EraseTime,
}

/// The state of the Security feature set (word 128).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Security {
    /// It has one.
    pub is_supported: bool,
    /// A user password is set.
    pub is_enabled: bool,
    /// It gives no data until it is unlocked.
    pub is_locked: bool,
    /// It takes no such command until it is without power for a moment.
    pub is_frozen: bool,
    /// Too many wrong passwords: the same.
    pub is_expired: bool,
    /// It has the enhanced erase.
    pub has_enhanced_erase: bool,
}

/// How long an erase takes, as the disk says (words 89 and 90).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EraseTime {
    /// It does not say.
    #[default]
    Unknown,
    /// So many minutes.
    Minutes(u32),
    /// So many, or more.
    MoreThan(u32),
}

impl Identity {
    /// Reads the block. `None` where it is not an ATA disk's: adapters give zeros, or part of something else.
    pub fn parse(block: &[u8; BLOCK_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = block.get(2 * at..2 * at + 2).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u16::from_le_bytes)
        };
        let bit = |at: usize, number: u32| word(at) >> number & 1 == 1;
        // Word 0 has its highest bit clear, and the model (words 27 to 46) is text. Word 255 may hold a checksum, and says so (0xa5).
        let model = block.get(54..94)?;
        let is_text = model.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == 0)
            && model.iter().any(u8::is_ascii_alphanumeric);
        let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let is_whole = word(255) & 0xff != 0xa5 || sum == 0;
        if bit(0, 15) || !is_text || !is_whole {
            return None;
        }
        // What is supported, and what is on (words 82 and 85), counts where word 83 has 01 on top.
        let is_valid = word(83) >> 14 == 1;
        let security = Security {
            is_supported: is_valid && bit(82, 1) && bit(128, 0),
            is_enabled: bit(128, 1),
            is_locked: bit(128, 2),
            is_frozen: bit(128, 3),
            is_expired: bit(128, 4),
            has_enhanced_erase: bit(128, 5),
        };
        Some(Self {
            has_smart: is_valid && bit(82, 0),
            is_smart_on: is_valid && bit(85, 0),
            security,
            erase_time: EraseTime::parse(word(89)),
            enhanced_erase_time: EraseTime::parse(word(90)),
        })
    }
}

impl EraseTime {
    /// Units of two minutes, in 15 bits where the highest one is set, else in 8; the largest value means "or more".
    fn parse(word: u16) -> Self {
        let (value, most) =
            if word & 0x8000 == 0 { (word & 0xff, 0xff) } else { (word & 0x7fff, 0x7fff) };
        match u32::from(value) * 2 {
            0 => Self::Unknown,
            minutes if value == most => Self::MoreThan(minutes - 2),
            minutes => Self::Minutes(minutes),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The description of a disk that has these words.
    pub(crate) fn block(words: &[(usize, u16)]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        // Model "bty disk", two characters a word, the first one high.
        block[54..62].copy_from_slice(b"tb yidks");
        block[62..94].fill(b' ');
        for (at, word) in words {
            block[2 * at..2 * at + 2].copy_from_slice(&word.to_le_bytes());
        }
        block
    }

    #[test]
    fn what_a_disk_has_is_read() {
        let words = [(82, 0x746b), (83, 0x7d01), (85, 0x7469), (89, 0x8064), (90, 1), (128, 0x21)];
        let got = Identity::parse(&block(&words)).unwrap();
        assert!(got.has_smart && got.is_smart_on);
        let wanted =
            Security { is_supported: true, has_enhanced_erase: true, ..Security::default() };
        assert_eq!(got.security, wanted);
        assert_eq!(got.erase_time, EraseTime::Minutes(200));
        assert_eq!(got.enhanced_erase_time, EraseTime::Minutes(2));
    }

    #[test]
    fn states_of_security_are_told_apart() {
        for (bits, wanted) in [
            (0b1_0001, Security { is_expired: true, ..Security::default() }),
            (0b1001, Security { is_frozen: true, ..Security::default() }),
            (0b0111, Security { is_enabled: true, is_locked: true, ..Security::default() }),
        ] {
            let got = Identity::parse(&block(&[(82, 2), (83, 0x4000), (128, bits)])).unwrap();
            assert_eq!(got.security, Security { is_supported: true, ..wanted });
        }
        // Bits that are said not to count.
        let got = Identity::parse(&block(&[(82, 3), (83, 0), (85, 1), (128, 1)])).unwrap();
        assert!(!got.security.is_supported && !got.has_smart && !got.is_smart_on);
    }

    #[test]
    fn times_are_in_units_of_two_minutes() {
        let cases = [
            (0, EraseTime::Unknown),
            (1, EraseTime::Minutes(2)),
            (254, EraseTime::Minutes(508)),
            (255, EraseTime::MoreThan(508)),
            (0x8001, EraseTime::Minutes(2)),
            (0x8000, EraseTime::Unknown),
            (0xffff, EraseTime::MoreThan(65532)),
        ];
        for (word, time) in cases {
            assert_eq!(EraseTime::parse(word), time, "{word:#x}");
        }
    }

    #[test]
    fn what_is_no_description_is_none() {
        assert_eq!(Identity::parse(&[0; 512]), None);
        assert_eq!(Identity::parse(&[0xff; 512]), None);
        assert_eq!(Identity::parse(&block(&[(0, 0x8000)])), None);
        assert_eq!(Identity::parse(&block(&[(255, 0x01a5)])), None, "the checksum is wrong");
        let mut block = block(&[(255, 0x00a5)]);
        let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        block[511] = 0_u8.wrapping_sub(sum);
        assert!(Identity::parse(&block).is_some());
    }

    proptest! {
        #[test]
        fn any_block_is_read(bytes in proptest::collection::vec(any::<u8>(), BLOCK_BYTES)) {
            let block: [u8; BLOCK_BYTES] = bytes.try_into().unwrap();
            let _ = Identity::parse(&block);
        }
    }
}
