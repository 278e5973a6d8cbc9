//! Whether the client has the file already, or resumes another one (RFC 9110 §13).

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, Method, header};

use super::range::{self, Part};

/// What names one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The strong entity tag, in its quotes.
    pub tag: String,
    /// When the file was changed.
    pub modified: SystemTime,
}

/// What a request says about the versions that its client has. Headers that aren't text are treated as absent.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    is_head: bool,
    range: Option<String>,
    if_range: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This part of the file.
    Send(Part),
    /// 304: the client has it.
    NotModified,
    /// 412: the client wants another version than there is.
    Failed,
}

impl Conditions {
    /// The conditions of a GET or HEAD.
    pub fn read(method: &Method, headers: &HeaderMap) -> Self {
        let list = |name: HeaderName| {
            let values: Option<Vec<_>> =
                headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
            values.filter(|values| !values.is_empty()).map(|values| values.join(","))
        };
        Self {
            is_head: method == Method::HEAD,
            range: list(header::RANGE),
            if_range: list(header::IF_RANGE),
            if_match: list(header::IF_MATCH),
            if_none_match: list(header::IF_NONE_MATCH),
            if_modified_since: list(header::IF_MODIFIED_SINCE),
        }
    }

    /// Whether only the headers are wanted.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// What is answered for this version of a file of `size` bytes, in the order of RFC 9110 §13.2.2.
    pub fn judge(&self, version: &Version, size: u64, now: SystemTime) -> Verdict {
        if self.if_match.as_ref().is_some_and(|tags| !matches_strongly(tags, &version.tag)) {
            return Verdict::Failed;
        }
        let unchanged = match (&self.if_none_match, &self.if_modified_since) {
            (Some(tags), _) => matches_weakly(tags, &version.tag),
            (None, Some(date)) => {
                let since = httpdate::parse_http_date(date);
                since.is_ok_and(|since| whole_seconds(version.modified) <= since)
            }
            (None, None) => false,
        };
        if unchanged {
            return Verdict::NotModified;
        }
        // §14.2: Range means something with GET only.
        let part = match &self.range {
            Some(range) if !self.is_head && self.resumes(version, now) => range::part(range, size),
            _ => Part::Whole,
        };
        Verdict::Send(part)
    }

    /// Whether the range is of the version that there is (§13.1.5); without `If-Range` the client doesn't care.
    fn resumes(&self, version: &Version, now: SystemTime) -> bool {
        let Some(validator) = &self.if_range else { return true };
        if validator.starts_with('"') || validator.starts_with("W/") {
            // A weak tag never equals a strong one, and ours are strong.
            return *validator == version.tag;
        }
        // A date is a strong validator only when the file can't have changed twice in its second (§8.8.2.2).
        let settled =
            now.duration_since(version.modified).is_ok_and(|age| age >= Duration::from_secs(2));
        settled
            && httpdate::parse_http_date(validator)
                .is_ok_and(|date| date == whole_seconds(version.modified))
    }
}

/// HTTP's dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn matches_strongly(tags: &str, tag: &str) -> bool {
    tags.trim() == "*" || each_tag(tags).any(|found| found == tag)
}

fn matches_weakly(tags: &str, tag: &str) -> bool {
    tags.trim() == "*"
        || each_tag(tags).any(|found| found.strip_prefix("W/").unwrap_or(found) == tag)
}

/// Our own tags hold no comma, so that splitting foreign ones wrongly can't make them equal.
fn each_tag(tags: &str) -> impl Iterator<Item = &str> {
    tags.split(',').map(str::trim)
}
