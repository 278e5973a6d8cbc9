//! Who reads from an OCI registry: a user and a password, from a file.

use std::{collections::HashMap, fs, io::Read as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bty_types::ErrorKind;
use serde::Deserialize;

use crate::failure::Failure;

/// More than anybody logs in to.
const MAX_BYTES: u64 = 1 << 20;

/// A user and a password or access token. Never shown.
#[derive(Default)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

/// Reads the file of a login to the registry of this source.
pub(super) fn read(file: &Path, source: &str) -> Result<Login, Failure> {
    let shown = file.display();
    let reading = |problem| Failure::io(&format!("reading {shown}"), &problem);
    let mut text = String::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(reading)?;
    let registry = source.strip_prefix("oras://").and_then(|rest| rest.split('/').next());
    let registry = registry.filter(|registry| !registry.is_empty()).ok_or_else(|| {
        Failure::new(ErrorKind::InvalidInput, "a login is for oras:// sources only")
            .hint("leave --registry-auth out")
    })?;
    parse(&text, registry).map_err(|why| {
        Failure::new(ErrorKind::InvalidInput, format!("{shown}: {why}"))
            .hint("write USER:PASSWORD into a file that only you may read, and name that")
    })
}

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: HashMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
}

fn parse(text: &str, registry: &str) -> Result<Login, String> {
    let text = text.trim();
    if !text.starts_with('{') {
        return split(text).ok_or_else(|| "it has no line USER:PASSWORD".to_owned());
    }
    // What serde says of a wrong file could show some of it.
    let logins: Logins =
        serde_json::from_str(text).map_err(|_| "it is no file of docker's logins".to_owned())?;
    let host = |key: &str| {
        let key =
            key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        key.split('/').next().unwrap_or_default().to_owned()
    };
    // docker keeps that of its own registry under an old name.
    let wanted = if registry == "docker.io" { "index.docker.io" } else { registry };
    let is_meant = |key: &str| [registry, wanted].contains(&host(key).as_str());
    let found = logins.auths.into_iter().find(|(key, _)| is_meant(key));
    let (_, auth) = found.ok_or_else(|| format!("it has no login to {registry}"))?;
    let auth = auth.auth.filter(|auth| !auth.is_empty()).ok_or_else(|| {
        format!("it says only that a credential helper knows the password of {registry}")
    })?;
    let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded
        .and_then(|decoded| split(&decoded))
        .ok_or_else(|| format!("its login to {registry} is damaged"))
}

fn split(text: &str) -> Option<Login> {
    let (user, password) = text.split_once(':')?;
    let is_line = !text.contains(['\n', '\r']) && !password.is_empty();
    is_line.then(|| Login { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_in_either_form() {
        let encoded = STANDARD.encode("me:a:b");
        let json = |key: &str| format!(r#"{{"auths":{{"{key}":{{"auth":"{encoded}"}}}},"x":1}}"#);
        for (text, registry) in [
            ("me:a:b\n".to_owned(), "r.lab"),
            (json("r.lab"), "r.lab"),
            (json("https://r.lab/v2/"), "r.lab"),
            (json("r.lab:5000"), "r.lab:5000"),
            (json("https://index.docker.io/v1/"), "docker.io"),
        ] {
            let login = parse(&text, registry).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "a:b"), "{text}");
        }
    }

    #[test]
    fn what_is_no_login_is_refused_without_being_shown() {
        for text in [
            "",
            "secret",
            "me:",
            "me:secret\nme:secret",
            "{secret",
            r#"{"auths":{"other.lab":{"auth":"c2VjcmV0OnNlY3JldA=="}}}"#,
            r#"{"auths":{"r.lab":{}},"credsStore":"desktop"}"#,
            r#"{"auths":{"r.lab":{"auth":"secret!"}}}"#,
        ] {
            let why = parse(text, "r.lab").unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
