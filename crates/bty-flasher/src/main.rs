//! Writes, verifies and proves disks.

use std::process::ExitCode;

fn main() -> ExitCode {
    bty_flasher::main()
}
