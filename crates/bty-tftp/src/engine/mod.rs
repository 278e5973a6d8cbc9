//! TFTP as a pure engine: datagrams and the time go in, what to send and when to wake comes out.
//!
//! [`packet`] reads requests and writes answers, [`negotiate`] settles the options of a request, [`transfer`] moves one file.
//! No socket, clock, task or file in sight: the driver sends what [`transfer::Transfer::poll_transmit`] says, and reads the
//! blocks that it names from wherever they are.

pub mod negotiate;
pub mod packet;
mod round_trip;
pub mod transfer;

#[cfg(test)]
mod tests;
