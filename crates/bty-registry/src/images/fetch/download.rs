//! A download that goes on after it broke off. Whoever reads it sees one stream.
//!
//! Where the server says which version of the file it sends (RFC 9110, section 8.8), the rest of that version is asked for. Where it
//! doesn't, or knows no ranges, the file is fetched from its beginning again: what was passed on already has to come again as it was,
//! by its BLAKE3, and is passed over. Either way a file that was replaced in between is an error and never half of each.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, Instant},
};

use bty_types::Checksum;
use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, Url, header};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Fetcher, failed,
    validator::{ContentRange, Validator},
    without_secrets,
};
use crate::images::{Feeder, ImportProblem, oci::Blob};

/// Tries without another byte, before patience ends.
const MIN_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// What is downloaded, and how it is asked for.
#[derive(Debug)]
pub(in crate::images) enum Place {
    /// A file at a web server.
    Web(Client, Url),
    /// A layer in an OCI registry.
    Blob(Box<Blob>),
}

/// A download that has begun: the server has answered.
#[derive(Debug)]
pub(in crate::images) struct Download {
    place: Place,
    response: Response,
    validator: Option<Validator>,
    total_bytes: Option<u64>,
    patience: Duration,
    /// What was passed on.
    passed_bytes: u64,
    passed: blake3::Hasher,
    /// Where the server began anew: what comes again.
    again: Option<Again>,
    digest: Digester,
}

/// Bytes that come a second time.
#[derive(Debug)]
struct Again {
    left_bytes: u64,
    hasher: blake3::Hasher,
}

/// What is computed of what is passed on.
#[derive(Debug)]
enum Digester {
    Nothing,
    Sha256(Sha256, Checksum),
    Sha512(Sha512, Checksum),
}

/// Tries since the last byte that was new.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    tries: u32,
    passed_bytes: u64,
}

/// What became of an answer's body.
enum End {
    Whole,
    /// Nobody reads any more.
    Unwanted,
}

impl Place {
    fn url(&self) -> &Url {
        match self {
            Self::Web(_, url) => url,
            Self::Blob(blob) => blob.url(),
        }
    }

    /// What its bytes must come to.
    fn digest(&self) -> Option<Checksum> {
        match self {
            Self::Web(..) => None,
            Self::Blob(blob) => Some(blob.digest()),
        }
    }

    /// Its size, where that is known before it is asked for.
    fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Web(..) => None,
            Self::Blob(blob) => Some(blob.size_bytes()),
        }
    }

    /// Asks for it, from this byte on where the server still has this version.
    async fn ask(&mut self, rest: Option<(u64, &Validator)>) -> Result<Response, ImportProblem> {
        let ranged = |mut request: reqwest::RequestBuilder| {
            if let Some((from, validator)) = rest {
                request = request
                    .header(header::RANGE, format!("bytes={from}-"))
                    .header(header::IF_RANGE, validator.value());
            }
            request
        };
        match self {
            Self::Web(client, url) => {
                ranged(client.get(url.clone())).send().await.map_err(failed(url))
            }
            Self::Blob(blob) => blob.ask(ranged).await,
        }
    }
}

impl Download {
    /// Asks for it, once: what can't be had at all is said at once.
    pub(in crate::images) async fn begin(
        mut place: Place,
        fetcher: &Fetcher,
    ) -> Result<Self, ImportProblem> {
        let response = place.ask(None).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(ImportProblem::Answer { url: without_secrets(place.url()), status });
        }
        let (stated, sent) = (place.size_bytes(), response.content_length());
        if let (Some(stated), Some(sent)) = (stated, sent)
            && stated != sent
        {
            return Err(ImportProblem::Size { url: without_secrets(place.url()), stated, sent });
        }
        Ok(Self {
            validator: Validator::of(response.headers()),
            total_bytes: stated.or(sent),
            patience: fetcher.patience(),
            passed_bytes: 0,
            passed: blake3::Hasher::new(),
            again: None,
            digest: Digester::new(place.digest()),
            place,
            response,
        })
    }

    /// Its size, where it is known.
    pub(in crate::images) fn size_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Passes all of it on; gives why it could not be had, where it couldn't.
    pub(in crate::images) async fn run(mut self, feeder: Feeder) -> Option<ImportProblem> {
        let outcome = tokio::select! {
            outcome = self.pass_all(&feeder) => outcome,
            // While it waits for a server, too.
            () = feeder.unwanted() => Ok(End::Unwanted),
        };
        match outcome {
            Ok(End::Whole) => match self.check() {
                Ok(()) => {
                    feeder.end().await;
                    None
                }
                Err(problem) => Some(problem),
            },
            Ok(End::Unwanted) => None,
            Err(problem) => Some(problem),
        }
    }

    async fn pass_all(&mut self, feeder: &Feeder) -> Result<End, ImportProblem> {
        let mut trouble = Trouble::new(0);
        loop {
            match self.pass(feeder).await {
                Err(problem) if is_passing(&problem) => self.go_on(problem, &mut trouble).await?,
                outcome => return outcome,
            }
        }
    }

    /// Passes on what comes until nothing more does.
    async fn pass(&mut self, feeder: &Feeder) -> Result<End, ImportProblem> {
        while let Some(bytes) = self.response.chunk().await.map_err(failed(self.place.url()))? {
            let bytes = self.not_passed(bytes)?;
            if bytes.is_empty() {
                continue;
            }
            self.passed.update(&bytes);
            self.digest.update(&bytes);
            self.passed_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if !feeder.pass(bytes).await {
                return Ok(End::Unwanted);
            }
        }
        let is_short = self.total_bytes.is_some_and(|total| self.passed_bytes < total);
        if is_short || self.again.is_some() {
            return Err(ImportProblem::Short { url: self.shown() });
        }
        Ok(End::Whole)
    }

    /// What of these bytes was not passed on already.
    fn not_passed(&mut self, mut bytes: Bytes) -> Result<Bytes, ImportProblem> {
        let Some(again) = &mut self.again else { return Ok(bytes) };
        let known = usize::try_from(again.left_bytes).unwrap_or(usize::MAX).min(bytes.len());
        let known = bytes.split_to(known);
        again.hasher.update(&known);
        again.left_bytes -= u64::try_from(known.len()).unwrap_or_default();
        if again.left_bytes == 0 {
            if again.hasher.finalize() != self.passed.finalize() {
                return Err(ImportProblem::Changed { url: self.shown() });
            }
            self.again = None;
        }
        Ok(bytes)
    }

    /// Asks again, until the server answers or patience ends.
    async fn go_on(
        &mut self,
        mut problem: ImportProblem,
        trouble: &mut Trouble,
    ) -> Result<(), ImportProblem> {
        if self.passed_bytes > trouble.passed_bytes || trouble.tries == 0 {
            *trouble = Trouble::new(self.passed_bytes);
        }
        loop {
            let (url, passed_bytes, tries) = (self.shown(), self.passed_bytes, trouble.tries);
            if tries >= MIN_TRIES && trouble.since.elapsed() >= self.patience {
                return Err(ImportProblem::GaveUp {
                    url,
                    passed_bytes,
                    tries,
                    source: Box::new(problem),
                });
            }
            let why = bty_api::status::chain(&problem);
            tracing::info!(
                url,
                passed_bytes,
                err = why,
                "a download broke off and is gone on with"
            );
            tokio::time::sleep(pause(tries)).await;
            trouble.tries += 1;
            match self.ask_again().await {
                Ok(()) => return Ok(()),
                Err(passing) if is_passing(&passing) => problem = passing,
                Err(lasting) => return Err(lasting),
            }
        }
    }

    async fn ask_again(&mut self) -> Result<(), ImportProblem> {
        let rest = self.validator.as_ref().filter(|_| self.passed_bytes > 0);
        let rest = rest.map(|validator| (self.passed_bytes, validator));
        let response = self.place.ask(rest).await?;
        let is_other =
            self.validator.as_ref().is_some_and(|own| own.contradicts(response.headers()));
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT if is_other => {
                return Err(ImportProblem::Changed { url: self.shown() });
            }
            StatusCode::OK => {
                self.check_total(response.content_length())?;
                self.total_bytes = self.total_bytes.or_else(|| response.content_length());
                let hasher = blake3::Hasher::new();
                let again = Again { left_bytes: self.passed_bytes, hasher };
                self.again = Some(again).filter(|again| again.left_bytes > 0);
            }
            StatusCode::PARTIAL_CONTENT if rest.is_some() => {
                let range = ContentRange::of(response.headers());
                let range = range.filter(|range| range.first == self.passed_bytes);
                let range = range.ok_or_else(|| ImportProblem::Range { url: self.shown() })?;
                self.check_total(range.total)?;
                self.total_bytes = self.total_bytes.or(range.total);
                self.again = None;
            }
            // The file has become so short that it has nothing there.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(ImportProblem::Changed { url: self.shown() });
            }
            status => return Err(ImportProblem::Answer { url: self.shown(), status }),
        }
        self.response = response;
        Ok(())
    }

    fn check_total(&self, now: Option<u64>) -> Result<(), ImportProblem> {
        match (self.total_bytes, now) {
            (Some(total), Some(now)) if total != now => {
                Err(ImportProblem::Changed { url: self.shown() })
            }
            _ => Ok(()),
        }
    }

    fn check(&mut self) -> Result<(), ImportProblem> {
        let Some((wanted, found)) = std::mem::replace(&mut self.digest, Digester::Nothing).finish()
        else {
            return Ok(());
        };
        if wanted == found {
            return Ok(());
        }
        Err(ImportProblem::Digest {
            url: self.shown(),
            wanted: Box::new(wanted),
            found: Box::new(found),
        })
    }

    fn shown(&self) -> String {
        without_secrets(self.place.url())
    }
}

impl Digester {
    fn new(wanted: Option<Checksum>) -> Self {
        match wanted {
            None => Self::Nothing,
            Some(wanted @ Checksum::Sha256(_)) => Self::Sha256(Sha256::new(), wanted),
            Some(wanted @ Checksum::Sha512(_)) => Self::Sha512(Sha512::new(), wanted),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Sha256(hasher, _) => hasher.update(bytes),
            Self::Sha512(hasher, _) => hasher.update(bytes),
        }
    }

    /// What was wanted, and what was found.
    fn finish(self) -> Option<(Checksum, Checksum)> {
        match self {
            Self::Nothing => None,
            Self::Sha256(hasher, wanted) => {
                Some((wanted, Checksum::Sha256(hasher.finalize().into())))
            }
            Self::Sha512(hasher, wanted) => {
                Some((wanted, Checksum::Sha512(hasher.finalize().into())))
            }
        }
    }
}

impl Trouble {
    fn new(passed_bytes: u64) -> Self {
        Self { since: Instant::now(), tries: 0, passed_bytes }
    }
}

/// Whether asking again may help.
fn is_passing(problem: &ImportProblem) -> bool {
    match problem {
        ImportProblem::Fetch { source, .. } => !bty_fetch::is_lasting(source),
        ImportProblem::Answer { status, .. } => bty_fetch::is_passing(*status),
        ImportProblem::Short { .. } => true,
        _ => false,
    }
}

/// Before the next try: twice as long each time, and not for all at the same time.
fn pause(tries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(MAX_PAUSE);
    let most = u64::try_from(longest.as_millis()).unwrap_or_default() / 2;
    let some = RandomState::new().build_hasher().finish() % most.max(1);
    longest / 2 + Duration::from_millis(some)
}
