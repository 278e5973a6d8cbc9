//! How far a flash is, in words: on a terminal, in a log, on a machine's screen. Pure, and never wider than 80 columns.

use std::time::Duration;

use indicatif::DecimalBytes;

use crate::engine::{Event, Step};

/// Columns of a step's name, with the space behind it.
const NAME_COLUMNS: usize = 13;
/// Columns of the bar.
const BAR_COLUMNS: usize = 24;
/// Columns of a page.
const PAGE_COLUMNS: usize = 80;

/// What a step does.
pub(crate) const fn doing(step: Step) -> &'static str {
    match step {
        Step::Gate => "checking",
        Step::Capture => "capturing",
        Step::Compare => "comparing",
        Step::Write => "writing",
        Step::Erase => "erasing",
        Step::FixUps => "fixing up",
        Step::Flush => "flushing",
        Step::Prove => "reading back",
        Step::FirstChunk => "finishing",
    }
}

/// How far it is, in at most 64 columns: there is room for the time before it.
pub(crate) fn line(event: &Event) -> String {
    let mut text = format!("{:NAME_COLUMNS$}", doing(event.step));
    text += &match event.percent {
        Some(percent) => format!("{percent:3} %"),
        None if event.done_bytes > 0 => DecimalBytes(event.done_bytes).to_string(),
        None => String::new(),
    };
    text += &pace(event);
    if event.right_bytes > 0 && event.percent.is_some() && event.step == Step::Write {
        text += &format!(", {} right", DecimalBytes(event.right_bytes));
    }
    text.trim_end().to_owned()
}

/// The same as a picture of two lines: how far it is, and what became of what is done.
pub(crate) fn picture(event: &Event) -> [String; 2] {
    let name = doing(event.step);
    let Some(percent) = event.percent else {
        let done = match event.done_bytes {
            0 => String::new(),
            bytes => DecimalBytes(bytes).to_string(),
        };
        let above = format!("{name:NAME_COLUMNS$}{done}{}", pace(event));
        return [above.trim_end().to_owned(), became(event)];
    };
    let full = usize::from(percent.min(100)) * BAR_COLUMNS / 100;
    let tip = if full < BAR_COLUMNS { ">" } else { "" };
    let bar = format!("{}{tip}", "=".repeat(full));
    let above = format!("{name:NAME_COLUMNS$}[{bar:BAR_COLUMNS$}] {percent:3} %{}", pace(event));
    [above, became(event)]
}

/// A step that is over.
pub(crate) fn ended(step: Step, bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let name = doing(step);
    if bytes == 0 {
        return format!("{name:NAME_COLUMNS$}{seconds:.1} s");
    }
    let rate = match per_second(bytes, took) {
        Some(rate) => format!(", {}/s", DecimalBytes(rate)),
        None => String::new(),
    };
    format!("{name:NAME_COLUMNS$}{} in {seconds:.1} s{rate}", DecimalBytes(bytes))
}

/// Text in lines of at most 80 columns, as long as no word is longer.
pub(crate) fn page(text: &str) -> String {
    let mut page = String::new();
    let mut columns = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if columns > 0 && columns + 1 + width > PAGE_COLUMNS {
            page.push('\n');
            columns = 0;
        } else if columns > 0 {
            page.push(' ');
            columns += 1;
        }
        page += word;
        columns += width;
    }
    page
}

/// Bytes a second; `None` where it was too short to tell.
pub(crate) fn per_second(bytes: u64, took: Duration) -> Option<u64> {
    let rate = u128::from(bytes).checked_mul(1000)?.checked_div(took.as_millis())?;
    u64::try_from(rate).ok()
}

/// The rate, and how long the rest takes.
fn pace(event: &Event) -> String {
    let mut text = String::new();
    if event.bytes_per_second > 0 {
        text += &format!("  {:>9}/s", DecimalBytes(event.bytes_per_second).to_string());
    }
    if let Some(left_ms) = event.left_ms.filter(|_| event.percent != Some(100)) {
        text += &format!("  {} left", clock(left_ms));
    }
    text
}

/// What was right already, written, zeroed; nothing where nothing was.
fn became(event: &Event) -> String {
    let amounts = [
        (event.right_bytes, "right already"),
        (event.written_bytes, "written"),
        (event.zeroed_bytes, "zeroed"),
    ];
    let said: Vec<String> = amounts
        .iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{} {what}", DecimalBytes(*bytes)))
        .collect();
    if said.is_empty() { String::new() } else { " ".repeat(NAME_COLUMNS) + &said.join(", ") }
}

/// A length of time as a clock counts it down; beyond a hundred hours nobody believes it.
fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => "days".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            done_bytes: 3_000_000_000,
            total_bytes: 8_000_000_000,
            percent: Some(37),
            bytes_per_second: 412_000_000,
            left_ms: Some(11_200),
            right_bytes: 1_230_000_000,
            written_bytes: 230_000_000,
            ..Event::begin(Step::Write)
        }
    }

    #[test]
    fn it_looks_like_this() {
        let [above, below] = picture(&event());
        assert_eq!(above, "writing      [========>               ]  37 %  412.00 MB/s  0:12 left");
        assert_eq!(below, "             1.23 GB right already, 230.00 MB written");
        assert_eq!(line(&event()), "writing       37 %  412.00 MB/s  0:12 left, 1.23 GB right");
        let young = Event { percent: Some(0), ..Event::begin(Step::Write) };
        assert_eq!(line(&young), "writing        0 %");
        let over = Event { percent: Some(100), left_ms: Some(0), ..event() };
        assert_eq!(picture(&over)[0], "writing      [========================] 100 %  412.00 MB/s");
        let unknown = Event { percent: None, left_ms: None, ..event() };
        assert_eq!(picture(&unknown)[0], "writing      3.00 GB  412.00 MB/s");
        assert_eq!(line(&Event::begin(Step::Gate)), "checking");
    }

    #[test]
    fn a_step_that_is_over_says_what_it_took() {
        let took = Duration::from_millis(3100);
        assert_eq!(ended(Step::Prove, 6_200_000, took), "reading back 6.20 MB in 3.1 s, 2.00 MB/s");
        assert_eq!(ended(Step::Flush, 0, took), "flushing     3.1 s");
        assert_eq!(ended(Step::Write, 512, Duration::ZERO), "writing      512 B in 0.0 s");
    }

    #[test]
    fn nothing_is_wider_than_its_place() {
        let wide = 999_990_000_000_000;
        for step in [Step::Gate, Step::Write, Step::Flush, Step::Prove, Step::FirstChunk] {
            for percent in [None, Some(0), Some(99), Some(100)] {
                for left_ms in [None, Some(0), Some(359_999_000), Some(u64::MAX)] {
                    let event = Event {
                        step,
                        done_bytes: wide,
                        total_bytes: wide,
                        percent,
                        bytes_per_second: wide,
                        left_ms,
                        right_bytes: wide,
                        written_bytes: wide,
                        zeroed_bytes: wide,
                    };
                    assert!(line(&event).len() <= 64, "{}", line(&event));
                    for line in picture(&event) {
                        assert!(line.len() < PAGE_COLUMNS, "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_page_is_cut_between_words() {
        let text = "word ".repeat(40);
        let page = page(&text);
        assert!(page.lines().all(|line| line.len() <= PAGE_COLUMNS && !line.ends_with(' ')));
        assert_eq!(page.split_whitespace().count(), 40);
        assert_eq!(super::page("a  b\nc"), "a b c");
    }
}
