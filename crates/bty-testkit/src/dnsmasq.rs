//! What the LAN already has, played by dnsmasq: a DHCP server, which gives addresses and knows nothing of booting, and an IPv6
//! router.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{child::Child, namespace::Host};

/// How long dnsmasq may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running dnsmasq.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    leases: PathBuf,
}

impl Dnsmasq {
    /// Starts it on `host`, giving addresses from `first` to `last` (`10.77.0.100` and so on); its files are in `folder`.
    pub fn start(host: &Host, folder: &Path, first: &str, last: &str) -> Result<Self> {
        // no-ping: else each first offer comes 3 s late.
        let lines =
            format!("no-ping\ndhcp-authoritative\ndhcp-range={first},{last},255.255.255.0,1h\n");
        Self::start_with(host, folder, &lines, "DHCP, IP range")
    }

    /// Starts it on `host` as a proxy, which gives no addresses and names `boot_file` to each PC and each x64 UEFI that netboots.
    pub fn start_proxy(host: &Host, folder: &Path, boot_file: &str) -> Result<Self> {
        let lines = format!(
            "dhcp-range=10.77.0.0,proxy\npxe-service=x86PC,\"other\",{boot_file}\n\
             pxe-service=X86-64_EFI,\"other\",{boot_file}\n"
        );
        Self::start_with(host, folder, &lines, "DHCP, proxy")
    }

    /// Starts it on `host` as a router that gives no addresses and leads nowhere. Without one iPXE of 2019, which QEMU's
    /// cards have, waits 16 s for it at each boot.
    pub fn start_router(host: &Host, folder: &Path) -> Result<Self> {
        host.namespace.ip(&["address", "add", "fd77::1/64", "dev", "eth0", "nodad"])?;
        Self::start_with(
            host,
            folder,
            "enable-ra\ndhcp-range=fd77::,ra-only\n",
            "router advertisement",
        )
    }

    /// Starts it on `host` as a DHCP server that boots machines too: iPXE from `root` by TFTP, for HTTP Boot and for what iPXE runs
    /// from `url`. As well set up as it can be: iPXE is told not to wait for proxies.
    pub fn start_boot_server(host: &Host, folder: &Path, root: &Path, url: &str) -> Result<Self> {
        let lines = format!(
            "no-ping\ndhcp-authoritative\ndhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,1h\n\
             enable-tftp\ntftp-root={root}\n\
             dhcp-match=set:http,option:client-arch,16\ndhcp-match=set:efi,option:client-arch,7\n\
             dhcp-userclass=set:ipxe,iPXE\ndhcp-option-force=tag:http,60,HTTPClient\n\
             dhcp-boot=tag:ipxe,{url}/boot.ipxe\n\
             dhcp-boot=tag:http,tag:!ipxe,{url}/snponly.efi\n\
             dhcp-boot=tag:efi,tag:!ipxe,snponly.efi\n\
             dhcp-boot=tag:!efi,tag:!http,tag:!ipxe,undionly.kpxe\n\
             dhcp-option=tag:ipxe,encap:175,176,1b\n",
            root = root.display()
        );
        Self::start_with(host, folder, &lines, "DHCP, IP range")
    }

    fn start_with(host: &Host, folder: &Path, lines: &str, ready: &str) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let leases = folder.join("dnsmasq.leases");
        let configuration = folder.join("dnsmasq.conf");
        // port=0: no DNS.
        let text = format!(
            "port=0\nlog-dhcp\nlog-facility=-\nno-resolv\nno-hosts\nuser=root\ngroup=root\n\
             interface=eth0\nbind-interfaces\ndhcp-leasefile={}\npid-file={}\n{lines}",
            leases.display(),
            folder.join("dnsmasq.pid").display()
        );
        fs::write(&configuration, text).context("writing dnsmasq.conf")?;
        let mut child = host
            .program("dnsmasq")
            .arg("--keep-in-foreground")
            .arg(format!("--conf-file={}", configuration.display()))
            .spawn(&folder.join("dnsmasq.log"))?;
        child.wait_for_log(ready, START_TIMEOUT)?;
        Ok(Self { child, leases })
    }

    /// What it has logged: each message with its options.
    pub fn log(&self) -> Result<String> {
        self.child.log()
    }

    /// The address that it leased to this MAC (lower case, colons).
    pub fn leased_to(&self, mac: &str) -> Option<String> {
        let leases = fs::read_to_string(&self.leases).ok()?;
        leases.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            (fields.next()? == mac).then(|| fields.next().map(str::to_owned))?
        })
    }
}
