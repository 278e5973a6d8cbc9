//! The GRUB configurations that machines run whose firmware wants signed programs (Secure Boot).
//!
//! shim starts GRUB, GRUB looks for its configuration beside where it came from, and that asks for the machine's own, again and
//! again: what is served returns to it when it has nothing more to do. GRUB checks the kernel's signature by shim.

use std::net::SocketAddr;

use super::script::{Live, Target, harmless, host, initramfs_query, kernel_arguments, live_query};

/// How often the first configuration asks a server that does not answer before it leaves for the disk.
const TRIES: usize = 20;
/// Seconds between two questions to a server that does not answer.
const RETRY_SECONDS: u32 = 3;
/// Seconds between two questions of a machine that waits.
const HOLD_SECONDS: u32 = 15;

/// Loaders of a disk, in the order in which they are looked for: what every firmware starts, and what systems leave where their
/// disk has no such file.
const LOADERS: [&str; 4] = [
    "/EFI/BOOT/BOOTX64.EFI",
    "/EFI/debian/shimx64.efi",
    "/EFI/ubuntu/shimx64.efi",
    "/EFI/Microsoft/Boot/bootmgfw.efi",
];

/// The first configuration, the same for every machine: it asks for the machine's own, for ever while the server answers.
pub fn first(server: SocketAddr, via: &str) -> String {
    let from = device(server);
    let misses = "x".repeat(TRIES);
    let leave = leave();
    format!(
        "set tries=0\n\
         set misses=\"\"\n\
         while true; do\n\
         if source \"{from}/boot/grub?mac=${{net_default_mac}}&via={via}&platform=efi&tries=${{tries}}\"; then\n\
         set misses=\"\"\n\
         else\n\
         set misses=\"x${{misses}}\"\n\
         echo \"bty: the server does not answer, asking again\"\n\
         fi\n\
         if [ \"${{misses}}\" = \"{misses}\" ]; then\n\
         echo \"bty: the server does not answer, booting the disk\"\n\
         {leave}\
         fi\n\
         set tries=1\n\
         sleep {RETRY_SECONDS}\n\
         done\n"
    )
}

/// Boots the disk.
pub fn local(target: &Target, reason: &str) -> String {
    let leave = if target.other_exit { "exit\n".to_owned() } else { leave() };
    format!("echo \"bty: booting the disk: {}\"\n{leave}", harmless(reason))
}

/// Waits and asks again.
pub fn hold(target: &Target, reason: &str) -> String {
    format!("echo \"bty: {} waits: {}\"\nsleep {HOLD_SECONDS}\n", target.mac, harmless(reason))
}

/// Boots the live system.
pub fn live(target: &Target, reason: &str, live: &Live) -> String {
    let from = device(target.server);
    let query = live_query(target, live);
    let with_modules = initramfs_query(target, live);
    let arguments = kernel_arguments(target, live);
    format!(
        "echo \"bty: starting the live system: {reason}\"\n\
         if linux \"{from}/live/vmlinuz?{query}\" {arguments}; then\n\
         if initrd \"{from}/live/initramfs.img?{with_modules}\"; then\n\
         boot\n\
         fi\n\
         fi\n\
         echo \"bty: the live system did not load, asking again\"\n",
        reason = harmless(reason)
    )
}

/// To the disk: GRUB's own exit tells firmware that all went well, and that opens its menu. So the disk's loader is started here,
/// checked by shim as GRUB was. It looks for its other files on the device that GRUB calls root.
fn leave() -> String {
    let mut commands: String = LOADERS
        .iter()
        .map(|loader| {
            format!(
                "if search --no-floppy --file --set=root {loader}; then\n\
                 if chainloader {loader}; then\n\
                 boot\n\
                 fi\n\
                 fi\n"
            )
        })
        .collect();
    commands += "exit\n";
    commands
}

/// The server as GRUB names it.
fn device(server: SocketAddr) -> String {
    format!("(http,{})", host(server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::query::{Cpu, Platform};

    fn target(other_exit: bool) -> Target {
        Target {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            via: "pxe",
            platform: Platform::Efi,
            cpu: Cpu::X64,
            server: "10.77.0.1:80".parse().unwrap(),
            other_exit,
        }
    }

    #[test]
    fn the_first_configuration_asks_for_the_machines_own() {
        let first = first("10.77.0.1:80".parse().unwrap(), "http");
        let question = "if source \"(http,10.77.0.1)/boot/grub?mac=${net_default_mac}&via=http&platform=efi&tries=${tries}\"";
        assert!(first.contains(question), "{first}");
        assert_eq!(first.matches("while").count(), first.matches("done").count());
    }

    #[test]
    fn the_disk_is_started_by_its_loader_or_left_to_the_firmware() {
        let usual = local(&target(false), "flashed");
        assert!(usual.contains("chainloader /EFI/BOOT/BOOTX64.EFI"), "{usual}");
        assert_eq!(local(&target(true), "x"), "echo \"bty: booting the disk: x\"\nexit\n");
    }

    #[test]
    fn every_if_is_ended() {
        let details = Live {
            api_port: 443,
            pin: String::new(),
            token: String::new(),
            boot_id: String::new(),
            modules: Vec::new(),
        };
        for text in [
            first(target(false).server, "pxe"),
            local(&target(false), "x"),
            hold(&target(false), "x"),
            live(&target(false), "x", &details),
        ] {
            let lines = |word: &str| {
                text.lines().filter(|line| line.split(' ').next() == Some(word)).count()
            };
            assert_eq!(lines("if"), lines("fi"), "{text}");
        }
    }

    #[test]
    fn no_reason_gets_a_command_into_a_configuration() {
        for reason in ["\"; reboot; echo \"", "$(x)", "a\nreboot", "`x`", "${x}", "a\\"] {
            let text = hold(&target(false), reason);
            assert_eq!(text.lines().count(), 2, "{text}");
            let said = text.lines().next().unwrap();
            assert_eq!(said.matches('"').count(), 2, "{said}");
            assert!(!said.contains(['$', '`', '\\']), "{said}");
        }
    }
}
