//! Commands to all runs that a filter selects.
//!
//! Each run gets its command as if it had been sent alone: the engine that drives the run decides, and the audit log has an
//! entry for the run. A request ends after a number of runs or some time; its answer says where the next one continues. Only a few
//! requests send commands at the same time, and namespaces take turns.
//!
//! A sender that may command runs and not read them learns only what the commands did.

use std::{sync::Arc, time::Duration};

use api::{self, BulkAction, BulkRefusal, BulkRequest, BulkResult};
use axum::{Extension, Json, extract::State, http::StatusCode};
use flow::RunState;
use futures::future::join_all;
use logbook::{Filter, Summary};
use protocol::RunCommand;
use tokio::time::Instant;

use super::{
    incarnation::Incarnation,
    list::{cursor, page, page_size, parse_cursor, parse_filter},
};
use crate::{
    audit::{Detail, RequestAudit},
    auth::{MayRead, client::Client, namespace::CallerNamespace, permission::Permission},
    extract,
    problem::Problem,
    state::{self, Shared},
    turns::{self, Turn},
};

/// The maximum number of runs of a request.
const MAX_RUNS: usize = 1_000;

/// The maximum number of runs that an answer names.
const MAX_NAMED: usize = 100;

/// The number of runs whose commands are under way at the same time. An engine records them together.
const AT_ONCE: usize = 16;

/// No further commands are sent after this time: whoever waits for the answer gives up after a minute, and a command may take
/// ten seconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The maximum length of a filter in the audit log, in characters.
const MAX_DETAIL: usize = 500;

/// Sends a command to all runs that a filter selects and that are in a state for it, page by page.
///
/// It works through at most 1,000 runs, the youngest first, and for at most about half a minute. If `next` is not `null`, runs
/// are left: send the request again with `after`. If the client leaves before the first command is sent, nothing is done; later the
/// request goes on to its end. A run that has changed meanwhile is among the refusals. `dry_run`, `expect`, and conditions on
/// labels and `text` also need the scope `read`.
#[utoipa::path(post, operation_id = "command_runs", path = "/v1/runs/bulk", tag = "runs", request_body = BulkRequest, responses(
    (status = 200, description = "What was done, or would be", body = BulkResult),
    (status = 400, description = "The filter cannot be read, or has no condition", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 409, description = "The filter selects another number of runs than expected", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn bulk(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(may_read): Extension<MayRead>,
    Extension(permission): Extension<Arc<Permission>>,
    Extension(client): Extension<Client>,
    Extension(audit): Extension<RequestAudit>,
    extract::Json(request): extract::Json<BulkRequest>,
) -> Result<(Extension<Detail>, Json<BulkResult>), Problem> {
    let plan = Plan::of(request, &caller, may_read)?;
    let Selected { matched, runs, next, turn } = client.while_present(plan.select(&state, &caller)).await?;
    let mut result = BulkResult {
        action: plan.action,
        dry_run: plan.is_dry_run,
        matched,
        first: Vec::new(),
        done: 0,
        refused: 0,
        refusals: Vec::new(),
        next: None,
    };
    if plan.is_dry_run {
        result.first = runs.iter().take(MAX_NAMED).map(|run| run.run.to_string()).collect();
    } else {
        // It may have waited for its turn.
        if !permission.still_holds().await {
            return Err(Problem::forbidden("the token was revoked or changed before the first command was sent"));
        }
        let commands = Commands { state: &state, audit: &audit, action: plan.action, is_limited: caller.0.is_some() };
        result.next = commands.send(runs, next, &permission, &mut result).await;
    }
    drop(turn);
    let detail = plan.detail(&result);
    Ok((Extension(Detail(detail)), Json(result)))
}

/// A request that was read.
struct Plan {
    action: BulkAction,
    filter: Filter,
    is_dry_run: bool,
    expected: Option<u64>,
    /// Whether the answer has the number of all runs that the filter selects: to the first request of a sender that may read.
    is_counted: bool,
    /// The conditions, for the audit log.
    shown: String,
}

impl Plan {
    fn of(request: BulkRequest, caller: &CallerNamespace, MayRead(may_read): MayRead) -> Result<Self, Problem> {
        if let Some(key) = reading_key(&request).filter(|_| !may_read) {
            let detail = format!("{key}: it tells about runs, so it needs the scope read beside operate");
            let hint = "use a token with both scopes, or leave it out: with --yes, `waft` asks for no dry run first";
            return Err(Problem::forbidden(detail).hint(hint));
        }
        let BulkRequest { action, mut filter, all, dry_run, expect, limit, after } = request;
        if filter.is_empty() && !all {
            let detail = "where: it has no condition, so it selects all runs";
            return Err(Problem::bad_request(detail).hint("add a condition, or \"all\": true if you mean all runs"));
        }
        if after.is_some() && expect.is_some() {
            let detail = "expect: it is about all runs, and `after` leaves some out";
            return Err(Problem::bad_request(detail).hint("give `expect` in the first request only"));
        }
        let shown = filter.pairs().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let shown = if shown.is_empty() { "all runs".to_owned() } else { shown.join(" ") };
        caller.limit(&mut filter.namespace)?;
        let filter = parse_filter(filter)?;
        let states = states(action, &filter.states)?;
        let after = after.map(|cursor| parse_cursor(&cursor)).transpose()?;
        let limit = page_size(limit, MAX_RUNS)?;
        Ok(Self {
            action,
            is_counted: after.is_none() && may_read,
            filter: Filter { states, after, limit, ..filter },
            is_dry_run: dry_run,
            expected: expect,
            shown: shown.chars().take(MAX_DETAIL).collect(),
        })
    }

    /// Reads the page of runs, and counts all if the answer has their number.
    ///
    /// # Errors
    /// [`Problem`] when the logbook cannot be read, or another number of runs is expected.
    async fn select(&self, state: &state::State, caller: &CallerNamespace) -> Result<Selected, Problem> {
        let turn = match self.is_dry_run {
            true => None,
            false => Some(turns::for_commands(caller.0.clone()).await),
        };
        // Dropped at the end, when others may read.
        let _reading = turns::for_page(caller.0.clone()).await;
        let matched = self.check_count(state).await?;
        let (runs, next) = page(&*state.dependencies.logbook, &self.filter).await?;
        Ok(Selected { matched, runs, next, turn })
    }

    /// The number of runs that the filter selects, if the answer has it.
    ///
    /// # Errors
    /// [`Problem`] when it is not the expected one.
    async fn check_count(&self, state: &state::State) -> Result<Option<u64>, Problem> {
        if !self.is_counted {
            return Ok(None);
        }
        let count = state.dependencies.logbook.counts(&self.filter, 1).await?.total;
        match self.expected {
            Some(expected) if expected != count => {
                let detail = format!("the filter selects {count} runs that can be asked for this, and not {expected}");
                let title = "the runs have changed meanwhile";
                Err(Problem::new(StatusCode::CONFLICT, "conflict", title, detail)
                    .hint("look at them again with \"dry_run\": true"))
            }
            _ => Ok(Some(count)),
        }
    }

    /// What was done, for the audit log.
    fn detail(&self, result: &BulkResult) -> String {
        let Self { action, shown, .. } = self;
        let more = if result.next.is_some() { ", more are left" } else { "" };
        match result.dry_run {
            true => format!("dry run of {action}: {shown}: {} runs", result.matched.unwrap_or_default()),
            false => format!("{action}: {shown}: {} done, {} refused{more}", result.done, result.refused),
        }
    }
}

/// The runs of a request.
struct Selected {
    /// The number of all that the filter selects, if the answer has it.
    matched: Option<u64>,
    /// Those that get the command.
    runs: Vec<Summary>,
    /// Where the next request continues, if all of them get it.
    next: Option<String>,
    /// The turn at sending the commands, unless none are sent.
    turn: Option<Turn>,
}

/// What a request asks beside its command. A dry run and `expect` tell about runs that get no command, and a command that finds no run, or
/// one that had the same command before, still tells which labels and inputs there are.
fn reading_key(BulkRequest { filter, dry_run, expect, .. }: &BulkRequest) -> Option<&'static str> {
    let asked = [
        ("dry_run", *dry_run),
        ("expect", expect.is_some()),
        ("where.label", !filter.label.is_empty()),
        ("where.text", filter.text.is_some()),
    ];
    asked.into_iter().find_map(|(key, is_asked)| is_asked.then_some(key))
}

/// The states in which runs are selected: those of the filter that the command is for.
///
/// # Errors
/// [`Problem`] when the command is for none of the states of the filter.
fn states(action: BulkAction, wanted: &[RunState]) -> Result<Vec<RunState>, Problem> {
    let applicable: &[RunState] = match action {
        BulkAction::Cancel => &[RunState::Pending, RunState::Running, RunState::Suspending, RunState::Suspended],
        BulkAction::Suspend => &[RunState::Pending, RunState::Running],
        BulkAction::Resume => &[RunState::Suspending, RunState::Suspended],
        BulkAction::Retry => &[RunState::Failure, RunState::RolledBack],
    };
    let is_wanted = |state: &&RunState| wanted.is_empty() || wanted.contains(state);
    let states: Vec<RunState> = applicable.iter().filter(is_wanted).copied().collect();
    if states.is_empty() {
        let known: Vec<&str> = applicable.iter().map(|state| state.as_str()).collect();
        let detail = format!("state: runs in these states cannot be asked for {action}");
        return Err(Problem::bad_request(detail).hint(format!("give some of {}, or none", known.join(" "))));
    }
    Ok(states)
}

/// Commands that are sent to runs.
struct Commands<'a> {
    state: &'a state::State,
    audit: &'a RequestAudit,
    action: BulkAction,
    is_limited: bool,
}

impl Commands<'_> {
    /// Sends the commands to a page of runs, and adds the results. Returns where the next request continues.
    async fn send(
        &self,
        runs: Vec<Summary>,
        next: Option<String>,
        permission: &Permission,
        result: &mut BulkResult,
    ) -> Option<String> {
        let started_at = Instant::now();
        let mut left = &runs[..];
        while !left.is_empty() {
            let (some, others) = left.split_at(left.len().min(AT_ONCE));
            let answers = join_all(some.iter().map(|run| self.send_one(run))).await;
            left = others;
            for (run, answer) in some.iter().zip(answers) {
                let Err(problem) = answer else {
                    result.done += 1;
                    continue;
                };
                result.refused += 1;
                if result.refusals.len() < MAX_NAMED {
                    let api::Problem { status, detail, .. } = *problem;
                    result.refusals.push(BulkRefusal { run: run.run.to_string(), status, reason: detail });
                }
            }
            let is_over = started_at.elapsed() >= TIME_LIMIT || self.state.stop.is_cancelled();
            if !left.is_empty() && (is_over || !permission.still_holds().await) {
                return some.last().map(cursor);
            }
        }
        next
    }

    /// Sends the command to a run, unless another one has its id by now.
    async fn send_one(&self, run: &Summary) -> Result<(), Box<api::Problem>> {
        let command = match self.action {
            BulkAction::Cancel => RunCommand::Cancel,
            BulkAction::Suspend => RunCommand::Suspend,
            BulkAction::Resume => RunCommand::Resume,
            BulkAction::Retry => RunCommand::Retry,
        };
        let answer = self.command(run, command).await.map_err(|problem| {
            let problem = if self.is_limited { problem.limited() } else { problem };
            Box::new(problem.into_document())
        });
        let status = answer.as_ref().map_or_else(|problem| problem.status, |()| StatusCode::OK.as_u16());
        self.audit.note(&self.action.to_string(), run.run.to_string(), status, "with others, by a filter").await;
        answer
    }

    async fn command(&self, run: &Summary, command: RunCommand) -> Result<(), Problem> {
        let dependencies = &self.state.dependencies;
        Incarnation::of(run).summary(&*dependencies.logbook).await?;
        dependencies.engine.command(&run.run, command).await?;
        Ok(())
    }
}
