//! What the calls of a worker may reach outside their sandbox: what their flows ask for, as far as the operator grants it.

use std::sync::Arc;

use flow::{CallAccess, CallDirectory, GrantedPart, Grants, Recording, SettingKind, SignerKey};
use gateway::{Closed, CurrentRules, Gateway, Outbound, Rules, UsedSecrets};
use protocol::{AskingTask, GrantsQuestion, Job, Unrecorded};
use sandbox::{Directories, Directory, DirectoryUsages, Sockets};

use crate::http_recorder::HttpRecorder;

/// The rules of the operator, and the way out for what they allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    rules: CurrentRules,
    gateway: Option<Arc<Gateway>>,
    usages: Arc<DirectoryUsages>,
}

/// What one call may reach, and what is recorded of it.
pub(crate) struct CallOutside {
    pub(crate) granted: sandbox::Outside,
    pub(crate) recorder: Arc<HttpRecorder>,
    pub(crate) unrecorded: Unrecorded,
    /// The secrets that the call will have used.
    pub(crate) used: UsedSecrets,
}

impl Outside {
    pub(crate) fn new(rules: CurrentRules, gateway: Arc<Gateway>) -> Self {
        Self { rules, gateway: Some(gateway), usages: Arc::default() }
    }

    /// The rules that are in use now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.now()
    }

    /// What the call of a job may reach, by the grants of the rules that are for its module.
    pub(crate) fn of_call(&self, job: &Job, rules: &Arc<Rules>, grants: &Grants) -> CallOutside {
        let access = Arc::new(grants.of_call(&job.access, &job.flow, &job.call.task, &job.module));
        let (clock, random, http) = (access.has_clock(), access.has_random(), access.has_http());
        let (settings, directories) = (settings(&access), self.directories(&access));
        let sockets = match (access.check_sockets(), &self.gateway) {
            (Ok(()), Some(gateway)) => {
                Sockets::Granted { access: access.clone(), lookups: gateway.lookups(job.flow.namespace().as_ref()) }
            }
            (Ok(()), None) => Sockets::default(),
            (Err(denial), _) => Sockets::Denied(denial.to_string()),
        };
        let arguments = access.arguments().to_vec();
        let mut used = UsedSecrets::default();
        let gateway: Arc<dyn Outbound> = match &self.gateway {
            Some(gateway) if !access.is_empty() => {
                let gateway = gateway.for_call(job.flow.namespace(), access, rules.clone(), job.limits.http_bytes);
                let gateway = gateway.with_traceparent(traces::current().map(|span| span.to_string()).as_deref());
                used = gateway.used_secrets();
                Arc::new(gateway)
            }
            Some(_) | None => Arc::new(Closed(access)),
        };
        let is_recorded = http && job.access.record == Recording::Http;
        let recorder = Arc::new(match is_recorded {
            true => HttpRecorder::recording(gateway),
            false => HttpRecorder::counting(gateway),
        });
        let unrecorded = Unrecorded {
            clock,
            random,
            http: http && !is_recorded,
            settings: settings.config.values().chain(settings.variables.values()).any(Result::is_ok),
            directories: directories.all.values().any(Result::is_ok),
            connections: matches!(sockets, Sockets::Granted { .. }),
        };
        let gateway: Option<Arc<dyn Outbound>> = Some(recorder.clone());
        let granted = sandbox::Outside { clock, random, settings, directories, sockets, arguments, gateway };
        CallOutside { granted, recorder, unrecorded, used }
    }

    /// The directories that a call may use.
    fn directories(&self, access: &CallAccess) -> Directories {
        let all = access.directories().into_iter().map(|(name, directory)| {
            let directory = directory.map_err(|denial| denial.to_string()).map(|CallDirectory { path, write }| {
                Directory { path, write: write.map_err(|denial| denial.to_string()) }
            });
            (name.to_string(), directory)
        });
        Directories { all: all.collect(), usages: self.usages.clone() }
    }

    /// How much of what a flow asks for the rules grant now, task by task and part by part. What depends on who has signed a module is
    /// granted in part.
    pub(crate) fn granted_parts(&self, GrantsQuestion { flow, tasks, .. }: &GrantsQuestion) -> Vec<Vec<GrantedPart>> {
        let rules = self.rules.now();
        let of_task = |AskingTask { task, module, access }: &AskingTask| {
            let granted =
                |has_signed| rules.grants.granted_parts(access, flow, (task, module), |_: &SignerKey| has_signed);
            let part = |(without, with)| if without == with { without } else { GrantedPart::Some };
            granted(false).into_iter().zip(granted(true)).map(part).collect()
        };
        tasks.iter().map(of_task).collect()
    }
}

/// The settings that a call may read.
fn settings(access: &CallAccess) -> sandbox::Settings {
    let of_kind = |kind| {
        let settings = access.settings(kind).into_iter();
        settings.map(|(name, value)| (name.to_string(), value.map_err(|denial| denial.to_string()))).collect()
    };
    sandbox::Settings { config: of_kind(SettingKind::Config), variables: of_kind(SettingKind::Variable) }
}
