//! Keys of other systems for concepts of a flow file: too different from waft's keys to be found as misspellings.

/// Suggests the intended key of a task.
pub(super) fn suggest_task_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "retries" | "max_retries" | "attempts" | "max_attempts" | "tries" => "did you mean retry = { attempts = n }?",
        "retry_delay" | "retry_backoff" | "backoff" => "did you mean retry = { initial = \"1s\" }?",
        "args" | "kwargs" | "arguments" | "params" | "parameters" | "inputs" | "input" | "env" => {
            "constants are written as with = { parameter = value }"
        }
        "outputs" | "output_names" | "returns" => "did you mean provides = [\"a value\"]?",
        "module" | "run" | "call" | "type" => "did you mean use = \"module#task\"?",
        "depends_on" | "needs" | "after" | "dependencies" | "upstream" => {
            "order is set with [[link]] from = \"a task\", to = \"this one\", or follows from the values it requires"
        }
        "time_limit" | "soft_time_limit" | "execution_timeout" => "did you mean timeout = \"30s\"?",
        "when" | "if" | "condition" => "a condition belongs to a link: [[link]] from, to, when = \"...\"",
        "countdown" | "delay" | "eta" => "did you mean start_after = \"30m\", or start_at?",
        "cron" | "schedule" => "schedules are beside the tasks: [[schedule]] cron = \"0 3 * * *\", to = \"this one\"",
        "cache" | "cached" | "memoize" | "cache_for" | "cache_ttl" | "cache_key_fn" | "cache_expiration" => {
            "did you mean memo = true, or memo = \"7d\"?"
        }
        "rate_limit" => "did you mean rate = \"10/s\"?",
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of a flow.
pub(super) fn suggest_flow_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "retries" | "max_retries" | "attempts" | "max_attempts" | "tries" => "did you mean retry = { times = n }?",
        "tasks" => "each task is a table of its own, begun by [[task]]",
        "links" | "edges" => "each link is a table of its own, begun by [[link]]",
        "flows" => "each nested flow is a table of its own, begun by [[flow]]",
        "params" | "parameters" | "args" | "variables" => "did you mean [inputs]?",
        "cron" => "times are tables of their own: [[schedule]] cron = \"0 3 * * *\", to = \"a task\"",
        "max_active" | "concurrency" => "did you mean max_parallel, of a task or of a flow that fires more than once?",
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of a task's own retry.
pub(super) fn suggest_policy_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "retries" | "max_retries" | "max_attempts" | "tries" | "count" | "limit" => "attempts",
        "delay" | "wait" | "interval" | "initial_interval" | "countdown" => "initial",
        "max_delay" | "max_interval" | "maximum" | "backoff_max" => "max",
        _ => return None,
    };
    Some(format!("did you mean {suggestion:?}?"))
}

/// Suggests the intended key of a flow's retry controller.
pub(super) fn suggest_controller_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "retries" | "max_retries" | "max_attempts" | "tries" | "count" | "limit" => "times",
        "values" | "list" | "over" => "for_each",
        _ => return None,
    };
    Some(format!("did you mean {suggestion:?}?"))
}

/// Suggests the intended key of a link.
pub(super) fn suggest_link_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "if" | "condition" | "conditions" | "expression" | "guard" => "did you mean when = \"a condition\"?",
        "source" | "upstream" | "after" | "depends_on" | "parent" => "did you mean from = \"a task\"?",
        "target" | "downstream" | "before" | "destination" | "child" => "did you mean to = \"a task\"?",
        "trigger_rule" | "outcome" | "status" => "did you mean on = \"success\", \"failure\" or \"any\"?",
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of a listener.
pub(super) fn suggest_listener_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "queue" | "topic" | "exchange" | "routing_key" | "event" | "subject" => {
            "a listener names tasks: flow = \"a flow\", task = \"a task in it\", to = \"a task of this flow\""
        }
        "target" | "handler" | "callback" | "use" | "run" => "did you mean to = \"a task\"?",
        "workflow" | "dag" | "pipeline" => "did you mean flow = \"a flow\"?",
        "when" | "if" | "condition" | "filter" => {
            "a listener has no condition: write it as when of a [[link]] from the task that it fires"
        }
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of a schedule.
pub(super) fn suggest_schedule_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "timezone" | "time_zone" | "tz" => "did you mean zone = \"Europe/Berlin\"?",
        "schedule" | "crontab" | "cron_expression" | "expression" => "did you mean cron = \"0 3 * * *\"?",
        "every" | "interval" | "rate" => "did you mean cron = \"*/10 * * * *\"?",
        "task" | "target" | "use" | "run" => "did you mean to = \"a task\"?",
        "catchup" | "catch_up" | "backfill" | "misfire" | "catchup_window" => {
            "did you mean missed = \"once\", \"skip\" or \"all\"?"
        }
        "concurrency" | "concurrency_policy" | "max_active" | "overlap_policy" => {
            "did you mean overlap = \"skip\", \"queue\" or \"allow\"?"
        }
        "args" | "kwargs" | "with" | "inputs" => "constants belong to the task: with = { parameter = value }",
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of what a task asks for.
pub(super) fn suggest_access_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "https" | "urls" | "hosts" | "allowed_hosts" | "network" => {
            "did you mean http = [\"GET https://example.com/v1/**\"]?"
        }
        "tcp" | "ports" | "addresses" => "did you mean sockets = [\"db.example.com:5432\"]?",
        "variables" | "environment" => "did you mean env = [\"a name\"]?",
        "directories" | "folders" | "files" | "fs" | "volumes" | "mounts" => "did you mean dirs = [\"a name\"]?",
        "time" | "wall_clock" => "did you mean clock = true?",
        "rng" | "entropy" => "did you mean random = true?",
        _ => return None,
    };
    Some(suggestion.into())
}

/// Suggests the intended key of an edit.
pub(super) fn suggest_edit_key(key: &str) -> Option<String> {
    let suggestion = match key {
        "delete" | "drop" => "remove",
        "insert" | "include" => "add",
        "connect" | "edge" => "link",
        "disconnect" => "unlink",
        "module" | "replace" => "use",
        "if" | "condition" => "when",
        "inputs" | "needs" => "requires",
        _ => return None,
    };
    Some(format!("did you mean {suggestion:?}?"))
}
