//! The tokens in memory: asked at every call, so no database stands in the way.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bty_api::registry::v1::Role;
use bty_service::door::Caller;

use crate::{record::Token, store::Store};

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// What a secret begins with: so that it is recognised where it should not be.
const PREFIX: &str = "bty_";
/// Uses are recorded to the minute.
const MINUTE: Duration = Duration::from_mins(1);

/// The tokens by the hashes of their secrets.
///
/// Looking a hash up takes a time that depends on the hash of what was given: it tells an attacker nothing of the secrets.
#[derive(Debug)]
pub(crate) struct Tokens {
    by_hash: RwLock<HashMap<[u8; 32], Token>>,
    store: Store,
}

impl Tokens {
    /// These tokens; when they are used is recorded in the store.
    pub(crate) fn new(tokens: Vec<Token>, store: Store) -> Self {
        let by_hash = tokens.into_iter().map(|token| (token.hash, token)).collect();
        Self { by_hash: RwLock::new(by_hash), store }
    }

    /// A new secret and its hash.
    pub(crate) fn make_secret() -> Result<(String, [u8; 32]), rustix::io::Errno> {
        let mut bytes = [0; SECRET_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = bytes.get_mut(filled..).unwrap_or_default();
            filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
        }
        let secret = format!("{PREFIX}{}", blake3::Hash::from_bytes(bytes).to_hex());
        let hash = hash(&secret);
        Ok((secret, hash))
    }

    /// Takes a token in.
    pub(crate) fn add(&self, token: Token) {
        self.by_hash.write().unwrap_or_else(PoisonError::into_inner).insert(token.hash, token);
    }

    /// Ends the token of this name.
    pub(crate) fn remove(&self, name: &str) {
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        by_hash.retain(|_, token| token.name != name);
    }

    /// Who bears this secret.
    pub(super) fn bearer(&self, secret: &str) -> Option<Caller> {
        let now = SystemTime::now();
        let hash = hash(secret);
        let token = {
            let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
            by_hash.get(&hash)?.clone()
        };
        if token.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        self.note_use(&token, now);
        Some(Caller::Bearer { name: token.name, role: word(token.role).to_owned() })
    }

    fn note_use(&self, token: &Token, now: SystemTime) {
        let minute = to_the_minute(now);
        if token.last_used_at == Some(minute) {
            return;
        }
        let hash = token.hash;
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = by_hash.get_mut(&hash) {
            token.last_used_at = Some(minute);
        }
        drop(by_hash);
        self.store.write_later(move |transaction| transaction.token_used(hash, minute));
    }
}

fn hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

fn to_the_minute(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let into = Duration::from_secs(since.as_secs() % MINUTE.as_secs());
    UNIX_EPOCH + Duration::from_secs(since.as_secs()).saturating_sub(into)
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Operator => "operator",
        Role::Viewer => "viewer",
        Role::Unspecified => "",
    }
}
