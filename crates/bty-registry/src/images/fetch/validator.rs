//! What tells whether a file at a server is still the same one.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};

/// How much older than the answer a file must be for its time to tell its versions apart (RFC 9110, section 8.8.2.2).
const SURELY_OLDER: Duration = Duration::from_secs(1);

/// A strong validator: while a server gives the same, it sends the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Validator {
    /// An entity tag.
    ETag(HeaderValue),
    /// When the file was changed last, where that was long enough before the answer.
    LastModified(HeaderValue),
}

impl Validator {
    /// The one that an answer gives; `None` where it gives none that is strong.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(tag) = headers.get(header::ETAG) {
            let is_strong = tag.as_bytes().starts_with(b"\"") && tag.len() > 2;
            return is_strong.then(|| Self::ETag(tag.clone()));
        }
        let time = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
        let (changed, answered) = (time(header::LAST_MODIFIED)?, time(header::DATE)?);
        let is_strong = answered.duration_since(changed).is_ok_and(|age| age >= SURELY_OLDER);
        is_strong.then(|| headers.get(header::LAST_MODIFIED).cloned().map(Self::LastModified))?
    }

    /// What If-Range says.
    pub(super) fn value(&self) -> &HeaderValue {
        match self {
            Self::ETag(value) | Self::LastModified(value) => value,
        }
    }

    /// Whether an answer says that the file is another one. An answer that says nothing doesn't.
    pub(super) fn contradicts(&self, headers: &HeaderMap) -> bool {
        let name = match self {
            Self::ETag(_) => header::ETAG,
            Self::LastModified(_) => header::LAST_MODIFIED,
        };
        headers.get(name).is_some_and(|value| value != self.value())
    }
}

/// A part of a file, as a `Content-Range` names it (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// Its first byte.
    pub(super) first: u64,
    /// Size of the whole file, where the server knows it.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// The part that an answer names; `None` where it names none that makes sense.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total: Option<u64> = if total == "*" { None } else { Some(total.parse().ok()?) };
        let makes_sense = first <= last && total.is_none_or(|total| last < total);
        makes_sense.then_some(Self { first, total })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn only_what_names_one_version_is_a_validator() {
        let (old, new) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:37 GMT");
        let tag = |text: &'static str| Some(Validator::ETag(HeaderValue::from_static(text)));
        let time = Some(Validator::LastModified(HeaderValue::from_static(old)));
        for (pairs, want) in [
            (&[("etag", "\"a\"")][..], tag("\"a\"")),
            (&[("etag", "\"a\""), ("last-modified", old), ("date", new)], tag("\"a\"")),
            (&[("etag", "W/\"a\""), ("last-modified", old), ("date", new)], None),
            (&[("etag", "a")], None),
            (&[("last-modified", old), ("date", new)], time),
            (&[("last-modified", old), ("date", old)], None),
            (&[("last-modified", new), ("date", old)], None),
            (&[("last-modified", old)], None),
            (&[("last-modified", "then"), ("date", new)], None),
            (&[], None),
        ] {
            assert_eq!(Validator::of(&headers(pairs)), want, "{pairs:?}");
        }
    }

    #[test]
    fn another_tag_is_another_file_and_silence_is_none() {
        let tag = Validator::ETag(HeaderValue::from_static("\"a\""));
        assert!(tag.contradicts(&headers(&[("etag", "\"b\"")])));
        assert!(!tag.contradicts(&headers(&[("etag", "\"a\"")])));
        assert!(!tag.contradicts(&headers(&[("last-modified", "x")])));
    }

    #[test]
    fn a_content_range_makes_sense_or_is_none() {
        let of = |value| ContentRange::of(&headers(&[("content-range", value)]));
        assert_eq!(of("bytes 5-9/10"), Some(ContentRange { first: 5, total: Some(10) }));
        assert_eq!(of("bytes 5-9/*"), Some(ContentRange { first: 5, total: None }));
        for value in ["bytes 5-10/10", "bytes 9-5/10", "bytes */10", "bytes 5-9", "5-9/10", "x"] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_makes_sense_or_is_none(value in "(bytes )?[0-9*/ -]{0,50}") {
            if let Some(found) = ContentRange::of(&headers(&[("content-range", &value)])) {
                prop_assert!(found.total.is_none_or(|total| found.first < total));
            }
        }
    }
}
