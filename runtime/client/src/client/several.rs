//! Requests about many runs, and about the text of a flow.

use reqwest::Method;

use super::Client;
use crate::{
    ClientError,
    api::{BulkRequest, BulkResult, FlowText, FlowTextQuery, RunCounts, RunFilter},
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
}
