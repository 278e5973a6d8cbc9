//! An image as bytes.
//!
//! [`source`] reads every format that images come in, as a stream of raw disk bytes; [`import`] turns that stream into the
//! [`container`], one seekable zstd file with an index that proves itself; [`verify`](mod@verify) proves one again; [`inspect`] says
//! what is in an image. Nothing here knows disks, networks or machines, and everything works in bounded memory on bytes that anybody
//! may have made.

pub mod assemble;
pub mod container;
pub mod freespace;
pub mod import;
pub mod inspect;
pub mod source;
pub mod verify;

mod fields;
mod read_at;
mod table_sum;
mod zeros;

pub use read_at::ReadAt;
pub use zeros::is_zero;
