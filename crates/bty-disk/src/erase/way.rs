//! The ways to erase a disk, from the strongest to the weakest, and what each is worth.

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum How {
    /// The strongest that the disk has and that doesn't take hours; else the next.
    #[default]
    Auto,
    /// NVMe's Sanitize.
    NvmeSanitize,
    /// NVMe's Format with an erase.
    NvmeFormat,
    /// ATA's SECURITY ERASE UNIT.
    AtaSecureErase,
    /// The block layer's discard.
    Discard,
    /// Zeros everywhere.
    Zeroes,
}

/// A way to erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Sanitize, crypto erase.
    SanitizeKey,
    /// Sanitize, block erase.
    SanitizeBlocks,
    /// Format, cryptographic erase.
    FormatKey,
    /// Format, user data erase.
    FormatData,
    /// Enhanced SECURITY ERASE UNIT.
    AtaEnhanced,
    /// SECURITY ERASE UNIT.
    AtaErase,
    /// Discard, with every copy.
    SecureDiscard,
    /// Discard.
    Discard,
    /// Zeros.
    Zeroes,
}

impl Way {
    /// All of them, the strongest first.
    pub const ALL: [Self; 9] = [
        Self::SanitizeKey,
        Self::SanitizeBlocks,
        Self::FormatKey,
        Self::FormatData,
        Self::AtaEnhanced,
        Self::AtaErase,
        Self::SecureDiscard,
        Self::Discard,
        Self::Zeroes,
    ];

    /// Its name, for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SanitizeKey => "nvme-sanitize-crypto",
            Self::SanitizeBlocks => "nvme-sanitize-block",
            Self::FormatKey => "nvme-format-crypto",
            Self::FormatData => "nvme-format",
            Self::AtaEnhanced => "ata-secure-erase-enhanced",
            Self::AtaErase => "ata-secure-erase",
            Self::SecureDiscard => "secure-discard",
            Self::Discard => "discard",
            Self::Zeroes => "zeroes",
        }
    }

    /// What it is asked for by.
    pub const fn how(self) -> How {
        match self {
            Self::SanitizeKey | Self::SanitizeBlocks => How::NvmeSanitize,
            Self::FormatKey | Self::FormatData => How::NvmeFormat,
            Self::AtaEnhanced | Self::AtaErase => How::AtaSecureErase,
            Self::SecureDiscard | Self::Discard => How::Discard,
            Self::Zeroes => How::Zeroes,
        }
    }

    /// What holds afterwards, and what doesn't.
    pub const fn guarantee(self) -> &'static str {
        match self {
            Self::SanitizeKey => {
                "the disk has forgotten the key of all that it held, spare blocks and caches too; what is left can't be decrypted"
            }
            Self::SanitizeBlocks => {
                "the disk has erased all of its blocks, spare blocks and caches too"
            }
            Self::FormatKey => {
                "the disk has forgotten the key of what it held; that spare blocks are covered is its maker's word"
            }
            Self::FormatData => {
                "the disk has erased what it held, by a way of its maker's; spare blocks and caches need not be covered"
            }
            Self::AtaEnhanced => {
                "the disk has erased or overwritten all that it held, replaced sectors too, by a way of its maker's"
            }
            Self::AtaErase => {
                "the disk has erased or overwritten all that can be addressed; sectors that it replaced earlier may still hold data"
            }
            Self::SecureDiscard => {
                "the disk was told to erase every copy of what it held; nothing proves it"
            }
            Self::Discard => {
                "the disk was told that nothing on it is needed; its controller may still hold the data, and a laboratory may read it"
            }
            Self::Zeroes => {
                "all that can be addressed was made zero and read back; spare blocks and sectors that were replaced may still hold data"
            }
        }
    }

    /// Whether it can be called off. The others go on in the disk, whatever happens to this program or the power.
    pub const fn can_be_stopped(self) -> bool {
        matches!(self, Self::SecureDiscard | Self::Discard | Self::Zeroes)
    }
}
