//! The DHCP server of bty.

use std::process::ExitCode;

fn main() -> ExitCode {
    bty_service::main::<bty_dhcp::Dhcp>()
}
