//! Results on standard output: tables for people, the contract's messages as JSON for programs.

#![allow(clippy::print_stdout, reason = "the one place that writes results")]

use std::{fmt::Write as _, io::Write, time::SystemTime};

use bty_types::ErrorKind;
use comfy_table::{ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::{arguments::Format, failure::Failure};

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    /// In this format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether a program reads the results.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Shows one result: the message itself as JSON, or what `people` makes of it.
    pub(crate) fn show<M: Message + Name>(
        self,
        message: &M,
        people: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => line(plain(&people(message)).trim_end()),
            Format::Json => line(&json(message, true)?),
        }
    }

    /// Shows a result that is JSON already, or what `people` makes of it.
    pub(crate) fn show_text(
        self,
        json: &str,
        people: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => line(plain(&people()).trim_end()),
            Format::Json => exact(json),
        }
    }

    /// Shows one of many results that keep coming: an object a line as JSON.
    pub(crate) fn show_next<M: Message + Name>(
        self,
        message: &M,
        people: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => line(plain(&people(message)).trim_end()),
            Format::Json => line(&json(message, false)?),
        }
    }
}

/// Shows text as it is, for whoever keeps it in a file.
pub(crate) fn exact(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Text without what a terminal obeys: machines and their disks say what they like of themselves.
pub(crate) fn plain(text: &str) -> String {
    let is_obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

fn written(outcome: std::io::Result<()>) -> Result<(), Failure> {
    match outcome {
        // Whoever read us has had enough.
        Err(problem) if problem.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::interrupted())
        }
        other => other.map_err(|problem| Failure::io("writing the result", &problem)),
    }
}

/// A message as JSON, by its descriptor, so that what grpcurl shows and what btyctl shows have one shape. Fields have their names
/// of the contract, and none is left out.
fn json<M: Message + Name>(message: &M, pretty: bool) -> Result<String, Failure> {
    let broken = |problem: String| {
        Failure::new(ErrorKind::Internal, format!("writing the result as JSON: {problem}"))
    };
    let pool = DescriptorPool::decode(bty_api::DESCRIPTORS)
        .map_err(|problem| broken(problem.to_string()))?;
    let name = M::full_name();
    let descriptor = pool
        .get_message_by_name(&name)
        .ok_or_else(|| broken(format!("{name} has no descriptor")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|problem| broken(problem.to_string()))?;
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true);
    let mut text = Vec::new();
    let outcome = if pretty {
        dynamic.serialize_with_options(&mut serde_json::Serializer::pretty(&mut text), &options)
    } else {
        dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
    };
    outcome.map_err(|problem| broken(problem.to_string()))?;
    String::from_utf8(text).map_err(|problem| broken(problem.to_string()))
}

/// A table with these columns.
pub(crate) fn table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(columns);
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

/// Facts about one thing, a line each; those without a value are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut shown = String::new();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(shown, "{name:width$}  {value}");
    }
    shown
}

/// A size in the units that disks are sold in, with three digits.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

/// A point in time in the local zone, to the second; empty where there is none.
pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> String {
    let zone = TimeZone::system();
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
        .map(|at| at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// How long ago something was; empty where it never was.
pub(crate) fn ago(at: Option<&prost_types::Timestamp>) -> String {
    let Some(at) = bty_api::convert::system_time(at) else { return String::new() };
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}

/// The first digits of an id, enough to tell things apart.
pub(crate) fn short(id: &str) -> String {
    id.trim_start_matches("blake3:").chars().take(12).collect()
}

/// An enum's name as people type it: `POLICY_FLASH_ONCE` without `POLICY_` becomes `flash-once`.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    match name.trim_start_matches(prefix) {
        "UNSPECIFIED" => String::new(),
        word => word.to_ascii_lowercase().replace('_', "-"),
    }
}

#[cfg(test)]
mod tests {
    use bty_api::{registry::v1::Machine, types::v1::Policy};

    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
        ];
        for (count, want) in sizes {
            assert_eq!(bytes(count), want);
        }
        assert_eq!(bytes(512_110_190_592), "512 GB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
    }

    #[test]
    fn what_a_terminal_obeys_is_not_shown() {
        assert_eq!(plain("a\tb\nc \u{1b}[2J\u{9b}1m\r\u{7f}ü"), "a\tb\nc  [2J 1m  ü");
    }

    #[test]
    fn json_has_the_contracts_names_and_all_fields() {
        let machine =
            Machine { mac: "52:54:00:77:00:01".into(), revision: 7, ..Machine::default() };
        let text = json(&machine, false).unwrap();
        assert!(text.contains(r#""mac":"52:54:00:77:00:01""#), "{text}");
        assert!(text.contains(r#""revision":7"#), "{text}");
    }

    #[test]
    fn every_enum_reads_as_people_type_it() {
        assert_eq!(word(Policy::FlashOnce.as_str_name(), "POLICY_"), "flash-once");
        assert_eq!(word(Policy::Unspecified.as_str_name(), "POLICY_"), "");
    }
}
