//! Waiting for a condition with a deadline: the one place where tests may sleep.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Waits until `condition` gives a value, or fails with `what` was waited for once `timeout` has passed.
/// An error of the condition ends the wait at once.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {:.1} s in vain for {what}", timeout.as_secs_f64());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// As [`until`], for a condition that is true or not.
pub fn until_true(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, timeout, || Ok(condition()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let got = until("three looks", Duration::from_secs(10), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn a_deadline_names_what_was_waited_for() {
        let failed = until_true("the moon", Duration::ZERO, || Ok(false)).unwrap_err();
        assert_eq!(failed.to_string(), "waited 0.0 s in vain for the moon");
    }
}
