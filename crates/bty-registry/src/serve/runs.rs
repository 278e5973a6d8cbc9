//! `RunService`.

use bty_api::registry::v1::{
    GetRunRequest, GetRunResponse, ListRunsRequest, ListRunsResponse, RunState, WatchRunsRequest,
    WatchRunsResponse, run_service_server::RunService,
};
use tonic::{Request, Response, Status};

use super::{
    Shared, page, paged,
    watch::{Responses, Told, watch},
};
use crate::{
    change::Change, problem::Problem, record::Run, store::Snapshot, view, work::find_machine,
};

/// Runs on one page, where nothing is asked for, and at most.
const PAGE: (u32, u32) = (100, 1000);

/// The service.
#[derive(Debug)]
pub(crate) struct Runs(pub(crate) Shared);

#[tonic::async_trait]
impl RunService for Runs {
    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let ListRunsRequest { machine, page_size, page_token } = request.into_inner();
        let size = page(page_size, PAGE.0, PAGE.1);
        let listed = self.0.store.read(move |snapshot| {
            let mac = subject(snapshot, &machine)?;
            let found = snapshot.runs_before(mac, &page_token, size)?;
            let (runs, more_follow) =
                paged(found.iter().map(|run| view::run(run, false)).collect(), size);
            let last = runs.last().filter(|_| more_follow).map(|run| run.id.clone());
            Ok::<_, Problem>(ListRunsResponse { runs, next_page_token: last.unwrap_or_default() })
        });
        Ok(Response::new(listed.await?))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let id = request.into_inner().id;
        let run = self.0.store.read(move |snapshot| find(snapshot, &id)).await?;
        Ok(Response::new(GetRunResponse { run: Some(view::run(&run, true)) }))
    }

    type WatchRunsStream = Responses<WatchRunsResponse>;

    async fn watch_runs(
        &self,
        request: Request<WatchRunsRequest>,
    ) -> Result<Response<Self::WatchRunsStream>, Status> {
        let id = request.into_inner().id;
        let changes = self.0.store.subscribe();
        let told = |run| WatchRunsResponse { run: Some(run) };
        if id.is_empty() {
            let responses =
                watch([], changes, self.0.shutdown.clone(), move |change| match change {
                    Change::Run(run) => Told::One(told(run.as_ref().clone())),
                    _ => Told::Nothing,
                });
            return Ok(Response::new(responses));
        }
        let first = self.0.store.read(move |snapshot| find(snapshot, &id)).await?;
        let first = view::run(&first, true);
        if is_over(&first) {
            let only = futures_util::stream::iter([Ok(told(first))]);
            return Ok(Response::new(Box::pin(only)));
        }
        let (id, known) = (first.id.clone(), first.revision);
        let responses =
            watch([told(first)], changes, self.0.shutdown.clone(), move |change| match change {
                Change::Run(run) if run.id == id && run.revision > known => {
                    let response = told(run.as_ref().clone());
                    if is_over(run) { Told::Last(response) } else { Told::One(response) }
                }
                _ => Told::Nothing,
            });
        Ok(Response::new(responses))
    }
}

fn is_over(run: &bty_api::registry::v1::Run) -> bool {
    !matches!(run.state(), RunState::Running | RunState::Unspecified)
}

/// The machine that a list is about, known or not: what happened outlives it.
pub(super) fn subject(
    snapshot: &Snapshot<'_>,
    called: &str,
) -> Result<Option<bty_types::MacAddr>, Problem> {
    if called.is_empty() {
        return Ok(None);
    }
    match called.parse() {
        Ok(mac) => Ok(Some(mac)),
        Err(_) => Ok(Some(find_machine(snapshot, called)?.mac)),
    }
}

/// The run with this id, or whose id alone begins so.
pub(super) fn find(snapshot: &Snapshot<'_>, id: &str) -> Result<Run, Problem> {
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !is_id {
        return Err(Problem::NoRun(id.to_owned()));
    }
    let mut found = snapshot.runs_beginning(&id.to_ascii_lowercase())?;
    match (found.pop(), found.is_empty()) {
        (Some(run), true) => Ok(run),
        (Some(_), false) => Err(Problem::ManyRuns(id.to_owned())),
        (None, _) => Err(Problem::NoRun(id.to_owned())),
    }
}
