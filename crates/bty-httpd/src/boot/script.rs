//! The iPXE scripts that machines run.
//!
//! Rules, each paid for by somebody: addresses are IP literals (firmware may have no DNS); every script ends in a new question
//! or in the disk, never in a shell or at a key; nothing from outside gets into a script unless it is made of harmless
//! characters; `exit` leaves UEFI in its setup menu, `exit 1` moves on to the next boot option.

use std::net::{IpAddr, SocketAddr};

use bty_types::MacAddr;

use super::query::{Cpu, MAX_MODULES, Platform};

/// What every script needs to know of the machine and of this server.
#[derive(Debug, Clone)]
pub struct Target {
    /// The machine.
    pub mac: MacAddr,
    /// How its firmware came: `pxe` or `http`.
    pub via: &'static str,
    /// Its platform.
    pub platform: Platform,
    /// Its processor.
    pub cpu: Cpu,
    /// The address and port that the machine reached this server by.
    pub server: SocketAddr,
    /// Whether it leaves for its disk the other way: the usual one brought it back.
    pub other_exit: bool,
}

/// What the live system needs to reach the agents' API, all of it on the kernel's command line.
#[derive(Debug, Clone)]
pub struct Live {
    /// The port of the agents' API on the same address.
    pub api_port: u16,
    /// SHA-256 of the server's certificate, in hexadecimal.
    pub pin: String,
    /// The token of this boot.
    pub token: String,
    /// The id of this boot.
    pub boot_id: String,
    /// The kernel modules that it needs; empty for all that there are.
    pub modules: Vec<String>,
}

/// How often the first script asks a server that does not answer before it leaves for the disk.
const TRIES: u32 = 20;
/// Seconds between two questions to a server that does not answer.
const RETRY_SECONDS: u32 = 3;
/// Seconds between two questions of a machine that waits.
const HOLD_SECONDS: u32 = 15;

/// What spares the kernel up to two seconds on a small or emulated processor: it runs one program that is ours, for minutes, and
/// checks neither its own ciphers nor guards users from each other.
const QUICK: &str = "cryptomgr.notests initcall_blacklist=jent_mod_init,crypto_kdf108_init mitigations=off audit=0 \
                     lsm=capability init_on_alloc=0 rcupdate.rcu_expedited=1";

/// Cards and disks that save power on their bus have lost themselves there; a machine that is flashed has no power to save.
const AWAKE: &str = "pcie_aspm.policy=performance nvme_core.default_ps_max_latency_us=0";

impl Cpu {
    /// The folder of its live system, below `/live/`.
    const fn folder(self) -> &'static str {
        match self {
            Self::X64 => "",
            Self::Arm64 => "arm64/",
        }
    }

    /// What its kernel is told beside what every kernel is. The last console is /dev/console. On x86 not ttyS1, where some boards
    /// have their serial over LAN: Debian's 6.12 hangs early where a console is named whose port isn't there; the live system itself
    /// speaks on every port that is. On ARM a console begins with its driver, and one that isn't there harms nothing; a serial port
    /// of the PC's kind is found by the live system too.
    const fn arguments(self) -> &'static str {
        match self {
            Self::X64 => "noreplace-smp console=tty0 console=ttyS0,115200",
            Self::Arm64 => "console=tty0 console=ttyAMA0,115200",
        }
    }
}

/// The first script, the same for every machine: it asks for the machine's own. iPXE that fetched it as `autoexec.ipxe`, by the
/// firmware's HTTP client, has no address of its own yet.
pub fn first(server: SocketAddr, via: &str) -> String {
    let server = host(server);
    format!(
        "#!ipxe\n\
         set tries:int32 0\n\
         :ask\n\
         isset ${{netX/ip}} || dhcp ||\n\
         isset ${{netX/mac}} && set bty-mac ${{netX/mac:hexhyp}} || set bty-mac ${{net0/mac:hexhyp}}\n\
         chain --replace http://{server}/boot/script?mac=${{bty-mac}}&via={via}&platform=${{platform}}&arch=${{buildarch}}&tries=${{tries:int32}} ||\n\
         inc tries\n\
         iseq ${{tries:int32}} {TRIES} && goto away ||\n\
         echo bty: the server {server} does not answer, asking again\n\
         sleep {RETRY_SECONDS}\n\
         goto ask\n\
         :away\n\
         echo bty: the server {server} does not answer, booting the disk\n\
         exit 1\n"
    )
}

/// Boots the disk.
pub fn local(target: &Target, reason: &str) -> String {
    let leave = match (target.platform, target.other_exit) {
        // Some BIOSes stop after exit instead of going on to the disk.
        (Platform::Bios, false) => "sanboot --no-describe --drive 0x80 || exit 1",
        // Some firmware starts over after exit: then iPXE starts the disk's loader itself.
        (Platform::Efi, true) => {
            "sanboot --no-describe --drive 0 --filename \\EFI\\BOOT\\BOOTX64.EFI || exit 1"
        }
        (Platform::Bios, true) | (Platform::Efi, false) => "exit 1",
    };
    format!("#!ipxe\necho bty: booting the disk: {}\n{leave}\n", harmless(reason))
}

/// Waits and asks again.
pub fn hold(target: &Target, reason: &str) -> String {
    let url = script_url(target);
    format!(
        "#!ipxe\n\
         echo bty: {} waits: {}\n\
         :wait\n\
         sleep {HOLD_SECONDS}\n\
         chain --replace {url} ||\n\
         goto wait\n",
        target.mac,
        harmless(reason)
    )
}

/// Boots the live system.
pub fn live(target: &Target, reason: &str, live: &Live) -> String {
    let server = host(target.server);
    let query = live_query(target, live);
    let with_modules = initramfs_query(target, live);
    let arguments = kernel_arguments(target, live);
    let folder = target.cpu.folder();
    let url = script_url(target);
    format!(
        "#!ipxe\n\
         echo bty: starting the live system: {reason}\n\
         imgfree ||\n\
         kernel http://{server}/live/{folder}vmlinuz?{query} initrd=initramfs.img {arguments} || goto again\n\
         initrd --name initramfs.img http://{server}/live/{folder}initramfs.img?{with_modules} || goto again\n\
         boot || goto again\n\
         :again\n\
         echo bty: the live system did not load, asking again\n\
         sleep {RETRY_SECONDS}\n\
         chain --replace {url} ||\n\
         goto again\n",
        reason = harmless(reason)
    )
}

/// What tells who fetches the live system.
pub(super) fn live_query(target: &Target, live: &Live) -> String {
    format!("mac={}&boot={}", target.mac.hyphenated(), live.boot_id)
}

/// The same for the initramfs, and what is to be in it.
pub(super) fn initramfs_query(target: &Target, live: &Live) -> String {
    let query = live_query(target, live);
    match live.modules.len() {
        1..=MAX_MODULES => format!("{query}&modules={}", live.modules.join(",")),
        _ => query,
    }
}

/// The kernel's command line, but for the initramfs, which each boot program names in its own way.
pub(super) fn kernel_arguments(target: &Target, live: &Live) -> String {
    let server = host(target.server);
    let mac = target.mac.hyphenated();
    let cpu = target.cpu.arguments();
    let Live { api_port, pin, token, boot_id, modules: _ } = live;
    let api = host(SocketAddr::new(target.server.ip(), *api_port));
    format!(
        "quiet loglevel=4 panic=30 {QUICK} {AWAKE} {cpu} BOOTIF=01-{mac} bty.server={server} bty.api={api} bty.pin={pin} \
         bty.mac={mac} bty.boot={boot_id} bty.token={token}"
    )
}

fn script_url(target: &Target) -> String {
    let Target { mac, via, platform, cpu, server, .. } = target;
    format!(
        "http://{}/boot/script?mac={}&via={via}&platform={}&arch={}",
        host(*server),
        mac.hyphenated(),
        platform.as_str(),
        cpu.as_str()
    )
}

/// The address as it stands in a URL, without port 80.
pub(super) fn host(server: SocketAddr) -> String {
    let ip = match server.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            ip.to_ipv4_mapped().map_or_else(|| format!("[{ip}]"), |ip| ip.to_string())
        }
    };
    if server.port() == 80 { ip } else { format!("{ip}:{}", server.port()) }
}

/// A sentence as it may stand in a script, iPXE's or GRUB's: iPXE expands `${...}`, and reads `#`, `&&`, `||` and line ends as its own.
pub(super) fn harmless(text: &str) -> String {
    let fit = |character: char| {
        let plain = character.is_ascii_alphanumeric() || " .,:;-_/()+=".contains(character);
        if plain { character } else { ' ' }
    };
    text.chars().take(300).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(platform: Platform) -> Target {
        Target {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            via: "pxe",
            platform,
            cpu: Cpu::X64,
            server: "10.77.0.1:80".parse().unwrap(),
            other_exit: false,
        }
    }

    #[test]
    fn uefi_leaves_by_exit_1_and_a_bios_by_its_first_disk() {
        assert_eq!(
            local(&target(Platform::Efi), "flashed"),
            "#!ipxe\necho bty: booting the disk: flashed\nexit 1\n"
        );
        assert_eq!(
            local(&target(Platform::Bios), "flashed"),
            "#!ipxe\necho bty: booting the disk: flashed\nsanboot --no-describe --drive 0x80 || exit 1\n"
        );
    }

    #[test]
    fn a_machine_that_came_back_leaves_the_other_way() {
        let leaves = |platform| local(&Target { other_exit: true, ..target(platform) }, "flashed");
        assert!(leaves(Platform::Bios).ends_with("\nexit 1\n"));
        let efi = leaves(Platform::Efi);
        assert!(efi.contains("sanboot --no-describe --drive 0 --filename \\EFI\\BOOT"), "{efi}");
    }

    #[test]
    fn the_live_system_gets_its_card_server_pin_and_token() {
        let details = Live {
            api_port: 443,
            pin: "ab".repeat(32),
            token: "cd".repeat(80),
            boot_id: "0192".into(),
            modules: Vec::new(),
        };
        let script = live(&target(Platform::Efi), "assigned debian:13", &details);
        let kernel = script.lines().find(|line| line.starts_with("kernel ")).unwrap();
        for part in [
            "kernel http://10.77.0.1/live/vmlinuz?mac=52-54-00-77-00-01&boot=0192 initrd=initramfs.img ",
            " BOOTIF=01-52-54-00-77-00-01 ",
            " bty.server=10.77.0.1 ",
            " bty.api=10.77.0.1:443 ",
            " bty.mac=52-54-00-77-00-01 ",
            " bty.boot=0192 ",
            &format!(" bty.pin={} ", "ab".repeat(32)),
            &format!(" bty.token={} ", "cd".repeat(80)),
        ] {
            assert!(kernel.contains(part), "{part:?} is missing in {kernel:?}");
        }
        // The smallest command line limit among what iPXE boots (x86 Linux before 2.06 had 255) is 2048 today.
        assert!(kernel.len() < 2048);
        let again: Vec<&str> = script.lines().skip_while(|line| *line != ":again").collect();
        assert!(
            again
                .iter()
                .any(|line| line.starts_with("chain --replace http://10.77.0.1/boot/script?"))
        );
    }

    #[test]
    fn an_arm_gets_its_own_live_system_and_is_told_nothing_of_x86() {
        let details = Live {
            api_port: 443,
            pin: String::new(),
            token: String::new(),
            boot_id: "0192".into(),
            modules: Vec::new(),
        };
        let target = Target { cpu: Cpu::Arm64, ..target(Platform::Efi) };
        let script = live(&target, "assigned debian:13", &details);
        for part in [
            "\nkernel http://10.77.0.1/live/arm64/vmlinuz?mac=",
            "\ninitrd --name initramfs.img http://10.77.0.1/live/arm64/initramfs.img?mac=",
            " console=ttyAMA0,115200 ",
        ] {
            assert!(script.contains(part), "{part:?} is missing in {script}");
        }
        for of_x86 in ["ttyS0", "noreplace-smp"] {
            assert!(!script.contains(of_x86), "{script}");
        }
    }

    #[test]
    fn a_known_machine_loads_what_it_needs_and_the_kernel_is_not_told() {
        let details = Live {
            api_port: 443,
            pin: String::new(),
            token: String::new(),
            boot_id: "0192".into(),
            modules: vec!["igc".into(), "nvme".into()],
        };
        let script = live(&target(Platform::Efi), "assigned", &details);
        assert!(
            script.contains(
                "/live/initramfs.img?mac=52-54-00-77-00-01&boot=0192&modules=igc,nvme ||"
            ),
            "{script}"
        );
        assert_eq!(script.matches("modules=").count(), 1, "{script}");
        let many = Live { modules: vec!["m".into(); MAX_MODULES + 1], ..details };
        assert!(!live(&target(Platform::Efi), "assigned", &many).contains("modules="));
    }

    #[test]
    fn a_machine_is_asked_for_its_processor_once_and_it_stays_in_every_url() {
        let first = first("10.77.0.1:80".parse().unwrap(), "pxe");
        assert!(first.contains("&arch=${buildarch}&"), "{first}");
        let target = Target { cpu: Cpu::Arm64, ..target(Platform::Efi) };
        let script = hold(&target, "x");
        assert!(script.contains("&platform=efi&arch=arm64 ||\n"), "{script}");
    }

    #[test]
    fn the_first_script_gets_an_address_where_there_is_none() {
        let script = first("10.77.0.1:80".parse().unwrap(), "http");
        let address = script.find("\nisset ${netX/ip} || dhcp ||\n").unwrap();
        assert!(address < script.find("\nchain ").unwrap(), "{script}");
    }

    #[test]
    fn every_script_ends_in_a_question_or_the_disk() {
        let details = Live {
            api_port: 443,
            pin: String::new(),
            token: String::new(),
            boot_id: String::new(),
            modules: Vec::new(),
        };
        for platform in [Platform::Bios, Platform::Efi] {
            let target = target(platform);
            for script in [
                first(target.server, "pxe"),
                local(&target, "x"),
                hold(&target, "x"),
                live(&target, "x", &details),
            ] {
                assert!(script.starts_with("#!ipxe\n"), "{script}");
                let last = script.trim_end().lines().last().unwrap();
                assert!(last.starts_with("goto ") || last.contains("exit"), "{last}");
                for stranding in ["shell", "prompt", "read ", "config"] {
                    assert!(!script.contains(stranding), "{script}");
                }
            }
        }
    }

    #[test]
    fn ports_and_mapped_addresses_are_written_as_clients_read_them() {
        assert_eq!(host("10.0.0.1:80".parse().unwrap()), "10.0.0.1");
        assert_eq!(host("10.0.0.1:8080".parse().unwrap()), "10.0.0.1:8080");
        assert_eq!(host("[::ffff:10.0.0.1]:80".parse().unwrap()), "10.0.0.1");
        assert_eq!(host("[fd00::1]:81".parse().unwrap()), "[fd00::1]:81");
    }

    proptest! {
        #[test]
        fn no_reason_gets_a_command_into_a_script(reason: String) {
            let script = hold(&target(Platform::Bios), &reason);
            prop_assert_eq!(script.lines().count(), 6);
            for special in ["${", "&&", "||\necho", "#"] {
                prop_assert!(!script.trim_start_matches("#!ipxe").contains(special));
            }
        }
    }
}
