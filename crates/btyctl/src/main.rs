//! The command line of bty.

use std::process::ExitCode;

fn main() -> ExitCode {
    btyctl::main()
}
