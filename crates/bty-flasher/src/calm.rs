//! Network cards that are known to lose or damage packets: what they do beside sending and receiving is turned off.
//!
//! Realtek's cards of 2.5 Gbit/s lose packets with segmentation and checksums of their own, and miss the first ones after they have
//! slept (Energy-Efficient Ethernet). All of Realtek's cards have one driver, and those of 1 Gbit/s are calmed with them: which of the
//! many chips has which fault nobody outside Realtek knows, and a flash is bound by its disk, not by the processor's checksums.

use std::{io, path::Path};

use bty_sys::{Offload, turn_off, turn_off_eee};
use nix::errno::Errno;

/// The drivers of such cards.
const DRIVERS: [&str; 1] = ["r8169"];

/// Turns off what this card does, where its driver is one of those. What it can't turn off, it doesn't do.
pub(crate) fn calm(card: &str) {
    let driver = Path::new("/sys/class/net").join(card).join("device/driver");
    let driver = std::fs::read_link(driver).unwrap_or_default();
    if is_known(&driver) {
        quiet(card);
    }
}

fn is_known(driver: &Path) -> bool {
    driver.file_name().is_some_and(|name| DRIVERS.iter().any(|known| name == *known))
}

fn quiet(card: &str) {
    for offload in Offload::ALL {
        told(turn_off(card, offload), &format!("{offload:?}"));
    }
    told(turn_off_eee(card), "Energy-Efficient Ethernet");
}

/// A card that goes on as it was may lose packets: that is said, and no more can be done.
fn told(outcome: io::Result<()>, what: &str) {
    match outcome {
        // What the card doesn't do can't be turned off.
        Err(problem) if problem.raw_os_error() != Some(Errno::EOPNOTSUPP as i32) => {
            eprintln!("turning off {what}: {problem}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn only_cards_with_a_known_fault_are_touched() {
        assert!(is_known(Path::new("../../../bus/pci/drivers/r8169")));
        assert!(!is_known(Path::new("../../../bus/pci/drivers/igc")));
        assert!(!is_known(Path::new("")));
    }

    #[test]
    fn what_is_turned_off_is_off() {
        // This thread alone gets the network of its own.
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().expect(program);
            assert!(
                output.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        run("ip", &["link", "add", "card", "type", "veth", "peer", "name", "other"]);
        // Not their groups: a kernel may have kinds of segmentation that the call is older than.
        let work =
            ["tx-tcp-segmentation", "tx-tcp6-segmentation", "scatter-gather", "tx-checksumming"];
        let states = |shown: &str| {
            work.map(|name| {
                let line = shown
                    .lines()
                    .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
                line.expect(name).split_whitespace().next().expect(name).to_owned()
            })
        };
        let before = states(&run("ethtool", &["-k", "card"]));
        assert_eq!(before, ["on"; 4], "nothing to turn off");
        quiet("card");
        assert_eq!(states(&run("ethtool", &["-k", "card"])), ["off"; 4]);
    }
}
