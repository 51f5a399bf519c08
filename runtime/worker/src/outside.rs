//! What the calls of a worker may reach outside their sandbox: what their flows ask for, as far as the operator grants it.

use std::sync::Arc;

use flow::{CallAccess, CallDirectory, Grants, Recording, SettingKind};
use gateway::{Closed, Gateway, Outbound};
use protocol::{Job, Unrecorded};
use sandbox::{Directories, Directory, DirectoryUsages, Sockets};

use crate::http_recorder::HttpRecorder;

/// The grants of the operator, and the way out for what they allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    grants: Arc<Grants>,
    gateway: Option<Arc<Gateway>>,
    usages: Arc<DirectoryUsages>,
}

/// What one call may reach, and what is recorded of it.
pub(crate) struct CallOutside {
    pub(crate) granted: sandbox::Outside,
    pub(crate) recorder: Arc<HttpRecorder>,
    pub(crate) unrecorded: Unrecorded,
}

impl Outside {
    pub(crate) fn new(grants: Grants, gateway: Arc<Gateway>) -> Self {
        Self { grants: Arc::new(grants), gateway: Some(gateway), usages: Arc::default() }
    }

    /// The grants of the operator.
    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What the call of a job may reach, by those of the grants that are for its module.
    pub(crate) fn of_call(&self, job: &Job, grants: &Grants) -> CallOutside {
        let access = Arc::new(grants.of_call(&job.access, &job.flow, &job.call.task, &job.module));
        let (clock, random, http) = (access.has_clock(), access.has_random(), access.has_http());
        let (settings, directories) = (settings(&access), self.directories(&access));
        let sockets = match access.check_sockets() {
            Ok(()) => Sockets::Granted(access.clone()),
            Err(denial) => Sockets::Denied(denial.to_string()),
        };
        let arguments = access.arguments().to_vec();
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
        let unrecorded = Unrecorded {
            clock,
            random,
            http: http && !is_recorded,
            settings: settings.config.values().chain(settings.variables.values()).any(Result::is_ok),
            directories: directories.all.values().any(Result::is_ok),
            connections: matches!(sockets, Sockets::Granted(_)),
        };
        let gateway: Option<Arc<dyn Outbound>> = Some(recorder.clone());
        let granted = sandbox::Outside { clock, random, settings, directories, sockets, arguments, gateway };
        CallOutside { granted, recorder, unrecorded }
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
}

/// The settings that a call may read.
fn settings(access: &CallAccess) -> sandbox::Settings {
    let of_kind = |kind| {
        let settings = access.settings(kind).into_iter();
        settings.map(|(name, value)| (name.to_string(), value.map_err(|denial| denial.to_string()))).collect()
    };
    sandbox::Settings { config: of_kind(SettingKind::Config), variables: of_kind(SettingKind::Variable) }
}
