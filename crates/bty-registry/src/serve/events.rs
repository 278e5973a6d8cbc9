//! `EventService`.

use bty_api::registry::v1::{
    Event, ListEventsRequest, ListEventsResponse, WatchEventsRequest, WatchEventsResponse,
    event_service_server::EventService,
};
use tonic::{Request, Response, Status};

use super::{
    Shared, page,
    runs::subject,
    watch::{Responses, Told, watch},
};
use crate::{
    change::Change,
    problem::Problem,
    store::{EventFilter, Store},
};

/// Events on one page, where nothing is asked for, and at most.
const PAGE: (u32, u32) = (100, 1000);
/// Old events that a watch begins with, at most; who wants more lists them.
const MOST_OLD: usize = 10_000;

/// The service.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) Shared);

#[tonic::async_trait]
impl EventService for Events {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let ListEventsRequest { machine, kind_prefix, page_size, before_id } = request.into_inner();
        let size = page(page_size, PAGE.0, PAGE.1);
        let events = self.0.store.read(move |snapshot| {
            let filter = EventFilter { mac: subject(snapshot, &machine)?, kind_prefix };
            Ok::<_, Problem>(snapshot.events_before(&filter, before_id, size)?)
        });
        Ok(Response::new(ListEventsResponse { events: events.await? }))
    }

    type WatchEventsStream = Responses<WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let WatchEventsRequest { after_id, machine } = request.into_inner();
        let changes = self.0.store.subscribe();
        let called = machine.clone();
        let mac = self.0.store.read(move |snapshot| subject(snapshot, &called)).await?;
        let filter = EventFilter { mac, kind_prefix: String::new() };
        let (first, known) = match after_id {
            Some(after) => old(&self.0.store, filter, after).await?,
            None => (
                Vec::new(),
                self.0.store.read(|snapshot| Ok::<_, Problem>(snapshot.newest_event()?)).await?,
            ),
        };
        let told = |event: Event| WatchEventsResponse { event: Some(event) };
        let mac = mac.map(|mac| mac.to_string());
        let first = first.into_iter().map(told);
        let responses =
            watch(first, changes, self.0.shutdown.clone(), move |change| match change {
                Change::Event(event)
                    if event.id > known && mac.as_ref().is_none_or(|mac| *mac == event.mac) =>
                {
                    Told::One(told(event.clone()))
                }
                _ => Told::Nothing,
            });
        Ok(Response::new(responses))
    }
}

/// The events on record after an id, and the id up to which that is all.
async fn old(store: &Store, filter: EventFilter, after: u64) -> Result<(Vec<Event>, u64), Problem> {
    store
        .read(move |snapshot| {
            let newest = snapshot.newest_event()?;
            let mut events: Vec<Event> = Vec::new();
            let mut from = after;
            loop {
                let more = snapshot.events_after(&filter, from, PAGE.1)?;
                let Some(last) = more.last() else { return Ok((events, newest)) };
                from = last.id;
                events.extend(more);
                if events.len() > MOST_OLD {
                    return Err(Problem::value(
                        "after_id",
                        format!("more than {MOST_OLD} events follow it: list them page by page, or name a later one"),
                    ));
                }
            }
        })
        .await
}
