//! Which ways are tried, in which order, and why the others are not: a function of what the disk offers.

use super::{How, Way};
use crate::ata::{EraseTime, Security};

/// A command that can't be called off and takes longer than this is carried out only where it is asked for by its name.
const LONG_MINUTES: u32 = 60;

/// What a disk offers to be erased by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Whether it has platters: overwriting takes hours.
    pub rotational: bool,
    /// What its NVMe controller has, or why it has nothing.
    pub nvme: Result<NvmeOffer, String>,
    /// What it has as an ATA disk, or why it has nothing.
    pub ata: Result<AtaOffer, String>,
    /// Whether it takes discards.
    pub discards: bool,
    /// Whether it takes those that erase every copy.
    pub secure_discards: bool,
}

/// What an NVMe controller has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NvmeOffer {
    /// What it can do.
    pub controller: crate::nvme::Controller,
    /// Namespaces beside the one that is to be erased.
    pub others: usize,
    /// How many seconds an erase of all blocks takes.
    pub block_seconds: Option<u32>,
    /// How many seconds forgetting the key takes.
    pub key_seconds: Option<u32>,
}

/// What an ATA disk has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtaOffer {
    /// The state of its passwords.
    pub security: Security,
    /// How long an erase takes.
    pub erase_time: EraseTime,
    /// The same of an enhanced one.
    pub enhanced_erase_time: EraseTime,
}

/// A way that will be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub way: Way,
    /// How many minutes the disk says that it takes.
    pub minutes: Option<u32>,
}

/// A way that will not be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which.
    pub way: Way,
    /// Why not.
    pub why: String,
}

/// What will be tried, in this order, and what won't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Will.
    pub planned: Vec<Planned>,
    /// Won't.
    pub passed_over: Vec<PassedOver>,
}

/// Decides.
pub fn choose(how: How, offer: &Offer) -> Plan {
    let mut plan = Plan::default();
    for way in Way::ALL {
        if how != How::Auto && way.how() != how {
            continue;
        }
        match judge(way, how, offer) {
            Ok(minutes) => plan.planned.push(Planned { way, minutes }),
            Err(why) => plan.passed_over.push(PassedOver { way, why }),
        }
    }
    plan
}

/// How many minutes it takes, or why it is not to be done.
fn judge(way: Way, how: How, offer: &Offer) -> Result<Option<u32>, String> {
    let is_auto = how == How::Auto;
    let time = match way {
        Way::SanitizeKey | Way::SanitizeBlocks | Way::FormatKey | Way::FormatData => {
            nvme(way, offer.nvme.as_ref().map_err(Clone::clone)?)?
        }
        Way::AtaEnhanced | Way::AtaErase => ata(way, offer.ata.as_ref().map_err(Clone::clone)?)?,
        Way::SecureDiscard if !offer.secure_discards => {
            return Err("the disk has no secure discard".into());
        }
        Way::Discard if !offer.discards => return Err("the disk takes no discards".into()),
        Way::Discard if is_auto && offer.rotational => {
            return Err("a discard leaves the data on the platters".into());
        }
        Way::SecureDiscard | Way::Discard | Way::Zeroes => return Ok(None),
    };
    match time {
        EraseTime::Minutes(minutes) | EraseTime::MoreThan(minutes)
            if is_auto && minutes > LONG_MINUTES =>
        {
            Err(format!(
                "the disk says that it takes {minutes} minutes, and it can't be called off; ask for it by its name"
            ))
        }
        EraseTime::Unknown if is_auto && offer.rotational => Err(
            "the disk doesn't say how long it takes, and it can't be called off; ask for it by its name"
                .into(),
        ),
        EraseTime::Minutes(minutes) | EraseTime::MoreThan(minutes) => Ok(Some(minutes)),
        EraseTime::Unknown => Ok(None),
    }
}

fn nvme(way: Way, offer: &NvmeOffer) -> Result<EraseTime, String> {
    let controller = offer.controller;
    let (has, what, touches_others) = match way {
        Way::SanitizeKey => (controller.sanitize_forgets_key, "crypto sanitize", true),
        Way::SanitizeBlocks => (controller.sanitize_erases_blocks, "block sanitize", true),
        Way::FormatKey => {
            let has = controller.can_format && controller.format_forgets_key;
            (has, "format with cryptographic erase", controller.formats_all)
        }
        _ => (controller.can_format, "format", controller.formats_all),
    };
    if !has {
        return Err(format!("the controller has no {what}"));
    }
    if touches_others && offer.others > 0 {
        return Err(format!(
            "it would erase {} more of the controller's namespaces, which are disks of their own",
            offer.others
        ));
    }
    let seconds = match way {
        Way::SanitizeKey => offer.key_seconds,
        Way::SanitizeBlocks => offer.block_seconds,
        _ => None,
    };
    Ok(seconds.map_or(EraseTime::Unknown, |seconds| EraseTime::Minutes(seconds.div_ceil(60))))
}

fn ata(way: Way, offer: &AtaOffer) -> Result<EraseTime, String> {
    let security = offer.security;
    let why = if !security.is_supported {
        "the disk has no security commands"
    } else if security.is_frozen {
        "the firmware has frozen the disk's security commands; let the machine sleep and wake (rtcwake -m mem -s 5), or pull the disk's power for a moment while the machine is on, then run this again"
    } else if security.is_expired {
        "too many wrong passwords were tried; switch the machine off and on, then run this again"
    } else if security.is_enabled {
        "the disk has a password that is not bty's; remove it with the program that set it (hdparm --security-unlock, --security-disable)"
    } else if way == Way::AtaEnhanced && !security.has_enhanced_erase {
        "the disk has no enhanced erase"
    } else {
        let time =
            if way == Way::AtaEnhanced { offer.enhanced_erase_time } else { offer.erase_time };
        return Ok(time);
    };
    Err(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::Controller;

    const NO: &str = "not one";

    fn nothing() -> Offer {
        Offer {
            rotational: false,
            nvme: Err(NO.into()),
            ata: Err(NO.into()),
            discards: false,
            secure_discards: false,
        }
    }

    fn nvme_with_all() -> NvmeOffer {
        let controller = Controller {
            can_format: true,
            formats_all: true,
            format_forgets_key: true,
            sanitize_forgets_key: true,
            sanitize_erases_blocks: true,
        };
        NvmeOffer { controller, block_seconds: Some(61), ..NvmeOffer::default() }
    }

    fn ata(erase: EraseTime, enhanced: EraseTime, security: Security) -> Offer {
        let security = Security { is_supported: true, ..security };
        let ata = AtaOffer { security, erase_time: erase, enhanced_erase_time: enhanced };
        Offer { ata: Ok(ata), ..nothing() }
    }

    fn ways(how: How, offer: &Offer) -> Vec<&'static str> {
        choose(how, offer).planned.iter().map(|planned| planned.way.as_str()).collect()
    }

    #[test]
    fn the_strongest_way_comes_first_and_zeroes_are_left_to_every_disk() {
        let ssd = Offer { nvme: Ok(nvme_with_all()), discards: true, ..nothing() };
        let all = [
            "nvme-sanitize-crypto",
            "nvme-sanitize-block",
            "nvme-format-crypto",
            "nvme-format",
            "discard",
            "zeroes",
        ];
        assert_eq!(ways(How::Auto, &ssd), all);
        assert_eq!(choose(How::Auto, &ssd).planned[1].minutes, Some(2));
        let virtual_disk = Offer { discards: true, secure_discards: true, ..nothing() };
        assert_eq!(ways(How::Auto, &virtual_disk), ["secure-discard", "discard", "zeroes"]);
        assert_eq!(ways(How::Auto, &nothing()), ["zeroes"]);
        let platters = Offer { rotational: true, discards: true, ..nothing() };
        assert_eq!(ways(How::Auto, &platters), ["zeroes"]);
        assert_eq!(ways(How::Discard, &platters), ["discard"]);
    }

    #[test]
    fn every_way_is_planned_or_passed_over_with_a_reason() {
        for how in [
            How::Auto,
            How::NvmeSanitize,
            How::NvmeFormat,
            How::AtaSecureErase,
            How::Discard,
            How::Zeroes,
        ] {
            let plan = choose(how, &nothing());
            let meant = Way::ALL.iter().filter(|way| how == How::Auto || way.how() == how).count();
            assert_eq!(plan.planned.len() + plan.passed_over.len(), meant);
            assert!(plan.passed_over.iter().all(|passed| !passed.why.is_empty()));
        }
        assert_eq!(choose(How::NvmeFormat, &nothing()).passed_over[0].why, NO);
    }

    #[test]
    fn other_namespaces_are_left_alone() {
        let others = NvmeOffer { others: 2, ..nvme_with_all() };
        let offer = Offer { nvme: Ok(others), ..nothing() };
        assert_eq!(ways(How::Auto, &offer), ["zeroes"]);
        assert!(choose(How::NvmeSanitize, &offer).passed_over[0].why.contains("2 more"));
        let controller = Controller { formats_all: false, ..others.controller };
        let offer = Offer { nvme: Ok(NvmeOffer { controller, ..others }), ..nothing() };
        assert_eq!(ways(How::Auto, &offer), ["nvme-format-crypto", "nvme-format", "zeroes"]);
    }

    #[test]
    fn what_takes_long_has_to_be_asked_for() {
        use EraseTime::{Minutes, MoreThan, Unknown};
        let enhanced = Security { has_enhanced_erase: true, ..Security::default() };
        let offer = ata(Minutes(200), Minutes(2), enhanced);
        assert_eq!(ways(How::Auto, &offer), ["ata-secure-erase-enhanced", "zeroes"]);
        let plan = choose(How::Auto, &offer);
        assert!(plan.passed_over.iter().any(|passed| passed.why.contains("200 minutes")));
        let both = ["ata-secure-erase-enhanced", "ata-secure-erase"];
        assert_eq!(ways(How::AtaSecureErase, &offer), both);
        assert_eq!(choose(How::AtaSecureErase, &offer).planned[1].minutes, Some(200));
        let slow = ata(MoreThan(508), Unknown, enhanced);
        assert_eq!(ways(How::Auto, &slow), ["ata-secure-erase-enhanced", "zeroes"]);
        let platters = Offer { rotational: true, ..slow };
        assert_eq!(ways(How::Auto, &platters), ["zeroes"]);
    }

    #[test]
    fn a_disk_whose_security_is_not_free_is_refused_with_what_to_do() {
        let is = Security::default();
        let cases = [
            (Security { is_frozen: true, ..is }, "sleep and wake"),
            (Security { is_expired: true, ..is }, "off and on"),
            (Security { is_enabled: true, is_locked: true, ..is }, "not bty's"),
            (Security { is_frozen: true, is_enabled: true, ..is }, "sleep and wake"),
        ];
        for (security, says) in cases {
            let offer = ata(EraseTime::Minutes(2), EraseTime::Minutes(2), security);
            let plan = choose(How::AtaSecureErase, &offer);
            assert_eq!(plan.planned, []);
            assert!(plan.passed_over.iter().all(|passed| passed.why.contains(says)), "{plan:?}");
        }
        let mut offer = ata(EraseTime::Minutes(2), EraseTime::Minutes(2), is);
        assert_eq!(ways(How::AtaSecureErase, &offer), ["ata-secure-erase"]);
        offer.ata = Ok(AtaOffer::default());
        assert_eq!(ways(How::AtaSecureErase, &offer), [""; 0]);
    }
}
