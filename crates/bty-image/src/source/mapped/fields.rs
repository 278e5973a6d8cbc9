//! Numbers in a header.

/// What the four or eight bytes at an offset are as a number; `None` where the header ends before.
macro_rules! number_at {
    ($name:ident, $number:ty, $from:ident) => {
        pub(in crate::source) fn $name(bytes: &[u8], at: usize) -> Option<$number> {
            Some(<$number>::$from(*bytes.get(at..)?.first_chunk()?))
        }
    };
}

number_at!(be_u32, u32, from_be_bytes);
number_at!(be_u64, u64, from_be_bytes);
number_at!(le_u32, u32, from_le_bytes);
number_at!(le_u64, u64, from_le_bytes);
