//! What the calls of a worker may reach outside their sandbox: what their flows ask for, as far as the operator grants it.

use std::sync::Arc;

use flow::Grants;
use gateway::{Gateway, Outbound};
use protocol::Job;

/// The grants of the operator, and the way out for what they allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    grants: Arc<Grants>,
    gateway: Option<Arc<Gateway>>,
}

impl Outside {
    pub(crate) fn new(grants: Grants, gateway: Arc<Gateway>) -> Self {
        Self { grants: Arc::new(grants), gateway: Some(gateway) }
    }

    /// What the call of a job may reach.
    pub(crate) fn of_call(&self, job: &Job) -> sandbox::Outside {
        let access = Arc::new(self.grants.of_call(&job.access, &job.flow, &job.call.task, &job.module));
        let gateway = self.gateway.as_ref().filter(|_| !access.is_empty()).map(|gateway| {
            let of_call = gateway.for_call(job.flow.namespace(), access.clone(), job.limits.http_bytes);
            Arc::new(of_call) as Arc<dyn Outbound>
        });
        sandbox::Outside { access, gateway }
    }
}
