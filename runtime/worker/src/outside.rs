//! What the calls of a worker may reach outside their sandbox: what their flows ask for, as far as the operator grants it.

use std::sync::Arc;

use flow::{Access, GrantedPart};
use gateway::{Closed, CurrentRules, Gateway, Outbound, UsedSecrets};
use protocol::{AskingTask, GrantsQuestion, Job};

/// The rules of the operator, and the way out for what they allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    rules: CurrentRules,
    gateway: Option<Arc<Gateway>>,
}

impl Outside {
    pub(crate) fn new(rules: CurrentRules, gateway: Arc<Gateway>) -> Self {
        Self { rules, gateway: Some(gateway) }
    }

    /// What the call of a job may reach, by the rules that are in use now, and the secrets that it will have used.
    pub(crate) fn of_call(&self, job: &Job) -> (sandbox::Outside, UsedSecrets) {
        let rules = self.rules.now();
        let access = Arc::new(rules.grants.of_call(&job.access, &job.flow, &job.call.task, &job.module));
        let (clock, random) = (access.has_clock(), access.has_random());
        let mut used = UsedSecrets::default();
        let gateway: Arc<dyn Outbound> = match &self.gateway {
            Some(gateway) if !access.is_empty() => {
                let gateway = gateway.for_call(job.flow.namespace(), access, rules, job.limits.http_bytes);
                used = gateway.used_secrets();
                Arc::new(gateway)
            }
            Some(_) | None => Arc::new(Closed(access)),
        };
        (sandbox::Outside { clock, random, gateway: Some(gateway) }, used)
    }

    /// How much of what a flow asks for the rules grant now, task by task and part by part.
    pub(crate) fn granted_parts(&self, GrantsQuestion { flow, tasks, .. }: &GrantsQuestion) -> Vec<Vec<GrantedPart>> {
        let grants = &self.rules.now().grants;
        let of_task = |AskingTask { task, module, access }: &AskingTask| {
            let granted = |part: &Access| grants.of_call(part, flow, task, module).granted_parts();
            let part = |part: Access| granted(&part).first().map_or(GrantedPart::None, |(_, granted)| *granted);
            access.parts().map(part).collect()
        };
        tasks.iter().map(of_task).collect()
    }
}
