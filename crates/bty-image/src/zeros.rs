//! Zeros.

/// Whether all bytes are zero; compares words, which is many times faster than bytes.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        for size in [1, 15, 16, 17, 4096] {
            let mut bytes = vec![0; size];
            assert!(is_zero(&bytes));
            for at in [0, size / 2, size - 1] {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{size} bytes with a bit at {at}");
                bytes[at] = 0;
            }
        }
    }
}
