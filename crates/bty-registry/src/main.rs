//! The system of record of bty.

use std::process::ExitCode;

fn main() -> ExitCode {
    bty_registry::main()
}
