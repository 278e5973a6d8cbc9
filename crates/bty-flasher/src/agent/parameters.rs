//! What the boot script tells the agent, on the kernel's command line.

use std::{fs, net::SocketAddr};

use bty_types::MacAddr;

/// What is needed to reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Where plain HTTP is: `ADDRESS[:PORT]`, as it stands in a URL.
    pub(super) server: String,
    /// Where the agents' API is.
    pub(super) api: SocketAddr,
    /// SHA-256 of the server's certificate.
    pub(super) pin: [u8; 32],
    /// The token of this boot.
    pub(super) token: String,
    /// Whose boot it is.
    pub(super) mac: MacAddr,
}

impl Parameters {
    /// From `/proc/cmdline`.
    pub(super) fn from_kernel() -> Result<Self, String> {
        let line = fs::read_to_string("/proc/cmdline")
            .map_err(|problem| format!("reading /proc/cmdline: {problem}"))?;
        Self::parse(&line)
    }

    fn parse(line: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let found = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
            let found = found.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back();
            found.ok_or_else(|| format!("{name} is missing; was this booted by bty's script?"))
        };
        let server = value("bty.server")?.to_owned();
        let api = value("bty.api")?;
        let api: SocketAddr = api
            .parse()
            .or_else(|_| format!("{api}:443").parse())
            .map_err(|_| format!("bty.api={api} is no ADDRESS:PORT"))?;
        let pin = value("bty.pin")?;
        let mac = value("bty.mac")?;
        Ok(Self {
            server,
            api,
            pin: unhex(pin).ok_or_else(|| format!("bty.pin={pin} is no SHA-256"))?,
            token: value("bty.token")?.to_owned(),
            mac: mac.parse().map_err(|problem| format!("bty.mac: {problem}"))?,
        })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| {
            char::from(*pair.get(at)?).to_digit(16).and_then(|value| u8::try_from(value).ok())
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "quiet console=ttyS0 BOOTIF=01-52-54-00-77-00-01 bty.server=10.77.0.1 bty.api=10.77.0.1:443 \
                        bty.mac=52-54-00-77-00-01 bty.boot=0192 bty.token=cd bty.pin=";

    #[test]
    fn the_boot_scripts_words_are_read() {
        let line = format!("{LINE}{}\n", "ab".repeat(32));
        let got = Parameters::parse(&line).unwrap();
        let want = Parameters {
            server: "10.77.0.1".into(),
            api: "10.77.0.1:443".parse().unwrap(),
            pin: [0xab; 32],
            token: "cd".into(),
            mac: "52:54:00:77:00:01".parse().unwrap(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert!(Parameters::parse("quiet").unwrap_err().contains("bty.server is missing"));
        let shown = Parameters::parse(&format!("{LINE}xyz")).unwrap_err();
        assert!(shown.contains("bty.pin=xyz"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_command_line_is_read_or_refused(line: String, pin in "[0-9a-zé]{60,68}") {
            let _ = Parameters::parse(&line);
            let _ = Parameters::parse(&format!("{LINE}{pin} {line}"));
        }
    }
}
