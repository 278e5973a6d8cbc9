//! A clock that only the daemons see, and that a test sets.
//!
//! The machine's own clock stays what it is: libfaketime answers the daemons in its place. What they count with (the monotonic clock) is
//! left alone, as it is when an administrator or NTP sets a clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{child::Program, packages};

/// Debian's package with the library.
const PACKAGE: &str = "libfaketime";
/// The one for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// A clock for daemons.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, with its file in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        packages::ensure(&[PACKAGE])?;
        let files = Program::new("dpkg-query").args(["--listfiles", PACKAGE]).run()?;
        let library = files.lines().find(|line| line.ends_with(LIBRARY));
        let library = library.with_context(|| format!("{PACKAGE} has no {LIBRARY}"))?.into();
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds before (where negative) or after the machine's.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Read at every look, and so never half written.
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&fresh, &self.file))
            .with_context(|| format!("writing {}", self.file.display()))
    }

    /// The environment of a program that is to see this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}
