//! What a machine prints on its serial port, as a person would read it.
//!
//! Firmware and GRUB paint with cursor movements, and the bytes come a few at a time: so matching is done on all of the text
//! so far, with the escape sequences taken out.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use regex::Regex;

use crate::wait;

/// A console that is captured to a file.
#[derive(Debug, Clone)]
pub struct Console {
    log: PathBuf,
}

impl Console {
    /// The console whose bytes are appended to `log`, which need not exist yet.
    pub fn new(log: PathBuf) -> Self {
        Self { log }
    }

    /// The file with the raw bytes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All text so far, without escape sequences.
    pub fn text(&self) -> Result<String> {
        match fs::read(&self.log) {
            Ok(bytes) => Ok(strip_escapes(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.log.display())),
        }
    }

    /// Whether the text so far has a match for `pattern`, a regular expression.
    pub fn has(&self, pattern: &str) -> Result<bool> {
        let pattern = Regex::new(pattern).context("parsing the pattern")?;
        Ok(pattern.is_match(&self.text()?))
    }

    /// Waits for a match of `pattern` and gives the matched text. `alive` is asked at each look; its error ends the wait.
    pub fn wait_for(
        &self,
        pattern: &str,
        timeout: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<String> {
        let regex = Regex::new(pattern).context("parsing the pattern")?;
        let mut seen_bytes = None;
        let what = format!("{pattern:?} on the console");
        wait::until(&what, timeout, || {
            let length = fs::metadata(&self.log).map_or(0, |file| file.len());
            if seen_bytes != Some(length) {
                seen_bytes = Some(length);
                if let Some(found) = regex.find(&self.text()?) {
                    return Ok(Some(found.as_str().to_owned()));
                }
            }
            alive()?;
            Ok(None)
        })
        .with_context(|| self.last_words())
    }

    /// The end of the text, for messages.
    pub fn last_words(&self) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        format!("the console ({}) ends with:\n{}", self.log.display(), last.join("\n"))
    }
}

/// The text in `bytes` without escape sequences (ECMA-48 CSI and OSC, and the short ones) and without control characters
/// other than line feed and tab. A cursor movement becomes a line feed, since what follows it stands elsewhere on the screen.
pub fn strip_escapes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut rest, &mut plain),
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

fn skip_sequence(rest: &mut std::str::Chars<'_>, plain: &mut String) {
    match rest.next() {
        // ECMA-48 5.4: parameters and intermediates are 0x20 to 0x3f, the final byte is 0x40 to 0x7e.
        Some('[') => {
            let last = rest.find(|character| !('\u{20}'..='\u{3f}').contains(character));
            if matches!(last, Some('H' | 'f' | 'A'..='G')) && !plain.ends_with('\n') {
                plain.push('\n');
            }
        }
        // An operating system command ends with BEL or ESC \.
        Some(']') => {
            let last = rest.find(|character| matches!(character, '\u{7}' | '\u{1b}' | '\n'));
            if last == Some('\u{1b}') {
                rest.next();
            }
        }
        // A character set or the like: one more character.
        Some('(' | ')' | '#' | '%') => {
            rest.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_taken_out() {
        let painted =
            b"\x1b[2J\x1b[01;01H\x1b[=3hGRUB\x1b[0m load\x1b[1mer\r\n\x1b]0;title\x07log\x1b(Bin: ";
        assert_eq!(strip_escapes(painted), "\nGRUB loader\nlogin: ");
    }

    #[test]
    fn a_sequence_that_is_cut_off_gives_what_came_before() {
        assert_eq!(strip_escapes(b"bty\x1b[0"), "bty");
        assert_eq!(strip_escapes(b"bty\x1b"), "bty");
    }

    proptest! {
        #[test]
        fn any_bytes_give_text_without_escapes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let plain = strip_escapes(&bytes);
            prop_assert!(!plain.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn plain_text_stays_as_it_is(text in "[ -~\n]{0,200}") {
            prop_assert_eq!(strip_escapes(text.as_bytes()), text);
        }
    }
}
