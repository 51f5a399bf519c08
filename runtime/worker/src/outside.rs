//! What the calls of a worker may reach outside their sandbox: what their flows ask for, as far as the operator grants it.

use std::sync::Arc;

use flow::{Grants, Recording};
use gateway::{Closed, Gateway, Outbound};
use protocol::{Job, Unrecorded};

use crate::http_recorder::HttpRecorder;

/// The grants of the operator, and the way out for what they allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    grants: Arc<Grants>,
    gateway: Option<Arc<Gateway>>,
}

/// What one call may reach, and what is recorded of it.
pub(crate) struct CallOutside {
    pub(crate) granted: sandbox::Outside,
    pub(crate) recorder: Arc<HttpRecorder>,
    pub(crate) unrecorded: Unrecorded,
}

impl Outside {
    pub(crate) fn new(grants: Grants, gateway: Arc<Gateway>) -> Self {
        Self { grants: Arc::new(grants), gateway: Some(gateway) }
    }

    /// What the call of a job may reach.
    pub(crate) fn of_call(&self, job: &Job) -> CallOutside {
        let access = Arc::new(self.grants.of_call(&job.access, &job.flow, &job.call.task, &job.module));
        let (clock, random, http) = (access.has_clock(), access.has_random(), access.has_http());
        let gateway: Arc<dyn Outbound> = match &self.gateway {
            Some(gateway) if !access.is_empty() => {
                Arc::new(gateway.for_call(job.flow.namespace(), access, job.limits.http_bytes))
            }
            Some(_) | None => Arc::new(Closed(access)),
        };
        let is_recorded = http && job.access.record == Recording::Http;
        let recorder = Arc::new(match is_recorded {
            true => HttpRecorder::recording(gateway),
            false => HttpRecorder::counting(gateway),
        });
        let granted = sandbox::Outside { clock, random, gateway: Some(recorder.clone()) };
        CallOutside { granted, recorder, unrecorded: Unrecorded { clock, random, http: http && !is_recorded } }
    }
}
