//! What a registry asks for before it says anything: `WWW-Authenticate` (RFC 9110, section 11.6.1).

use reqwest::header::{self, HeaderMap};

/// How a registry wants to know who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// By a token that another server gives.
    Bearer {
        /// That server.
        realm: String,
        /// What it calls the registry.
        service: Option<String>,
        /// What the token is to be good for.
        scope: Option<String>,
    },
    /// By name and password.
    Basic,
}

impl Challenge {
    /// The best that an answer offers.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
        let mut offered: Vec<_> =
            values.filter_map(|value| Self::parse(value.to_str().ok()?)).collect();
        offered.sort_by_key(|challenge| *challenge == Self::Basic);
        offered.into_iter().next()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or_else(|| (text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |key: &str| {
            let found = parameters.iter().find(|(found, _)| found.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value.clone())
        };
        Some(Self::Bearer {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
        })
    }
}

/// `key=value` and `key="value"`, with commas between them.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace());
        let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            unquote(quoted)
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            (value.trim().to_owned(), rest)
        };
        found.push((key.to_owned(), value));
        text = rest;
    }
    found
}

/// A quoted string whose first quote was read, and what follows its last.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let values = values.iter().map(|value| (header::WWW_AUTHENTICATE, value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        values.for_each(|(name, value)| {
            headers.append(name, value);
        });
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read_and_bearer_is_preferred() {
        let bearer = |service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.lab/token".into(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        let whole = r#"Bearer realm="https://auth.lab/token",service="r.lab",scope="repository:a/b:pull,push""#;
        assert_eq!(of(&[whole]), bearer(Some("r.lab"), Some("repository:a/b:pull,push")));
        assert_eq!(of(&["Basic realm=\"x\"", whole]), of(&[whole]));
        let terse = "bearer service=r.lab , realm=\"https://auth\\.lab/token\"";
        assert_eq!(of(&[terse]), bearer(Some("r.lab"), None));
        assert_eq!(of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(of(&["Bearer"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_challenge_or_not(text in "(Bearer |Basic )?[ -~]{0,60}") {
            let _ = Challenge::parse(&text);
        }
    }
}
