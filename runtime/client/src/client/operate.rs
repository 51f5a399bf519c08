//! Requests of operators: about what the server works with.

use reqwest::Method;

use super::Client;
use crate::{
    ClientError,
    api::{
        DrainOptions, Engines, JobQueues, Permits, PermitsQuery, Quarantine, QuarantineResult, QuarantineSelection,
        QueuesQuery, Schedules, SchedulesQuery, WorkerStateResponse, Workers,
    },
};

impl Client {
    /// Lists the workers that respond to the server, with the calls that they make.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workers(&self) -> Result<Workers, ClientError> {
        self.json(self.request(Method::GET, &["v1", "workers"])?).await
    }

    /// Lists the engines that share the runs of the server, and the shards that each drives.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn engines(&self) -> Result<Engines, ClientError> {
        self.json(self.request(Method::GET, &["v1", "engines"])?).await
    }

    /// Reads a page of the schedules of runs that have not ended. It may be empty although there is another page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn schedules(&self, query: &SchedulesQuery) -> Result<Schedules, ClientError> {
        self.json(self.request(Method::GET, &["v1", "schedules"])?.query(query)).await
    }

    /// Reads a page of the tasks whose calls hold permits or wait for them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn permits(&self, query: &PermitsQuery) -> Result<Permits, ClientError> {
        self.json(self.request(Method::GET, &["v1", "permits"])?.query(query)).await
    }

    /// Reads a page of the known queues of jobs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn queues(&self, query: &QueuesQuery) -> Result<JobQueues, ClientError> {
        self.json(self.request(Method::GET, &["v1", "queues"])?.query(query)).await
    }

    /// Lists the first messages in quarantine. They stay there.
    ///
    /// # Errors
    /// [`ClientError`]; with status 403 the own token is not an admin's.
    pub async fn quarantine(&self) -> Result<Quarantine, ClientError> {
        self.json(self.request(Method::GET, &["v1", "quarantine"])?).await
    }

    /// Sends messages in quarantine again, to the queues that they came from.
    ///
    /// # Errors
    /// As [`Client::quarantine`]. After another error than a refusal, some may have been released.
    pub async fn release_quarantined(&self, selection: &QuarantineSelection) -> Result<QuarantineResult, ClientError> {
        self.json(self.request(Method::POST, &["v1", "quarantine", "release"])?.json(selection)).await
    }

    /// Deletes messages in quarantine.
    ///
    /// # Errors
    /// As [`Client::quarantine`]. After another error than a refusal, some may have been deleted.
    pub async fn drop_quarantined(&self, selection: &QuarantineSelection) -> Result<QuarantineResult, ClientError> {
        self.json(self.request(Method::DELETE, &["v1", "quarantine"])?.query(selection)).await
    }

    /// Tells a worker to take no new jobs. It ends the calls that it has, and stays unless the options let it exit then.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 no worker of that name has answered.
    pub async fn drain_worker(&self, worker: &str, options: &DrainOptions) -> Result<WorkerStateResponse, ClientError> {
        self.json(self.request(Method::POST, &["v1", "workers", worker, "drain"])?.json(options)).await
    }

    /// Tells a drained worker to take jobs again.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 no worker of that name has answered, with 409 it exits.
    pub async fn resume_worker(&self, worker: &str) -> Result<WorkerStateResponse, ClientError> {
        self.json(self.request(Method::POST, &["v1", "workers", worker, "resume"])?).await
    }
}
