//! What became of a change of a disk.

use std::fmt;

use serde::Serialize;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was made.
    Done,
    /// It was so already.
    NotNeeded,
    /// It could not be made, or not wholly: the detail says what went wrong.
    Failed,
}

impl Outcome {
    /// As JSON and receipts have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotNeeded => "not-needed",
            Self::Failed => "failed",
        }
    }
}

/// A change of a disk, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FixUpResult {
    /// Its name, such as `grow-partition`.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was done or why not.
    pub detail: String,
}

impl FixUpResult {
    fn new(name: impl Into<String>, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, detail: detail.into() }
    }

    pub(super) fn done(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Done, detail)
    }

    pub(super) fn not_needed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::NotNeeded, detail)
    }

    pub(super) fn failed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Failed, detail)
    }

    /// The same where what it rests on came to nothing.
    pub(super) fn or_failed(self, why: &str) -> Self {
        if self.outcome == Outcome::Done { Self::failed(self.name, why) } else { self }
    }
}

impl fmt::Display for FixUpResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, outcome, detail } = self;
        match outcome {
            Outcome::Done => write!(f, "{name}: {detail}"),
            Outcome::NotNeeded => write!(f, "{name}: not needed: {detail}"),
            Outcome::Failed => write!(f, "warning: {name}: could not: {detail}"),
        }
    }
}
