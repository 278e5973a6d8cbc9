//! `btyctl event`.

use bty_api::registry::v1::{
    Event as Known, ListEventsRequest, ListEventsResponse, WatchEventsRequest,
    event_service_client::EventServiceClient,
};

use crate::{
    arguments::Event,
    connection::Connection,
    failure::Failure,
    output::{Output, table, time},
};

pub(crate) async fn run(
    verb: Event,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = EventServiceClient::new(connection.registry());
    match verb {
        Event::List { machine, kind, limit } => {
            let request = ListEventsRequest {
                machine: machine.unwrap_or_default(),
                kind_prefix: kind,
                page_size: limit,
                before_id: 0,
            };
            let mut events = client.list_events(request).await?.into_inner();
            // On a terminal the newest is read where the eye is: at the end.
            events.events.reverse();
            output.show(&events, list)
        }
        Event::Watch { machine } => {
            let request =
                WatchEventsRequest { after_id: None, machine: machine.unwrap_or_default() };
            let mut events = client.watch_events(request).await?.into_inner();
            while let Some(next) = events.message().await? {
                output.show_next(&next, |next| line(&next.event.clone().unwrap_or_default()))?;
            }
            Ok(())
        }
    }
}

fn list(events: &ListEventsResponse) -> String {
    if events.events.is_empty() {
        return "no events".to_owned();
    }
    let rows = events.events.iter().map(|event| {
        [time(event.at.as_ref()), event.kind.clone(), event.mac.clone(), event.message.clone()]
    });
    table(["WHEN", "WHAT", "MACHINE", "MESSAGE"], rows)
}

fn line(event: &Known) -> String {
    format!("{}  {}  {}  {}", time(event.at.as_ref()), event.kind, event.mac, event.message)
}
