//! The system of record of bty.

use std::process::ExitCode;

fn main() -> ExitCode {
    bty_service::main::<bty_registry::Registry>()
}
