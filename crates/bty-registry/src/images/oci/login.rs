//! Who asks a registry, and how that is proved.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Client, Url,
    header::{self, HeaderMap, HeaderValue},
};
use serde::Deserialize;

use super::{OciProblem, challenge::Challenge, manifest::shown};
use crate::images::{
    ImportProblem,
    fetch::{SMALL_TIMEOUT, failed, read_all},
};

/// What a server of tokens may say.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// What the URL of one may have.
const MAX_REALM_BYTES: usize = 2048;

/// A user of a registry, and the password or access token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Login {
    /// A user and a password; `None` where neither is given.
    pub(crate) fn new(user: String, password: String) -> Option<Self> {
        let is_given = !user.is_empty() || !password.is_empty();
        is_given.then_some(Self { user, password })
    }

    fn basic(&self) -> Option<HeaderValue> {
        let encoded = STANDARD.encode(format!("{}:{}", self.user, self.password));
        secret(&format!("Basic {encoded}"))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a challenge asks for: the header to ask again with. Where no login is given, a server of tokens gives one to anybody for what
/// everybody may read.
pub(super) async fn answer(
    challenge: Challenge,
    login: Option<&Login>,
    registry: &Url,
    client: &Client,
) -> Result<HeaderValue, ImportProblem> {
    let Challenge::Bearer { realm, service, scope } = challenge else {
        let login = login.ok_or(OciProblem::LoginNeeded)?;
        return Ok(login.basic().ok_or(OciProblem::LoginUnfit)?);
    };
    let url = token_url(&realm, service.as_deref(), scope.as_deref(), registry)?;
    let realm = shown(&realm);
    let mut request = client.get(url.clone()).timeout(SMALL_TIMEOUT);
    if let Some(login) = login {
        request =
            request.header(header::AUTHORIZATION, login.basic().ok_or(OciProblem::LoginUnfit)?);
    }
    let response = request.send().await.map_err(failed(&url))?;
    match response.status() {
        status if status.is_success() => {}
        status if matches!(status.as_u16(), 401 | 403) => {
            return Err(OciProblem::LoginRefused { realm, status }.into());
        }
        status => return Err(ImportProblem::Answer { url: realm, status }),
    }
    let answer = read_all(response, &url, MAX_ANSWER_BYTES).await?;
    let token = serde_json::from_slice::<Token>(&answer).ok();
    let token = token.and_then(|token| token.token.or(token.access_token));
    let header = token.and_then(|token| secret(&format!("Bearer {token}")));
    header.ok_or_else(|| OciProblem::NoToken { realm }.into())
}

/// Where a token is to be had. A password and a token never cross the network without encryption where the registry has one.
fn token_url(
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
    registry: &Url,
) -> Result<Url, OciProblem> {
    let wrong = || OciProblem::Realm { realm: shown(realm) };
    let mut url = Url::parse(realm).map_err(|_| wrong())?;
    let is_fit = match url.scheme() {
        "https" => true,
        "http" => registry.scheme() == "http",
        _ => false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !is_fit || !url.has_host() || has_user || realm.len() > MAX_REALM_BYTES {
        return Err(wrong());
    }
    let parameters = [("service", service), ("scope", scope)];
    for (key, value) in parameters.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        url.query_pairs_mut().append_pair(key, value);
    }
    Ok(url)
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Puts the proof of who asks, where there is one.
pub(super) fn headers(authorization: Option<&HeaderValue>) -> HeaderMap {
    authorization.map(|value| (header::AUTHORIZATION, value.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_login_is_not_shown() {
        let login = Login::new("me".into(), "secret".into()).unwrap();
        assert_eq!(format!("{login:?} {:?}", login.basic()), "Login(..) Some(Sensitive)");
        assert_eq!(Login::new(String::new(), String::new()), None);
    }

    #[test]
    fn a_token_is_asked_for_where_nobody_listens_in() {
        let (secure, plain) =
            ("https://r.lab/v2/".parse().unwrap(), "http://r/v2/".parse().unwrap());
        let url = |realm, registry| {
            token_url(realm, Some("r.lab"), Some("repository:a:pull"), registry)
                .map(String::from)
                .map_err(drop)
        };
        let want = "https://auth.lab/token?service=r.lab&scope=repository%3Aa%3Apull".to_owned();
        assert_eq!(url("https://auth.lab/token", &secure), Ok(want));
        assert!(url("http://auth.lab/token?x=1", &plain).is_ok_and(|url| url.contains("?x=1&s")));
        assert_eq!(url("http://auth.lab/token", &secure), Err(()));
        let long = format!("https://auth.lab/{}", "x".repeat(4096));
        for realm in ["", "token", "file:///etc/passwd", "data:,x", "https://a:b@auth.lab/", &long]
        {
            assert_eq!(url(realm, &plain), Err(()), "{realm}");
        }
    }

    proptest! {
        #[test]
        fn a_token_of_an_encrypted_registry_is_never_asked_for_openly(
            realm in "(https?://)?[ -~]{0,40}",
            scope in proptest::option::of("\\PC{0,20}"),
        ) {
            let registry = "https://r.lab/v2/".parse().unwrap();
            if let Ok(url) = token_url(&realm, None, scope.as_deref(), &registry) {
                prop_assert_eq!(url.scheme(), "https");
                prop_assert!(url.username().is_empty());
            }
        }
    }
}
