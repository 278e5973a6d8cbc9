//! Boot scripts: what a URL from the LAN says of a machine, and the token that a script carries.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use axum::extract::Query as UrlQuery;
use bty_httpd::boot::{
    query::{self, Query},
    script::{self, Live, Target},
    token::{Claims, Key, Purpose},
};
use uuid::Uuid;

/// A query, a NUL, and a reason, such as an image's name may be part of.
pub(crate) fn script(data: &[u8]) {
    let (asked, reason) = crate::halves(data);
    let Ok(uri) = http::Uri::builder().path_and_query([b"/?", asked].concat()).build() else {
        return;
    };
    let Ok(UrlQuery(query)) = UrlQuery::<Query>::try_from_uri(&uri) else { return };
    let shown = query::printable(&query.reason, 100);
    assert!(
        shown.len() <= 100 && shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{shown:?}"
    );
    let Ok(mac) = query.mac() else { return };
    let server = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 1), 80));
    let target = Target {
        mac,
        via: query::via(query.path()),
        platform: query.platform(),
        cpu: query.cpu(),
        server,
        other_exit: false,
    };
    let live = Live {
        api_port: 443,
        pin: "0".into(),
        token: "0".into(),
        boot_id: "0".into(),
        modules: Vec::new(),
    };
    let reason = String::from_utf8_lossy(reason);
    // Nothing that a machine or an operator writes makes a line or a command of its own.
    for make in [script::local, script::hold] {
        is_the_same_but_for_words(&make(&target, &reason), &make(&target, "x"));
    }
    is_the_same_but_for_words(
        &script::live(&target, &reason, &live),
        &script::live(&target, "x", &live),
    );
}

/// Only lines that are shown may differ, and nothing that iPXE acts on may be new.
fn is_the_same_but_for_words(given: &str, plain: &str) {
    assert_eq!(given.lines().count(), plain.lines().count(), "{given}");
    for (line, wanted) in given.lines().zip(plain.lines()) {
        if line != wanted {
            assert!(line.starts_with("echo ") && wanted.starts_with("echo "), "{line}");
            assert!(!line.contains("${") && !line.contains("&&") && !line.contains("||"), "{line}");
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
    }
}

/// Any text as a token, and a good token with any byte changed.
pub(crate) fn token(data: &[u8]) {
    let key: Key = [7; 32];
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(Claims::open(&key, text, now).is_err(), "a token that nobody made is taken");
    }
    let [at, to, ..] = *data else { return };
    let Ok(mac) = "52:54:00:77:00:01".parse() else { return };
    let address = Ipv4Addr::new(10, 77, 0, 101).into();
    let claims = Claims::new(Purpose::Boot, mac, Uuid::nil(), address, now);
    let good = claims.seal(&key);
    let mut changed = good.clone().into_bytes();
    if let Some(byte) = changed.get_mut(usize::from(at)) {
        *byte = to;
    }
    let Ok(changed) = String::from_utf8(changed) else { return };
    let opened = Claims::open(&key, &changed, now);
    assert_eq!(opened.is_ok(), changed.eq_ignore_ascii_case(&good), "{changed}");
}
