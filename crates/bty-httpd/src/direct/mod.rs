//! Files from the kernel's memory to the network without a copy: sendfile(2) beneath hyper.
//!
//! hyper knows bodies as bytes in memory only. So a [`body`] gives it bytes that stand in for a file's, and notes in [`pieces`]
//! which; the [`stream`] beneath hyper knows them by their address and sends the file's in their place. Stand-ins exist for HTTP/1
//! without TLS only: there hyper hands on the very bytes that it was given, in their order. [`cached`] keeps the runtime from
//! waiting for a disk.

mod body;
mod cached;
mod pieces;
mod stream;

pub(crate) use body::DirectBody;
pub(crate) use pieces::Pieces;
pub(crate) use stream::DirectStream;

#[cfg(test)]
mod tests;
