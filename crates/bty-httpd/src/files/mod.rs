//! Files over HTTP: boot programs, the live system, images.
//!
//! [`range`] reads what part of a file is asked for, [`conditions`] whether the client has it already, [`served`] opens the
//! file beneath its folder and answers, [`body`] streams it, [`joined`] several as one. Nothing is compressed and no folder is listed: firmware and the
//! flasher count on the exact length.

mod body;
pub mod conditions;
mod joined;
pub mod range;
mod served;

pub(crate) use body::FileParts;
pub(crate) use joined::serve_joined;
pub(crate) use served::{Folder, serve};

#[cfg(test)]
mod tests;
