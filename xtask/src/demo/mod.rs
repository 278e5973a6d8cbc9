//! `cargo xtask demo`: the main job, end to end, in a virtual lab.
//!
//! Every machine is switched on with an empty disk, netboots through its real firmware, is flashed, boots its disk to the login,
//! and is switched on once more, when it must be left alone. What is shown comes from the appliance's own record, and from the
//! machines' serial consoles.

mod cycle;
mod table;
mod timeline;

use std::{
    collections::VecDeque,
    io::IsTerminal,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    osimage::{self, Packing},
    packages,
};
use clap::ValueEnum;
use xshell::Shell;

use crate::{
    build::{self, Profile},
    live::Cpu,
    workspace,
};
use cycle::{Cycle, Phase};

/// How to run the demo.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many machines.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    machines: u32,
    /// How many of them are on at the same time, at most. Each takes 1 GiB of
    /// memory; with more than there are processors to emulate them, each
    /// takes longer.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
    /// How they start; `all` takes the three in turn.
    #[arg(long, value_enum, default_value = "bios")]
    firmware: FirmwareArg,
    /// Who gives addresses: a foreign server, with bty as a proxy beside it,
    /// or bty.
    #[arg(long, value_enum, default_value = "proxy")]
    dhcp: DhcpArg,
    /// Leave the lab running at the end, and say what to try.
    #[arg(long)]
    keep: bool,
    /// What to print: a live table and timelines, or one JSON document.
    #[arg(long, value_enum, default_value = "table")]
    output: OutputArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FirmwareArg {
    /// SeaBIOS, PXE.
    Bios,
    /// OVMF, PXE.
    Uefi,
    /// OVMF, HTTP Boot.
    Http,
    /// One after the other.
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DhcpArg {
    Proxy,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputArg {
    Table,
    Json,
}

/// The name that the image gets.
const IMAGE: &str = "debian:13";
/// The longest that one power-on may take to its login, where each machine has a processor to itself.
const LIMIT: Duration = Duration::from_mins(10);
/// Room for the image and some.
const DISK_BYTES: u64 = 4 << 30;

/// Runs the demo; an error where any machine did not come through.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    packages::ensure(&[packages::LAB, packages::IMAGES, packages::LIVE].concat())?;
    let shell = Shell::new()?;
    shell.change_dir(workspace::root());
    let binaries = build::programs(&shell, Profile::Lab)?;
    let live = build::live(&shell, Profile::Lab, &[Cpu::X64])?;
    if bty_testkit::require_root().is_err() {
        return build::again_as_root();
    }
    eprintln!("the operating system image (built on first use, which takes some minutes)");
    let image = osimage::packed(&osimage::debian("v1")?, Packing::Zstd)?;

    let dhcp = match args.dhcp {
        DhcpArg::Proxy => DhcpMode::Proxy,
        DhcpArg::Full => DhcpMode::Full,
    };
    eprintln!(
        "the lab: a switch, {}, the daemons",
        match args.dhcp {
            DhcpArg::Proxy => "a foreign DHCP server",
            DhcpArg::Full => "bty as the DHCP server",
        }
    );
    let mut appliance = Appliance::start(ApplianceSpec::new(binaries, live, dhcp))?;
    let id = appliance.import(&image, IMAGE)?;
    eprintln!("imported {IMAGE}, {id}");

    let processors = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let at_once = args.at_once.min(args.machines) as usize;
    let limit = LIMIT * u32::try_from(at_once.div_ceil(processors)).unwrap_or(1);
    let mut cycles = Vec::new();
    for number in 1..=args.machines {
        cycles.push(prepare(&mut appliance, number, args.firmware, limit)?);
    }
    let outcome = drive(&appliance, cycles, at_once, args.output);
    let failed = match outcome {
        Ok(ref cycles) => report(&appliance, cycles, args.output)?,
        Err(error) => {
            eprintln!("{}", appliance.logs());
            return Err(error);
        }
    };
    if args.keep {
        keep(&appliance);
    }
    if failed > 0 {
        if !args.keep {
            eprintln!("{}", appliance.logs());
        }
        bail!("{failed} of {} machines did not come through", args.machines);
    }
    Ok(())
}

fn prepare(
    appliance: &mut Appliance,
    number: u32,
    firmware: FirmwareArg,
    limit: Duration,
) -> Result<Cycle> {
    let firmware = match firmware {
        FirmwareArg::Bios => Firmware::Bios,
        FirmwareArg::Uefi => Firmware::UefiPxe,
        FirmwareArg::Http => Firmware::UefiHttp,
        FirmwareArg::All => match number % 3 {
            1 => Firmware::Bios,
            2 => Firmware::UefiPxe,
            _ => Firmware::UefiHttp,
        },
    };
    let name = format!("m{number}");
    let serial = format!("DISK{number:04}");
    let disk = appliance.new_disk(&serial, DISK_BYTES)?;
    let machine = appliance.add_machine(&name, firmware, vec![disk])?;
    let mac = mac_of(&machine)?;
    let disk = format!("serial:{serial}");
    let set = [
        "machine",
        "set",
        &mac,
        "--name",
        &name,
        "--image",
        IMAGE,
        "--disk",
        &disk,
        "--policy",
        "flash-once",
    ];
    appliance.btyctl(&set)?;
    Ok(Cycle::new(name, mac, firmware, machine, limit))
}

fn mac_of(machine: &Machine) -> Result<String> {
    machine.spec().nics.first().map(|nic| nic.mac.clone()).context("a machine without a card")
}

/// Takes every machine through its cycle, so many at a time.
fn drive(
    appliance: &Appliance,
    cycles: Vec<Cycle>,
    at_once: usize,
    output: OutputArg,
) -> Result<Vec<Cycle>> {
    let mut waiting: VecDeque<Cycle> = cycles.into();
    let mut done = Vec::new();
    let mut running: Vec<Cycle> = Vec::new();
    let mut table = table::Table::new(output == OutputArg::Table, std::io::stderr().is_terminal());
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < at_once
            && let Some(mut cycle) = waiting.pop_front()
        {
            cycle.start()?;
            running.push(cycle);
        }
        let shown = appliance.btyctl(&["machine", "list"])?;
        for cycle in &mut running {
            cycle.look(appliance, &shown)?;
        }
        table.show(done.iter().chain(&running).chain(&waiting));
        let (ended, going): (Vec<_>, Vec<_>) = running.into_iter().partition(Cycle::is_over);
        running = going;
        done.extend(ended);
        std::thread::sleep(Duration::from_millis(500));
    }
    table.show(done.iter());
    done.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(done)
}

fn report(appliance: &Appliance, cycles: &[Cycle], output: OutputArg) -> Result<usize> {
    match output {
        OutputArg::Table => timeline::print(appliance, cycles)?,
        OutputArg::Json => timeline::print_json(appliance, cycles)?,
    }
    Ok(cycles.iter().filter(|cycle| cycle.phase != Phase::LeftAlone).count())
}

fn keep(appliance: &Appliance) {
    let btyctl = appliance.btyctl_command();
    let namespace = appliance.server().namespace.name();
    eprintln!(
        "\nThe lab goes on until you press ctrl-c. Try, in another terminal:\n\n\
         \x20 {btyctl} machine list\n\
         \x20 {btyctl} machine explain m1\n\
         \x20 {btyctl} run list\n\
         \x20 {btyctl} dhcp log\n\
         \x20 {btyctl} event watch\n\
         \x20 ip netns exec {namespace} curl -s http://10.77.0.1/api/machines\n\
         \n\x20 files and logs: {}\n",
        appliance.folder().display()
    );
    let started = Instant::now();
    // ctrl-c ends the process, and with it everything that it started; nothing is ever sent here.
    let (_never, wait) = mpsc::channel::<()>();
    let _ = wait.recv();
    eprintln!("the lab ran for {:.0} s more", started.elapsed().as_secs_f64());
}
