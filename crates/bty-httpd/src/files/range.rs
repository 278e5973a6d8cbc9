//! The `Range` header (RFC 9110 §14).

use std::ops::Range;

/// What part of a representation is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it, with 200.
    Whole,
    /// These bytes, with 206.
    Bytes(Range<u64>),
    /// Nothing, with 416: the range begins after the end.
    Unsatisfiable,
}

/// What part of `size` bytes a `Range` header asks for.
///
/// What can't be read, another unit, and several ranges at once are ignored, as RFC 9110 §14.2 allows: none of our clients
/// sends them, and many small ranges are a way to make a server work (§14.2, last paragraph).
pub fn part(header: &str, size: u64) -> Part {
    let Some((first, last)) = single_range(header) else { return Part::Whole };
    match (first, last) {
        (Position::At(first), Position::At(last)) if last < first => Part::Whole,
        (Position::At(first), _) if first >= size => Part::Unsatisfiable,
        (Position::At(first), Position::At(last)) => {
            Part::Bytes(first..last.saturating_add(1).min(size))
        }
        (Position::At(first), Position::Open) => Part::Bytes(first..size),
        (Position::Open, Position::At(0)) => Part::Unsatisfiable,
        // §14.1.2: a suffix longer than the representation is all of it. An empty one has no byte that a 206 could name.
        (Position::Open, Position::At(_)) if size == 0 => Part::Whole,
        (Position::Open, Position::At(suffix)) => Part::Bytes(size.saturating_sub(suffix)..size),
        (Position::Open, Position::Open) => Part::Whole,
    }
}

#[derive(Debug, Clone, Copy)]
enum Position {
    At(u64),
    Open,
}

fn single_range(header: &str) -> Option<(Position, Position)> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    Some((position(first)?, position(last)?))
}

fn position(digits: &str) -> Option<Position> {
    if digits.is_empty() {
        return Some(Position::Open);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that doesn't fit is beyond every file, and so is the greatest that does.
    Some(Position::At(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc9110_ranges() {
        for (header, size, want) in [
            ("bytes=0-499", 10_000, Part::Bytes(0..500)),
            ("bytes=500-999", 10_000, Part::Bytes(500..1000)),
            ("bytes=-500", 10_000, Part::Bytes(9500..10_000)),
            ("bytes=9500-", 10_000, Part::Bytes(9500..10_000)),
            ("bytes=0-0", 10_000, Part::Bytes(0..1)),
            ("BYTES=0-0", 10_000, Part::Bytes(0..1)),
            ("bytes= 0-0 ", 10_000, Part::Bytes(0..1)),
            ("bytes=9999-20000", 10_000, Part::Bytes(9999..10_000)),
            ("bytes=-20000", 10_000, Part::Bytes(0..10_000)),
            ("bytes=5-99999999999999999999999", 10, Part::Bytes(5..10)),
            ("bytes=-99999999999999999999999", 10, Part::Bytes(0..10)),
            ("bytes=10000-", 10_000, Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Part::Unsatisfiable),
            ("bytes=-0", 10_000, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-5", 0, Part::Whole),
        ] {
            assert_eq!(part(header, size), want, "{header} of {size}");
        }
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=1 -2",
            "bytes=0-1,5-6",
            "bytes=0-1,",
            "items=0-1",
            "bytes 0-1",
            "bytes==0-1",
            "bytes=0x1-2",
        ] {
            assert_eq!(part(header, 1000), Part::Whole, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(
            header in "(bytes=)?[ 0-9,=-]{0,24}",
            size in prop_oneof![0_u64..40, any::<u64>()],
        ) {
            if let Part::Bytes(bytes) = part(&header, size) {
                prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }

        #[test]
        fn any_text_is_read_without_harm(header in ".*", size in any::<u64>()) {
            part(&header, size);
        }

        #[test]
        fn a_range_inside_is_given_exactly(first in 0_u64..1000, more in 0_u64..1000) {
            let last = first + more;
            let want = Part::Bytes(first..last + 1);
            prop_assert_eq!(part(&format!("bytes={first}-{last}"), 2000), want);
        }
    }
}
