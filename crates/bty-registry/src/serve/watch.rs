//! Streams for watchers: what is, then what changes.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::change::Change;

/// A stream of responses.
pub(crate) type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What one change becomes for a watcher.
pub(super) enum Told<T> {
    /// Nothing.
    Nothing,
    /// A response.
    One(T),
    /// A response, and no more follow.
    Last(T),
}

struct Watch<T, F> {
    first: VecDeque<T>,
    changes: broadcast::Receiver<Arc<Change>>,
    tell: F,
    ended: bool,
}

/// First these responses, then what `tell` makes of each change. `changes` must have been subscribed to before `first` was
/// read, and `tell` must leave out changes that `first` knows already: then nothing is missed or told twice.
///
/// Nobody waits for a watcher: one that falls too far behind is told to watch again, and ends.
pub(super) fn watch<T, F>(
    first: impl IntoIterator<Item = T>,
    changes: broadcast::Receiver<Arc<Change>>,
    shutdown: CancellationToken,
    tell: F,
) -> Responses<T>
where
    T: Send + 'static,
    F: FnMut(&Change) -> Told<T> + Send + 'static,
{
    let state = Watch { first: first.into_iter().collect(), changes, tell, ended: false };
    let responses = stream::unfold(state, |mut state| async move {
        let next = next(&mut state).await?;
        Some((next, state))
    });
    Box::pin(responses.take_until(shutdown.cancelled_owned()))
}

async fn next<T, F: FnMut(&Change) -> Told<T>>(
    state: &mut Watch<T, F>,
) -> Option<Result<T, Status>> {
    if let Some(first) = state.first.pop_front() {
        return Some(Ok(first));
    }
    while !state.ended {
        match state.changes.recv().await {
            Ok(change) => match (state.tell)(&change) {
                Told::Nothing => {}
                Told::One(response) => return Some(Ok(response)),
                Told::Last(response) => {
                    state.ended = true;
                    return Some(Ok(response));
                }
            },
            Err(RecvError::Lagged(missed)) => {
                state.ended = true;
                return Some(Err(Status::resource_exhausted(format!(
                    "the watcher was too slow and has missed {missed} changes: watch again"
                ))));
            }
            Err(RecvError::Closed) => state.ended = true,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(revision: u64) -> Arc<Change> {
        Arc::new(Change::MachineDeleted { mac: String::new(), revision })
    }

    fn revisions(change: &Change) -> Told<u64> {
        match change {
            Change::MachineDeleted { revision, .. } if *revision == 9 => Told::Last(9),
            Change::MachineDeleted { revision, .. } => Told::One(*revision),
            _ => Told::Nothing,
        }
    }

    async fn all(responses: Responses<u64>) -> Vec<Result<u64, tonic::Code>> {
        responses.map(|response| response.map_err(|status| status.code())).collect().await
    }

    #[tokio::test]
    async fn first_comes_what_is_and_then_what_changes_until_the_last() {
        let (changes, receiver) = broadcast::channel(8);
        for revision in [3, 4, 9, 10] {
            changes.send(deleted(revision)).unwrap();
        }
        let responses = watch([1, 2], receiver, CancellationToken::new(), revisions);
        assert_eq!(all(responses).await, [Ok(1), Ok(2), Ok(3), Ok(4), Ok(9)]);
    }

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_is_told_so_and_holds_nobody_up() {
        let (changes, receiver) = broadcast::channel(4);
        let responses = watch([1], receiver, CancellationToken::new(), revisions);
        for revision in 20..40 {
            changes.send(deleted(revision)).unwrap();
        }
        assert_eq!(all(responses).await, [Ok(1), Err(tonic::Code::ResourceExhausted)]);
    }

    #[tokio::test]
    async fn a_watch_ends_with_the_registry() {
        let (_changes, receiver) = broadcast::channel(4);
        let shutdown = CancellationToken::new();
        let responses = watch([1], receiver, shutdown.clone(), revisions);
        shutdown.cancel();
        assert!(all(responses).await.is_empty());
    }
}
