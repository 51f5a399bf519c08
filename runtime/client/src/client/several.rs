//! Requests about many runs, about the text of a flow, and for events.

use reqwest::{Method, Response, header};

use super::Client;
use crate::{
    ClientError, Watch,
    api::{BulkRequest, BulkResult, EventsQuery, FlowText, FlowTextQuery, RunCounts, RunFilter},
    watch::Events,
};

impl Client {
    /// Counts the runs that a filter selects, by flow and state.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn counts(&self, filter: &RunFilter) -> Result<RunCounts, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", "counts"])?.query(&filter.pairs())).await
    }

    /// Sends a command to the runs that a filter selects: to at most 1,000, so send it again with [`BulkResult::next`] if there is
    /// one. Dropping the future stops it only until the server sends the first command.
    ///
    /// # Errors
    /// [`ClientError`]; with status 400 the filter has no condition, with 409 it selects another number of runs than expected.
    pub async fn bulk(&self, request: &BulkRequest) -> Result<BulkResult, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs", "bulk"])?.json(request)).await
    }

    /// Reads the flow of a run at a revision, as the text of a flow file; of the last one by default.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run or revision, or the server has no text of its flow; with 503 the server
    /// sends other large answers now.
    pub async fn flow_text(&self, run: &str, query: &FlowTextQuery) -> Result<FlowText, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "flow"])?.query(query)).await
    }

    /// Watches the states of all runs and of their tasks from now on, as far as a query selects them. [`Event::runs_event`] reads an event;
    /// one may come twice. Where the server has lost some, there is [`RunsEvent::Lost`].
    ///
    /// [`Event::runs_event`]: crate::Event::runs_event
    /// [`RunsEvent::Lost`]: crate::api::RunsEvent::Lost
    #[must_use]
    pub fn watch_all(&self, query: EventsQuery) -> Watch {
        Watch::new(self.clone(), Events::OfAllRuns(query), None)
    }

    /// Watches all runs from the first event after one that was received before.
    #[must_use]
    pub fn watch_all_after(&self, query: EventsQuery, event: &str) -> Watch {
        Watch::new(self.clone(), Events::OfAllRuns(query), Some(event.to_owned()))
    }

    /// Requests events, starting after the event `after`.
    pub(crate) async fn events(&self, events: &Events, after: Option<&str>) -> Result<Response, ClientError> {
        let mut request = match events {
            Events::Changes(run) => self.request(Method::GET, &["v1", "runs", run.as_str(), "events"])?,
            Events::Logs(run) => self.request(Method::GET, &["v1", "runs", run.as_str(), "logs", "follow"])?,
            Events::OfAllRuns(query) => self.request(Method::GET, &["v1", "events"])?.query(&query.pairs()),
        };
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        self.send(request.header(header::ACCEPT, "text/event-stream")).await
    }
}
