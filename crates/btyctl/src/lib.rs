//! The command line of bty.
