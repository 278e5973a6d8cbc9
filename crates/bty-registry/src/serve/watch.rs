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
