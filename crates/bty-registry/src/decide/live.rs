//! Which drivers a machine's live system is loaded with: what it needed the last time, or all that there are.

use crate::record::Observed;

/// The kernel modules that the next live system needs; empty where it gets all: its hardware is not known, or has changed, or the
/// last live system's agent did not check in.
pub(crate) fn modules(observed: &Observed) -> &[String] {
    let Some(hardware) = &observed.hardware else { return &[] };
    // Not the boot id of its run: an agent that is told to boot the disk or to wait has checked in too, and begins none.
    let is_silent = observed.open_boot_id.is_some() && observed.open_boot_id != observed.checked_in;
    if is_silent || !hardware.missing_modules.is_empty() { &[] } else { &hardware.modules }
}

/// The modules that the machine's devices ask for and its present live system lacks, as a sentence has them; `None` where it lacks
/// none.
pub(crate) fn lacks(observed: &Observed) -> Option<String> {
    let hardware = observed.hardware.as_ref()?;
    (!hardware.missing_modules.is_empty()).then(|| hardware.missing_modules.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bty_api::types::v1::Hardware;
    use bty_types::Policy;

    use super::*;
    use crate::record::Machine;

    fn observed(modules: &[&str], missing: &[&str]) -> Observed {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mac = "52:54:00:77:00:01".parse().unwrap();
        let mut observed = Machine::new(mac, Policy::FlashOnce, SystemTime::UNIX_EPOCH).observed;
        observed.hardware = Some(Hardware {
            modules: names(modules),
            missing_modules: names(missing),
            ..Hardware::default()
        });
        observed
    }

    #[test]
    fn a_known_machine_gets_what_it_needed_and_an_unknown_one_all() {
        let mut known = observed(&["igc", "nvme"], &[]);
        assert_eq!(modules(&known), ["igc", "nvme"]);
        known.hardware = None;
        assert!(modules(&known).is_empty());
    }

    #[test]
    fn an_agent_that_did_not_check_in_is_followed_by_all() {
        let mut silent = observed(&["igc"], &[]);
        silent.open_boot_id = Some("b2".into());
        assert!(modules(&silent).is_empty());
        silent.checked_in = Some("b1".into());
        assert!(modules(&silent).is_empty(), "that was an earlier boot's");
        silent.checked_in = Some("b2".into());
        assert_eq!(modules(&silent), ["igc"], "its agent was there, and something else went wrong");
    }

    #[test]
    fn changed_hardware_is_followed_by_all() {
        let changed = observed(&["igc"], &["mpt3sas", "raid_class"]);
        assert!(modules(&changed).is_empty());
        assert_eq!(lacks(&changed).as_deref(), Some("mpt3sas, raid_class"));
        assert_eq!(lacks(&observed(&["igc"], &[])), None);
    }
}
