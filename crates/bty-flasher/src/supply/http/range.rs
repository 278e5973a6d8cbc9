//! Which bytes of a file an answer has.

/// First and last byte and the size of the whole, from `Content-Range: bytes FIRST-LAST/SIZE` (RFC 9110, section 14.4).
pub(super) fn parse_content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_range_that_contradicts_itself_is_refused() {
        assert_eq!(parse_content_range("bytes 0-9/10"), Some((0, 9, 10)));
        for value in ["bytes 0-10/10", "bytes 5-4/10", "bytes */10", "bytes 0-9/*", "0-9/10", ""] {
            assert_eq!(parse_content_range(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_is_read_or_refused(value: String) {
            let _ = parse_content_range(&value);
        }
    }
}
