//! HTTP: which part of a file any headers ask for.

use std::time::{Duration, SystemTime};

use bty_httpd::files::{
    conditions::{Conditions, Verdict, Version},
    range::Part,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const NAMES: [HeaderName; 5] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
];

/// The first piece is the size of the file in its first bytes, then each piece is a header: its number and its value.
pub(crate) fn file(data: &[u8]) {
    let mut pieces = crate::pieces(data);
    let Some(size) = pieces.next() else { return };
    let size = size.iter().take(8).fold(0_u64, |size, &byte| size << 8 | u64::from(byte));
    let mut headers = HeaderMap::new();
    for piece in pieces.take(16) {
        let Some((&number, value)) = piece.split_first() else { continue };
        let (Some(name), Ok(value)) =
            (NAMES.get(usize::from(number) % NAMES.len()), HeaderValue::from_bytes(value))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let version = Version { tag: "\"one\"".into(), modified: now - Duration::from_hours(1) };
    for method in [Method::GET, Method::HEAD] {
        let verdict = Conditions::read(&method, &headers).judge(&version, size, now);
        let Verdict::Send(part) = verdict else { continue };
        if let Part::Bytes(range) = &part {
            assert!(range.start < range.end && range.end <= size, "{range:?} of {size} bytes");
        }
        let asked = headers.contains_key(header::RANGE) && method == Method::GET;
        assert!(asked || part == Part::Whole, "a part that nobody asked for");
    }
}
