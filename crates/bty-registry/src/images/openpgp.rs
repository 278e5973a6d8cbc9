//! OpenPGP signatures, checked by `gpgv` in a child: the program with which Debian's own archive is checked. (docs/adr/0025)
//!
//! The child gets one keyring, the publisher's, and looks at no other; it finds no home folder, no agent and no network in what it is
//! told. What it says is read from its status lines (GnuPG's doc/DETAILS), not from its exit code: of several signatures one by the
//! publisher's key is enough, as where a list is signed with an old key and a new one, and keys that have expired or were revoked are
//! refused, which gpgv leaves to its caller.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bty_types::ErrorKind;
use tempfile::TempDir;

const PROGRAM: &str = "gpgv";
/// What is read of what the child says.
const MAX_STATUS_BYTES: u64 = 64 << 10;
/// What a list of checksums may come to when its signature is taken off.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// What a publisher's keys may have: some distributions' have a hundred signatures by others.
const MAX_KEYS_BYTES: usize = 1 << 20;
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
const CLEAR_SIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// A publisher's public keys, as a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyring(Vec<u8>);

/// Why a signature doesn't hold, or can't be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenPgpProblem {
    /// The program is not there.
    #[error(
        "OpenPGP signatures are checked by gpgv, which is not on this server: apt install gpgv"
    )]
    NoProgram,
    /// It can't be run.
    #[error("running gpgv")]
    Run(#[source] io::Error),
    /// The bytes are not those that were signed.
    #[error("the signature does not fit: something was changed after it was signed")]
    Bad,
    /// Somebody else signed.
    #[error("it is signed by the key {0}, which is not among the keys that were given")]
    OtherKey(String),
    /// The key is not good any more.
    #[error("the key that it is signed with {0}; get the publisher's current one")]
    OldKey(&'static str),
    /// There is no signature.
    #[error("it is no OpenPGP signature, or one that gpgv does not take ({0})")]
    None(String),
    /// What was signed is larger than any list.
    #[error("what it signs has over 1 MiB, and is no list of checksums")]
    TooMuch,
}

impl OpenPgpProblem {
    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoProgram => ErrorKind::Precondition,
            Self::Run(_) => ErrorKind::Internal,
            Self::Bad | Self::OtherKey(_) | Self::OldKey(_) => ErrorKind::Corrupt,
            Self::None(_) | Self::TooMuch => ErrorKind::InvalidInput,
        }
    }
}

impl Keyring {
    /// Reads public keys, in armour or as they are.
    pub(crate) fn parse(keys: &[u8]) -> Result<Self, &'static str> {
        if keys.len() > MAX_KEYS_BYTES {
            return Err("it has over 1 MiB, and is no publisher's key");
        }
        if let Some(text) = std::str::from_utf8(keys).ok().filter(|text| text.contains(BEGIN)) {
            return dearmor(text).map(Self).ok_or("its armour is damaged");
        }
        // The tag of a public key's packet, in either form (RFC 9580, section 4.2), or GnuPG's keybox.
        let is_keyring = matches!(keys.first(), Some(0x98..=0x9b | 0xc6));
        if is_keyring || keys.get(8..12) == Some(b"KBXf") {
            return Ok(Self(keys.to_vec()));
        }
        Err("it is no OpenPGP public key; gpg --export --armor makes one")
    }
}

/// What is in all blocks of public keys (RFC 9580, section 6.2), one behind the other.
fn dearmor(text: &str) -> Option<Vec<u8>> {
    let mut keys = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let (block, _) = block.split_once(END)?;
        // Behind the headers is an empty line; before the checksum, which may be left out, an equals sign.
        let lines = block.trim_start_matches([' ', '\t', '\r']).lines().skip(1);
        let has_headers = block.lines().any(|line| line.contains(": "));
        let lines = lines.skip_while(|line| has_headers && !line.trim().is_empty());
        let digits: String =
            lines.map(str::trim).take_while(|line| !line.starts_with('=')).collect();
        keys.extend(STANDARD.decode(digits).ok()?);
    }
    (!keys.is_empty()).then_some(keys)
}

/// Whether a text has its signature in it.
pub(super) fn is_clear_signed(text: &[u8]) -> bool {
    let at = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or_default();
    text.get(at..).is_some_and(|text| text.starts_with(CLEAR_SIGNED))
}

/// The text that a text with its signature in it signs: whatever stands around that is not believed.
pub(super) fn clear_text(keys: &Keyring, signed: &[u8]) -> Result<Vec<u8>, OpenPgpProblem> {
    let folder = Desk::new(keys)?;
    let (from, to) = (folder.put("signed", signed)?, folder.path("text"));
    let mut command = folder.command();
    command.arg("--output").arg(&to).arg(from).stdin(Stdio::null());
    let mut child = spawn(&mut command)?;
    verdict(&status(&mut child)?)?;
    let mut text = Vec::new();
    let file = fs::File::open(to).map_err(OpenPgpProblem::Run)?;
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).map_err(OpenPgpProblem::Run)?;
    if u64::try_from(text.len()).is_ok_and(|size| size > MAX_TEXT_BYTES) {
        return Err(OpenPgpProblem::TooMuch);
    }
    Ok(text)
}

/// Checks a signature that is apart from what it signs, as that comes by.
#[derive(Debug)]
pub(super) struct Detached {
    child: Child,
    /// Keeps the child's files.
    _folder: Desk,
}

impl Detached {
    /// Begins.
    pub(super) fn begin(keys: &Keyring, signature: &[u8]) -> Result<Self, OpenPgpProblem> {
        let folder = Desk::new(keys)?;
        let signature = folder.put("signature", signature)?;
        let mut command = folder.command();
        command.arg(signature).arg("-").stdin(Stdio::piped());
        Ok(Self { child: spawn(&mut command)?, _folder: folder })
    }

    /// The next bytes that should be signed.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        // A child that has ended has said why.
        if self.child.stdin.as_mut().is_some_and(|stdin| stdin.write_all(bytes).is_err()) {
            self.child.stdin = None;
        }
    }

    /// Whether what was seen is what was signed.
    pub(super) fn finish(mut self) -> Result<(), OpenPgpProblem> {
        self.child.stdin = None;
        verdict(&status(&mut self.child)?)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // Where it has ended neither does anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with what the child reads.
#[derive(Debug)]
struct Desk(TempDir);

impl Desk {
    fn new(keys: &Keyring) -> Result<Self, OpenPgpProblem> {
        let folder = Self(tempfile::tempdir().map_err(OpenPgpProblem::Run)?);
        folder.put("keys", &keys.0)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<std::path::PathBuf, OpenPgpProblem> {
        let path = self.path(name);
        fs::write(&path, content).map_err(OpenPgpProblem::Run)?;
        Ok(path)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("LC_ALL", "C");
        let folder: &Path = self.0.path();
        command.arg("--homedir").arg(folder).arg("--keyring").arg(self.path("keys"));
        command.args(["--status-fd", "1", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}

fn spawn(command: &mut Command) -> Result<Child, OpenPgpProblem> {
    command.spawn().map_err(|problem| match problem.kind() {
        io::ErrorKind::NotFound => OpenPgpProblem::NoProgram,
        _ => OpenPgpProblem::Run(problem),
    })
}

/// What the child says until it ends.
fn status(child: &mut Child) -> Result<String, OpenPgpProblem> {
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_STATUS_BYTES).read_to_end(&mut said).map_err(OpenPgpProblem::Run)?;
    }
    child.wait().map_err(OpenPgpProblem::Run)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// What status lines come to.
fn verdict(status: &str) -> Result<(), OpenPgpProblem> {
    let lines = || status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] "));
    let line = |word: &str| {
        lines().find_map(|line| {
            let rest = line.strip_prefix(word)?;
            (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim())
        })
    };
    if line("BADSIG").is_some() {
        return Err(OpenPgpProblem::Bad);
    }
    // VALIDSIG alone stands behind signatures by old keys too.
    if line("GOODSIG").is_some() && line("VALIDSIG").is_some() {
        return Ok(());
    }
    for (word, what) in [
        ("EXPKEYSIG", "has expired"),
        ("REVKEYSIG", "was revoked"),
        ("EXPSIG", "says that the signature has expired"),
    ] {
        if line(word).is_some() {
            return Err(OpenPgpProblem::OldKey(what));
        }
    }
    if let Some(key) = line("NO_PUBKEY") {
        return Err(OpenPgpProblem::OtherKey(shown(key)));
    }
    let said = line("ERRSIG").or_else(|| lines().next()).unwrap_or("it says nothing");
    Err(OpenPgpProblem::None(shown(said)))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_is_enough_and_a_bad_one_too_much() {
        let good = "[GNUPG:] GOODSIG 0A me\n[GNUPG:] VALIDSIG 0A0A 2026 1\n";
        let unknown = "[GNUPG:] ERRSIG 0B 1 8 00 1 9\n[GNUPG:] NO_PUBKEY 0B\n";
        let kind = |status: &str| verdict(status).map_err(|problem| format!("{problem:?}"));
        assert_eq!(kind(good), Ok(()));
        assert_eq!(kind(&format!("{unknown}{good}")), Ok(()));
        assert_eq!(kind(&format!("{good}[GNUPG:] BADSIG 0B me\n")), Err("Bad".into()));
        assert_eq!(kind(unknown), Err("OtherKey(\"0B\")".into()));
        let valid = "[GNUPG:] VALIDSIG 0A0A 2026 1\n";
        for word in ["EXPKEYSIG", "REVKEYSIG", "EXPSIG"] {
            let old = kind(&format!("[GNUPG:] {word} 0A me\n{valid}"));
            assert!(old.unwrap_err().starts_with("OldKey"), "{word}");
        }
        for status in ["", "GOODSIG\nVALIDSIG\n", valid, "[GNUPG:] GOODSIGNATURE\n"] {
            assert!(kind(status).unwrap_err().starts_with("None"), "{status}");
        }
    }

    #[test]
    fn armour_is_taken_off() {
        let armour = |headers: &str, body: &str| format!("{BEGIN}\n{headers}\n{body}\n{END}\n");
        let key = |keys: &str| Keyring::parse(keys.as_bytes());
        let want = Ok(Keyring(vec![0x99, 1, 2, 3]));
        assert_eq!(key(&armour("", "mQEC\nAw==\n=abcd")), want);
        assert_eq!(key(&armour("Version: 1\nComment: x\n", "mQECAw==")), want);
        assert_eq!(key(&armour("", "mQECAw==").replace('\n', "\r\n")), want);
        assert_eq!(Keyring::parse(&[0x99, 1, 2, 3]), want);
        let two = armour("", "mQECAw==") + &armour("", "mQECAw==");
        assert_eq!(key(&two), Ok(Keyring(vec![0x99, 1, 2, 3, 0x99, 1, 2, 3])));
        for keys in ["", "RWQf6LRCGA9i5", &armour("", "m!"), &format!("{BEGIN}\n\nmQECAw==\n")] {
            assert!(key(keys).is_err(), "{keys}");
        }
    }

    #[test]
    fn a_clear_signed_text_is_known_by_its_beginning() {
        assert!(is_clear_signed(b"\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx"));
        assert!(!is_clear_signed(b"x\n-----BEGIN PGP SIGNED MESSAGE-----\n"));
    }
}
