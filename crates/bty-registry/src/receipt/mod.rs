//! Receipts of flashes: the document, and the key that it is signed with. What is in one is [`bty_types::receipt`]'s to say.

mod document;
mod key;

pub(crate) use document::of;
pub(crate) use key::Key;

/// A receipt as it is kept and given away: these bytes, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The document.
    pub(crate) document: String,
    /// The file of its signature.
    pub(crate) signature: String,
}
