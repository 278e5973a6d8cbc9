//! Which redirects are followed.

use reqwest::redirect;

const MOST: usize = 5;

/// A few, and none that gives up the encryption. Passwords don't go along to another server; reqwest sees to that.
pub(super) fn policy() -> redirect::Policy {
    redirect::Policy::custom(follow)
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MOST {
        return attempt.error("it redirects more than 5 times");
    }
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to http");
    }
    attempt.follow()
}
