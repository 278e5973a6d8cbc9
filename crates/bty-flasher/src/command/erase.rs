//! `bty-flasher erase`.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use bty_disk::{
    Disk,
    device::Target,
    discover::System,
    erase::{
        self, Erased, Failed, How, Offer, Plan, Planned, Reading, Said, Way, choose, erase, look,
    },
    gate::Needs,
};
use bty_types::ErrorKind;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{EraseArguments, Failure, Format, HowArgument, show::Show, write};
use crate::{
    engine::{Event, Step},
    target,
};

pub(super) fn run(arguments: &EraseArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let selector = write::selector(&arguments.disk)?;
    let system = System::default();
    let refused = |problem: target::TargetError| Failure::of(problem.kind(), &problem);
    let disk = target::choose(&system, &selector, Needs::default()).map_err(refused)?;
    // Held while it is asked about: nobody mounts it meanwhile.
    let device = target::open(&system, &disk).map_err(refused)?;
    let failed = |problem: erase::EraseError| Failure::of(problem.kind(), &problem);
    let how = how(arguments.how);
    let offer = look(&device, &disk, how).map_err(failed)?;
    let plan = choose(how, &offer);
    if !arguments.yes && !plan.planned.is_empty() {
        write::ask(&disk, &format!("{}Erase it?", steps(&plan)))?;
    }
    let cancelled = cancelled_by_signals()?;
    let show = Show::new(arguments.output);
    let size_bytes = device.size_bytes();
    let say = |said: Said<'_>| tell(&show, arguments.output, size_bytes, said);
    let outcome = erase(&device, &plan, &offer, &cancelled, &say);
    show.end();
    device.show_new_partitions();
    let erased = outcome.map_err(failed)?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report(arguments.output, &disk, &plan, &offer, &erased, elapsed_ms);
    Ok(())
}

const fn how(asked: HowArgument) -> How {
    match asked {
        HowArgument::Auto => How::Auto,
        HowArgument::NvmeSanitize => How::NvmeSanitize,
        HowArgument::NvmeFormat => How::NvmeFormat,
        HowArgument::AtaSecureErase => How::AtaSecureErase,
        HowArgument::Discard => How::Discard,
        HowArgument::Zeroes => How::Zeroes,
    }
}

/// What will be tried, for the person who is asked.
fn steps(plan: &Plan) -> String {
    let lines: Vec<String> = plan.planned.iter().map(|planned| trying(*planned)).collect();
    format!("The first of these that does it counts:\n  {}\n", lines.join("\n  "))
}

fn trying(Planned { way, minutes }: Planned) -> String {
    let time = match minutes {
        Some(minutes) => format!(", about {minutes} minutes as the disk says"),
        None => String::new(),
    };
    let stop = if way.can_be_stopped() { "" } else { ", can't be called off" };
    format!("{}{time}{stop}", way.as_str())
}

/// Set by ctrl-c and the like, which would else end the program while the disk has a password.
fn cancelled_by_signals() -> Result<Arc<AtomicBool>, Failure> {
    let failed = |problem: std::io::Error| {
        Failure::new(ErrorKind::Internal, format!("listening for signals: {problem}"))
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hangup] = {
        let [a, b, c] = kinds.map(signal);
        [a.map_err(failed)?, b.map_err(failed)?, c.map_err(failed)?]
    };
    drop(guard);
    let flag = Arc::clone(&cancelled);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                flag.store(true, Ordering::Relaxed);
                eprintln!("calling it off, as soon as the disk allows");
            }
        });
    });
    Ok(cancelled)
}

fn tell(show: &Show, format: Format, size_bytes: u64, said: Said<'_>) {
    let event = |done_bytes: u64, total_bytes: u64| {
        let percent = done_bytes.saturating_mul(100).checked_div(total_bytes);
        let percent = percent.and_then(|percent| u8::try_from(percent).ok());
        Event { done_bytes, total_bytes, percent, ..Event::begin(Step::Erase) }
    };
    match said {
        Said::Progress { done, total } => {
            // A sanitize counts in parts of its own.
            let done = u128::from(done) * u128::from(size_bytes) / u128::from(total.max(1));
            show.event(event(u64::try_from(done).unwrap_or(size_bytes), size_bytes));
        }
        Said::Trying(planned) if format == Format::Json => {
            println!(
                "{}",
                json!({ "step": "erase", "trying": planned.way.as_str(), "minutes": planned.minutes })
            );
        }
        Said::DidNot { way, why } if format == Format::Json => {
            println!(
                "{}",
                json!({ "step": "erase", "failed": way.as_str(), "why": why.to_string() })
            );
        }
        Said::Trying(planned) => {
            show.line(&format!("erasing by {}", trying(planned)));
            if planned.way.how() == How::AtaSecureErase {
                show.line(&format!(
                    "until it is done the disk has the password \"{}\"",
                    erase::PASSWORD
                ));
            }
        }
        Said::DidNot { way, why } => show.line(&format!("{} did not do it: {why}", way.as_str())),
        Said::Blanking => show.event(event(0, 0)),
        Said::Checking => show.event(Event::begin(Step::Prove)),
    }
}

/// Says what did it and what that is worth.
fn report(
    format: Format,
    disk: &Disk,
    plan: &Plan,
    offer: &Offer,
    erased: &Erased,
    elapsed_ms: u64,
) {
    let reading = erased.reading;
    if format == Format::Json {
        let tried =
            |(way, why): &(Way, Failed)| json!({ "way": way.as_str(), "why": why.to_string() });
        let passed: Vec<_> = plan
            .passed_over
            .iter()
            .map(|passed| json!({ "way": passed.way.as_str(), "why": passed.why }))
            .collect();
        let line = json!({
            "disk": disk.path,
            "serial": disk.serial,
            "wwn": disk.wwn,
            "way": erased.way.as_str(),
            "guarantee": erased.way.guarantee(),
            "reads_as_zeros": reading.is_zeros(),
            "places_read": reading.places,
            "places_zero": reading.zeros,
            "places_unreadable": reading.unreadable,
            "failed": erased.attempts.iter().map(tried).collect::<Vec<_>>(),
            "passed_over": passed,
            "rotational": offer.rotational,
            "elapsed_ms": elapsed_ms,
        });
        println!("{line}");
        return;
    }
    println!("{} was erased by {}", disk.path, erased.way.as_str());
    println!("{}", erased.way.guarantee());
    let what = if reading.is_zeros() {
        "it reads as zeros".to_owned()
    } else {
        let Reading { places, zeros, unreadable, .. } = reading;
        let other = places.saturating_sub(zeros + unreadable);
        format!(
            "{zeros} read as zeros, {other} as something else than before, {unreadable} can't be read"
        )
    };
    println!("{} places were looked at: {what}; no partition table is left", reading.places);
    for passed in plan.passed_over.iter().filter(|passed| is_stronger(passed.way, erased.way)) {
        println!("not tried: {}: {}", passed.way.as_str(), passed.why);
    }
}

/// Whether one way comes before the other.
fn is_stronger(one: Way, other: Way) -> bool {
    let place = |way| Way::ALL.iter().position(|known| *known == way);
    place(one) < place(other)
}
