// Made from docs/openapi.json by `npm run types`: do not edit.

export interface paths {
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Reports that the process is running. */
        get: operations["health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the metrics of this server in the text format of Prometheus.
         * @description The numbers of messages in queues may be ten seconds old, and all others one second.
         */
        get: operations["read_metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Reports whether engine, broker and logbook work. They are checked at most once a second. Only a request with a token for the
         *     whole server receives the reason of a failure.
         */
        get: operations["ready"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the requests that did more than read or were refused, the youngest first. */
        get: operations["read_audit_log"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/engines": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the engines that share the runs of the server, and the shards that each drives. */
        get: operations["list_engines"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Watches all runs.
         * @description The data of each event is a JSON object. `run` is a new state of a run, and `state` a new state of a task or a retry controller. They have
         *     no values. An event may come twice. The events of each run come in their order, from the time of the request on. A request with the id of
         *     an event in `Last-Event-ID` receives the events after it, as far as the server still has them. Where events were lost, there is the event
         *     `lost`: read the list of runs again, and then go on with what follows. The first message has an id and no data.
         */
        get: operations["events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/grants/explain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Explains how much the workers grant of what the tasks of a flow ask for.
         * @description It starts nothing. The answer counts the workers that take jobs from the queue of each task.
         */
        post: operations["explain_grants"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/health/checks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Checks everything that the server depends on: broker, permissions, queues, logbook, store, clocks, workers and runs.
         * @description It takes up to half a minute if something does not answer, and changes nothing.
         */
        get: operations["check_health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the contents of the store, in order of digest: modules, and values that were too large for messages.
         * @description A token that is limited to a namespace lists what its tags name, and the tags of none.
         */
        get: operations["list_modules"];
        put?: never;
        /**
         * Stores a module.
         * @description The body is a core module, which is converted to a component, a component or a WASI command. It is checked before it is
         *     stored. A module that the server does not admit is not stored.
         */
        post: operations["push_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{module}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Shows a module by tag or digest. */
        get: operations["show_module"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{module}/signatures": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stores a signature of a module that the store has.
         * @description The body is a signature in the format of minisign, as `waft modules sign` makes it.
         */
        post: operations["sign_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Shows this description. */
        get: operations["openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/permits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the tasks whose calls hold permits or wait for them, in order of flow and task.
         * @description A page with a `next` may have fewer tasks than `limit`, or none.
         */
        get: operations["list_permits"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/quarantine": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the first messages in quarantine. They stay there. */
        get: operations["list_quarantine"];
        put?: never;
        post?: never;
        /**
         * Deletes messages in quarantine.
         * @description Of the messages that `GET /v1/quarantine` lists, it deletes those with an id, or all.
         */
        delete: operations["drop_quarantine"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/quarantine/release": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends messages in quarantine again, to the queues that they came from.
         * @description Of the messages that `GET /v1/quarantine` lists, it releases those with an id, or all. A worker can put any message into the quarantine,
         *     also a forged job, and name any queue.
         */
        post: operations["release_quarantine"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the known queues of jobs, in order of name. */
        get: operations["list_queues"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists runs, the youngest first. */
        get: operations["list_runs"];
        put?: never;
        /**
         * Starts a run of a flow.
         * @description If a run with this id already exists, it is returned as it is, so a request without a response may be sent again. A request
         *     with another flow, other inputs, modules or labels is refused. If the server sends as many large answers as it has memory for, or cannot
         *     show a new run within ten seconds, the answer has no tasks and no values.
         */
        post: operations["submit_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows a run with all its tasks.
         * @description If its failures have more than 4 MiB together, the messages of the others are cut: the timeline and the elements have them whole.
         */
        get: operations["show_run"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/attempts/{task}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns one attempt with everything that `waft replay` needs.
         * @description The body is one message in the format of waft: the job with its inputs, what was recorded of its end, what the guest wrote and
         *     used, its recorded HTTP exchanges, and the bytes of its module and its values. It is a file for `waft replay`. Without `firing` or
         *     `attempt` it is the last one. The task may be an element of a list: `resize[3]`.
         */
        get: operations["run_attempt"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Stops a run and rolls it back. */
        post: operations["cancel_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/edits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Changes the flow of a run: all of the edits in one step, or none of them.
         * @description They are applied to the current flow. With `if_revision` they are refused if the flow is at another revision. A `dry_run` changes
         *     nothing, and with `preview` its answer has the flow as it would be.
         */
        post: operations["edit_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/elements/{task}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the elements of a task's list.
         * @description They come in their order, with the state and the last failure of each. A page has at most 4 MiB of failures.
         */
        get: operations["run_elements"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Watches a run.
         * @description The data of each event is a line as `waft run --json` prints it, from the start of the run. If the oldest records of a
         *     long-lived run were deleted, the first line is `trimmed` with their number. The stream ends with the last line of the run;
         *     it continues while the run is suspended. A request with the id of an event in `Last-Event-ID` receives the events after
         *     it.
         */
        get: operations["run_events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/exchanges": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the HTTP requests of the attempts of a run and what came of them, as far as they were recorded.
         * @description The attempt that ended last comes first. A page has at most 4 MiB of records and 500 attempts. Secrets of the operator are shown as
         *     the task wrote them: `{{secret:NAME}}`.
         */
        get: operations["run_exchanges"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/flow": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the flow of a run at a revision, as the text of a flow file.
         * @description The first revision is the text as it was submitted. The text of a later one is written with the edits up to it, so comments
         *     are missing. With `written` the first one is written in the same way.
         */
        get: operations["read_flow"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/graph": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the graph of a run.
         * @description It has the tasks, nested flows and links of its flow. The graph of the last revision has the states of the run, that of an earlier
         *     one has none. A task with a list is one node with the number of its elements: `/elements/{task}` shows them.
         */
        get: operations["run_graph"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows what guests logged and printed during the attempts of a run.
         * @description The attempt that ended first comes first. A page ends with about 2 MiB of lines or 1,000 attempts, and `next` is the cursor for the
         *     next one.
         */
        get: operations["run_logs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/logs/follow": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follows the output of a run's guests.
         * @description The data of each event is a JSON object. `log` is a line, `log-missing` has the number of lines of a running attempt that are
         *     not known yet, `log-cut` means that an attempt wrote more than is stored, `log-end` that all lines of an attempt were sent,
         *     and `run` is the last event. The lines of ended attempts come first. Lines of a running attempt come as it writes them; lost
         *     lines follow when it ends. Each line comes once. After a reconnect with `Last-Event-ID`, lines of attempts that have not
         *     ended may come again.
         */
        get: operations["follow_run_logs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/notify": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Notifies a task: a waiting task succeeds with the values, or fails; a task of a persistent flow fires with them. */
        post: operations["notify_task"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/rehearsal": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Rehearses what happens if a task of a run fails now.
         * @description No guest is called, and the run is not changed: the state machine goes on alone, with stubs in place of results. Each case has another
         *     failure: what is retried, what is rolled back in which order, and what needs a person. An answer has at most 4 MiB of cases, and counts
         *     those that are left out: `node` selects the cases of one task.
         */
        get: operations["rehearse_run"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Resumes a suspended run. */
        post: operations["resume_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Retries rollbacks that failed permanently, or restarts a run that was rolled back. */
        post: operations["retry_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/skip": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Marks the permanently failed rollback of a task as done, after a person has settled it. */
        post: operations["skip_task"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/suspend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Suspends a run: it starts nothing new, and running calls may finish. */
        post: operations["suspend_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/timeline": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Shows the attempts of a run with their times.
         * @description They are the attempts of its tasks and of the elements of their lists, those that wait for a notification too, and rollbacks. Without
         *     other limits they are the 1,000 attempts that started last. For earlier ones, name the start of the first as `before`.
         *     The failures in an answer have at most 4 MiB.
         */
        get: operations["run_timeline"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{run}/values/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns one value of a run whole.
         * @description The body is the value: the text of JSON, or the bytes. The content type tells which; bytes that a worker has stored as JSON, and
         *     are not, have the type of bytes. Of a value that a task provided and an input
         *     of the same name, it is the one that a task provided. An answer about a run, and its events, have references in place of
         *     large values; with the digest of a reference, the route returns its value as long as the records of the run have it.
         */
        get: operations["run_value"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/bulk": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends a command to all runs that a filter selects and that are in a state for it, page by page.
         * @description It works through at most 1,000 runs, the youngest first, and for at most about half a minute. If `next` is not `null`, runs
         *     are left: send the request again with `after`. If the client leaves before the first command is sent, nothing is done; later the
         *     request goes on to its end. A run that has changed meanwhile is among the refusals. `dry_run`, `expect`, and conditions on
         *     labels and `text` also need the scope `read`.
         */
        post: operations["command_runs"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/counts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Counts the runs of a filter, by flow and state. */
        get: operations["count_runs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/schedules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the schedules of runs that have not ended, those of the youngest run first.
         * @description A page looks into some runs, which may have no schedules. It ends after some seconds, or a megabyte.
         */
        get: operations["list_schedules"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the tokens, without their text. */
        get: operations["list_tokens"];
        put?: never;
        /** Makes a token. Only the answer contains its text. */
        post: operations["create_token"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/tokens/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Revokes a token: within a second, no server that shares the logbook accepts it. */
        delete: operations["revoke_token"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the webhooks.
         * @description The numbers and the tries are those of this server since it was started.
         */
        get: operations["list_webhooks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks/{webhook}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sends an event of the kind `test` to a webhook, once. */
        post: operations["test_webhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the workers that answer within a second, with the calls that they make.
         * @description For a token that is limited to a namespace, these are the workers that take jobs from its queues or make its calls.
         */
        get: operations["list_workers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{name}/drain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Tells a worker to take no new jobs.
         * @description It ends the calls that it has, and returns jobs that it has not begun. It stays until it is told to take jobs again, or ends; with
         *     `exit`, it exits once its calls have ended. A worker that starts again takes jobs.
         */
        post: operations["drain_worker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{name}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Tells a worker to take jobs again. */
        post: operations["resume_worker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description A task that asks for something outside its sandbox. */
        AskingTask: {
            /** @description The keys of its `allow`, as lines of a flow file. */
            allow: string;
            /** @description The digest of its module. */
            module: string;
            /** @description Its queue. */
            queue: string;
            /** @description The task. */
            task: string;
        };
        /** @description The recorded HTTP exchanges of one attempt. */
        AttemptExchanges: {
            /** @description When it ended. */
            at: string;
            /**
             * Format: int32
             * @description The attempt.
             */
            attempt: number;
            /** @description `apply` or `rollback`. */
            call: string;
            /** @description Whether the attempt had more exchanges than are recorded of one attempt. */
            cut?: boolean;
            /** @description The exchanges, in the order of the requests. */
            exchanges: components["schemas"]["Exchange"][];
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description Why the record of the attempt cannot be read, if it cannot. */
            missing?: string | null;
            /** @description The task. */
            task: string;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description The output of a guest during one attempt. */
        AttemptLog: {
            /** @description When it ended. */
            at: string;
            /**
             * Format: int32
             * @description The attempt.
             */
            attempt: number;
            /** @description `apply` or `rollback`. */
            call: string;
            /** @description Whether the guest wrote more than is stored. */
            cut: boolean;
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description The lines. */
            lines: components["schemas"]["LogLine"][];
            /** @description The task. */
            task: string;
            usage?: components["schemas"]["Usage"] | null;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description A request that did more than read, or was refused. */
        AuditEntry: {
            /**
             * @description What it asked for: `submit`, `notify`, `cancel`, `suspend`, `resume`, `retry`, `skip`, `edit`, `push`, `sign`,
             *     `create-token`, `revoke-token`, or `read` for a refused request that only reads. A push that sets a tag also has an
             *     entry `move-tag`.
             */
            action: string;
            /** @description When it was answered. */
            at: string;
            /**
             * @description Who sent it: the name of a token, `(server token)`, or `(owner)` for the user who started the server. The subject of the
             *     client's certificate follows in parentheses, if the server asks for one: `ci (CN=build-7)`.
             */
            caller: string;
            /**
             * @description The digests of a moved tag, before and after. Or the number of further requests that this entry stands for: if requests
             *     of one sender with the same action and status are refused within a minute, the first has an entry of its own, and the
             *     others share one. Left out for other entries.
             */
            detail?: string | null;
            /** @description The address and port it came from. */
            peer: string;
            /**
             * Format: int32
             * @description The status of the answer, as in HTTP.
             */
            status: number;
            /** @description The id of the run, the digest of the module, the tag or the name of the token that it is about; left out if it is unknown. */
            subject?: string | null;
        };
        /** @description A page of the audit log, the youngest entry first. */
        AuditLog: {
            /** @description The entries. */
            entries: components["schemas"]["AuditEntry"][];
            /** @description The value for `after` in the request for the next page; `null` on the last page. */
            next?: string | null;
        };
        /** @description The notification that a task waits for. */
        AwaitedNotification: {
            /** @description The deadline. The task fails if it was not notified by then. */
            until?: string | null;
            /** @description The values that the notification must contain. */
            values: string[];
            /** @description A short description: the text of `wait` in the flow. */
            word: string;
        };
        /** @description A schedule with missed times that still have to fire. */
        Backlog: {
            /** @description The first of its missed times. */
            next: string;
            /** @description The task that it fires. */
            task: string;
        };
        /** @description A body: its text, or its bytes in base64. */
        Body: {
            /** @description The bytes in base64, if they are no text. */
            base64?: string | null;
            /**
             * Format: int64
             * @description The number of bytes.
             */
            bytes: number;
            /** @description The text, if it is UTF-8. */
            text?: string | null;
        };
        /**
         * @description A command to many runs.
         * @enum {string}
         */
        BulkAction: "cancel" | "suspend" | "resume" | "retry";
        /** @description A run whose command was refused, or failed. */
        BulkRefusal: {
            /** @description Why. */
            reason: string;
            /** @description The run. */
            run: string;
            /**
             * Format: int32
             * @description The status that the command to this run alone would have been answered with.
             */
            status: number;
        };
        /** @description A command to all runs that a filter selects and that are in a state for it. */
        BulkRequest: {
            /** @description The command. */
            action: components["schemas"]["BulkAction"];
            /** @description The value of `next` in the answer before. */
            after?: string | null;
            /** @description Whether a filter without conditions may select all runs. */
            all?: boolean;
            /** @description Whether to only answer how many runs it selects, and the first of them. */
            dry_run?: boolean;
            /**
             * Format: int64
             * @description Refuse the request if it does not select this number of runs. Not together with `after`.
             */
            expect?: number | null;
            /** @description The maximum number of runs: 1 to 1000, which is the default. */
            limit?: number | null;
            /** @description The filter. Without any condition it is refused, unless `all` is true. */
            where?: components["schemas"]["RunFilter"];
        };
        /** @description What a command to many runs did, or would do. */
        BulkResult: {
            /** @description The command. */
            action: components["schemas"]["BulkAction"];
            /**
             * Format: int64
             * @description The number of runs whose command was recorded.
             */
            done: number;
            /** @description Whether nothing was done. */
            dry_run: boolean;
            /** @description In the answer to a dry run, the ids of the first runs: at most 100. */
            first?: string[];
            /**
             * Format: int64
             * @description The number of runs that the filter selected at the beginning, of at most 1,000,000 that are counted. An answer to a
             *     request with `after`, or to a token without the scope `read`, does not have it.
             */
            matched?: number | null;
            /** @description The value for `after` in the request for the runs that are left; `null` if none are. */
            next?: string | null;
            /** @description The first of them, with the reasons: at most 100. */
            refusals?: components["schemas"]["BulkRefusal"][];
            /**
             * Format: int64
             * @description The number of runs whose command was refused, or failed.
             */
            refused: number;
        };
        /** @description One check. */
        Check: {
            /** @description What to do next, if there is something to do. */
            advice?: string | null;
            /**
             * @description The name of the check: `broker`, `broker-permissions`, `queues` and others. A name may occur several times, and later
             *     versions add some.
             */
            check: string;
            /** @description The details of the result. */
            detail: string;
            /** @description The result. */
            outcome: components["schemas"]["Outcome"];
        };
        /** @description The results of a server's checks of all its dependencies. */
        Checks: {
            /** @description When the checks ended, by the server's clock, as an RFC 3339 time. */
            at: string;
            /** @description The checks, always in the same order. */
            checks: components["schemas"]["Check"][];
            /** @description The version of the server. */
            version: string;
        };
        /** @description The call that computed a remembered result. */
        ComputedBy: {
            /**
             * Format: int32
             * @description The attempt, from 1.
             */
            attempt: number;
            /**
             * Format: int64
             * @description The firing, from 1.
             */
            firing: number;
            /** @description The run, which may be deleted by now. */
            run: string;
            /** @description The task, or the element of its list. */
            task: string;
        };
        /** @description A token that was just made. */
        CreatedToken: {
            /** @description The text that requests carry as `Authorization: Bearer …`. The server does not keep it, and never shows it again. */
            secret: string;
            /** @description The token. */
            token: components["schemas"]["Token"];
        };
        /** @description An error in a flow, or a warning about it. */
        Diagnostic: {
            /** @description The column, from 1, in characters. */
            column?: number | null;
            /** @description What to do about it. */
            hint?: string | null;
            /** @description The line of the flow file, from 1. */
            line?: number | null;
            /** @description What is wrong. */
            message: string;
            /** @description `error` or `warning`. */
            severity: string;
            /** @description Its start and end in the file, in bytes. */
            span?: number[] | null;
        };
        /** @description How a worker is drained. */
        DrainOptions: {
            /** @description Whether the worker exits once its calls have ended. Without it, the worker stays until it is told to take jobs again, or ends. */
            exit?: boolean;
        };
        /** @description A shard that an engine drives. */
        DrivenShard: {
            /**
             * Format: int64
             * @description The number of its runs that the engine has in memory.
             */
            runs: number;
            /** @description The shard. */
            shard: string;
            /** @description Since when the engine has driven it, by the clock of the server that answers. */
            since: string;
        };
        /** @description One change of a run's flow. */
        Edit: {
            /** @enum {string} */
            do: "add";
            /** @description Its modules by alias, each a tag or a digest. They replace those in `[modules]` of the text. */
            modules?: components["schemas"]["ModuleNames"];
            /** @description The text. */
            text: string;
        } | {
            /** @enum {string} */
            do: "remove";
            /** @description The task. */
            task: string;
        } | {
            /** @enum {string} */
            do: "link";
            /** @description The source. */
            from: string;
            /** @description `all` or `any`. */
            join?: string | null;
            /** @description `success`, `failure` or `any`. */
            on?: string | null;
            /** @description `all`, `flow`, `neighbors` or `task`. */
            reach?: string | null;
            /** @description The target. */
            to: string;
            /** @description A condition. */
            when?: string | null;
        } | {
            /** @enum {string} */
            do: "unlink";
            /** @description The source. */
            from: string;
            /** @description The target. */
            to: string;
        } | {
            /** @enum {string} */
            do: "use";
            /** @description The task. */
            task: string;
            /** @description `module#task` or `module`; the module is an alias of the flow, a tag or a digest. */
            uses: string;
        } | {
            /** @enum {string} */
            do: "set";
            /** @description The task's name for the value. */
            parameter: string;
            /** @description The task. */
            task: string;
            /** @description The value, any JSON. */
            value: unknown;
        } | {
            /** @enum {string} */
            do: "require";
            /** @description The task's name for the value. */
            parameter: string;
            /** @description The task. */
            task: string;
            /** @description The flow's name for the value. */
            value: string;
        };
        /** @description The flow of a run as edits would change it. */
        EditPreview: {
            /** @description Its graph, without states. */
            graph: components["schemas"]["RunGraph"];
            /** @description Its text, as `GET /v1/runs/{run}/flow?written=true` would answer; left out if the flow cannot be written as a file. */
            text?: string | null;
        };
        /** @description The result of edits, or of a check whether they can be made. */
        EditResult: {
            /** @description Whether the flow was changed; `false` for a `dry_run`. */
            applied: boolean;
            /** @description The edits, described in words. */
            edits: string[];
            preview?: components["schemas"]["EditPreview"] | null;
            /**
             * Format: int64
             * @description The revision of the changed flow.
             */
            revision: number;
            /** @description The run's id. */
            run: string;
            /** @description The warnings about the changed flow. They do not prevent it from running. */
            warnings?: components["schemas"]["Diagnostic"][];
        };
        /** @description Changes of a run's flow: all in one step, or none. */
        Edits: {
            /** @description Only check whether the edits can be made. */
            dry_run?: boolean;
            /** @description The edits, in the order in which they are made. */
            edits?: components["schemas"]["Edit"][];
            /**
             * Format: int64
             * @description The revision that the flow must have; the request is refused otherwise.
             */
            if_revision?: number | null;
            /** @description Also answer a `dry_run` with the changed flow. */
            preview?: boolean;
            /** @description The edits as the text of a file of edits (TOML), in place of `edits`. The server reads no files: `add_text` adds a text in it. */
            text?: string | null;
        };
        /** @description An element of a list. */
        Element: {
            /**
             * Format: int32
             * @description Its last attempt; left out before the first.
             */
            attempt?: number | null;
            failure?: components["schemas"]["Failure"] | null;
            /**
             * Format: int32
             * @description Its number, from 0.
             */
            number: number;
            /** @description Its state. */
            state: string;
        };
        /** @description The progress of a task that is called for each element of a list. */
        ElementProgress: {
            /**
             * Format: int64
             * @description The number of elements.
             */
            count: number;
            /**
             * Format: int64
             * @description The number of elements in success.
             */
            succeeded: number;
        };
        /** @description A page of the elements of a task, in their order. */
        Elements: {
            /**
             * Format: int64
             * @description The number of elements.
             */
            count: number;
            /** @description The elements. */
            elements: components["schemas"]["Element"][];
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /**
             * Format: int32
             * @description The value for `after` in the request for the next page; `null` on the last page.
             */
            next?: number | null;
            /** @description The run's id. */
            run: string;
            /** @description The task. */
            task: string;
        };
        /** @description An engine. It is found if it drives a shard, or if an engine that does has received a message from it within five seconds. */
        Engine: {
            /** @description Its name, which is new after each start. */
            engine: string;
            /** @description The machine that it runs on. Left out for an engine that drives no shard, since only its name is known. */
            host?: string | null;
            /**
             * Format: int32
             * @description Its process id on that machine. Left out as `host` is.
             */
            process?: number | null;
            /** @description The shards that it drives. */
            shards: components["schemas"]["DrivenShard"][];
            /** @description Its version of waft. Left out as `host` is. */
            version?: string | null;
        };
        /** @description The engines that share the runs of a logbook. */
        Engines: {
            /** @description The engines that were found: those that drive shards, in order of their names, and then the others. */
            engines: components["schemas"]["Engine"][];
            /** @description The shards about which no engine has answered within two seconds. An engine may just take one over. */
            unanswered: string[];
        };
        /** @description Why a node failed, without the details that its guest added. */
        EventFailure: {
            /** @description The kind, as in the state of the run. */
            kind: string;
            /** @description The message for people, cut after 1,000 characters. */
            message: string;
        };
        /** @description An event of a run. Later versions may add kinds. */
        EventPayload: components["schemas"]["EventPayloadRun"] | components["schemas"]["EventPayloadState"] | components["schemas"]["EventPayloadFiring"] | components["schemas"]["EventPayloadTrimmed"];
        /** @description A firing started or ended, in a run that fires more than once. */
        EventPayloadFiring: {
            /** @description When it entered its state, as an RFC 3339 time. */
            at: string;
            /** @enum {string} */
            event: "firing";
            /**
             * Format: int64
             * @description Its number, from 1.
             */
            firing: number;
            /** @description Its state, with the words for the states of runs. */
            state: string;
        };
        /** @description The run started or continues, is suspended, or has ended. */
        EventPayloadRun: {
            /** @description When the run started or continued, as an RFC 3339 time; in notifications, when it entered its state. */
            at?: string | null;
            /** @enum {string} */
            event: "run";
            /** @description The nodes that failed in the last firing, and why. */
            failures?: {
                [key: string]: components["schemas"]["Failure"];
            } | null;
            /** @description The name of its flow; only in the event of a run that started or continues, and in notifications that an engine publishes. */
            flow?: string | null;
            inputs?: components["schemas"]["Values"] | null;
            /** @description The labels of the run; only in the event of a run that started or continues, if it has some. */
            labels?: {
                [key: string]: string;
            };
            provides?: components["schemas"]["Values"] | null;
            /** @description The run's id. */
            run: string;
            /** @description The run's state. */
            state: string;
        };
        /** @description A task or a retry controller changed its state. */
        EventPayloadState: {
            /** @description When it entered its state, as an RFC 3339 time. */
            at: string;
            /**
             * Format: int32
             * @description The attempt, from 1.
             */
            attempt: number;
            computed_by?: components["schemas"]["ComputedBy"] | null;
            /** @description Its module. */
            digest?: string | null;
            /** @enum {string} */
            event: "state";
            failure?: components["schemas"]["Failure"] | null;
            /**
             * Format: int64
             * @description The firing, from 1.
             */
            firing: number;
            /** @description The name of the run's flow; only in notifications that an engine publishes. */
            flow?: string | null;
            /** @description `task` or `retry`. */
            kind: string;
            /** @description The name of the task or retry controller. An element of a list is named `task[number]`. */
            name: string;
            provides?: components["schemas"]["Values"] | null;
            /**
             * Format: double
             * @description The seconds until its next attempt.
             */
            retry_in?: number | null;
            /** @description The run's id; only in notifications that an engine publishes. */
            run?: string | null;
            /** @description Its state. */
            state: string;
            /** @description The worker that called it, where known. */
            worker?: string | null;
        };
        /** @description The oldest records of a long-lived run were deleted, so their changes are not sent. */
        EventPayloadTrimmed: {
            /** @enum {string} */
            event: "trimmed";
            /**
             * Format: int64
             * @description The number of records that were deleted.
             */
            records: number;
        };
        /** @description One request, and what came of it. */
        Exchange: {
            /** @description The body of the request. */
            body: components["schemas"]["Body"];
            /** @description Why there was no response; left out if there was one. */
            error?: string | null;
            /** @description The headers of the request. A secret is in them as `{{secret:NAME}}`. */
            headers: components["schemas"]["Header"][];
            /** @description The method. */
            method: string;
            response?: components["schemas"]["ExchangeResponse"] | null;
            /**
             * Format: double
             * @description The seconds from the request to its end.
             */
            seconds: number;
            /** @description The address, with its query. */
            url: string;
        };
        /** @description A response. */
        ExchangeResponse: {
            /** @description The body. */
            body: components["schemas"]["Body"];
            /** @description The headers. */
            headers: components["schemas"]["Header"][];
            /**
             * Format: int32
             * @description The status.
             */
            status: number;
        };
        /** @description How many workers grant one thing that a task asks for. */
        ExplainedPart: {
            /**
             * Format: int32
             * @description The number of workers that grant it.
             */
            all: number;
            /**
             * Format: int32
             * @description The number of workers that do not grant it.
             */
            none: number;
            /**
             * Format: int32
             * @description The number of workers that grant a part of it.
             */
            some: number;
            /** @description The thing: `http GET https://…`, `secret NAME`, `clock`. */
            what: string;
        };
        /** @description What a task would be granted by the workers that take jobs from its queue. */
        ExplainedTask: {
            /** @description What it asks for. */
            asked: components["schemas"]["ExplainedPart"][];
            /** @description Its queue, with its namespace. */
            queue: string;
            /** @description The task. */
            task: string;
            /**
             * Format: int32
             * @description The number of workers of the queue that answered within a second.
             */
            workers: number;
        };
        /** @description A call that fails in a case. */
        FailingCall: {
            /** @description Apply or rollback. */
            action: string;
            /** @description How often it fails. */
            fails: string;
            /** @description The task. Of a task with `for_each`, its last element fails. */
            node: string;
        };
        /** @description Why a node failed. */
        Failure: {
            apply?: components["schemas"]["Failure"] | null;
            /** @description The details that the guest added, any JSON. */
            details?: unknown;
            /** @description `transient permanent timeout memory trap output-limit invalid-output missing-input module poison cancelled denied`. */
            kind: string;
            /** @description The message for people. */
            message: string;
        };
        /** @description A firing of a run that fires more than once. */
        FiringState: {
            /**
             * Format: int64
             * @description Its number, from 1.
             */
            firing: number;
            /** @description Its state, with the words for the states of runs. */
            state: string;
        };
        /** @description How many runs a flow has, by state. */
        FlowCounts: {
            /** @description The name of the flow. */
            flow: string;
            /** @description The number of its runs in each state that some of them have. */
            states: {
                [key: string]: number;
            };
        };
        /** @description The flow of a run at one of its revisions, as the text of a flow file. */
        FlowText: {
            /** @description The digests of the modules that the text names, by alias; perhaps also of modules that later edits name. */
            modules?: {
                [key: string]: string;
            };
            /**
             * Format: int64
             * @description The revision, from 1.
             */
            revision: number;
            /** @description The run's id. */
            run: string;
            /** @description Whether this is the text as it was submitted. Otherwise it was written anew, with the edits up to the revision. */
            submitted: boolean;
            /** @description The text. The namespace of the flow may be missing in the name of a submitted text. */
            text: string;
        };
        /** @description What a flow would be granted. */
        GrantsExplanation: {
            /** @description The flow, with its namespace. */
            flow?: string;
            /** @description The tasks, as they were asked for. */
            tasks: components["schemas"]["ExplainedTask"][];
        };
        /** @description The tasks of a flow that ask for something outside their sandbox. */
        GrantsQuestion: {
            /** @description The name of the flow. For a token that is limited to a namespace, it is a flow in the namespace. */
            flow: string;
            /** @description Its tasks that ask for something. They ask for at most 1,000 things together, and their `allow` have at most 4 MiB. */
            tasks: components["schemas"]["AskingTask"][];
        };
        /** @description A link: its target starts after its source. */
        GraphLink: {
            /** @description Whether it is a back edge: it starts the next firing of its target. */
            back?: boolean;
            /** @description The outcomes and conditions that it has besides the order. Mostly there are none, and seldom several. */
            conditions?: components["schemas"]["LinkCondition"][];
            /** @description The source. */
            from: string;
            /** @description The target. */
            to: string;
            /** @description The values that it carries. */
            values?: string[];
        };
        /** @description A task or a nested flow. */
        GraphNode: {
            elements?: components["schemas"]["ElementProgress"] | null;
            /** @description Whether it handles failures: it runs although its flow is rolled back. */
            is_failure_handler?: boolean;
            /** @description `task`, `for-each`, `wait` or `flow`. */
            kind: string;
            /** @description Its name. No other node of the graph has it. */
            name: string;
            /** @description Whether an edit has removed it after it had run. */
            removed?: boolean;
            /** @description The strategy of the retry controller of a nested flow, for people. */
            retry?: string | null;
            /** @description The state of a task, or of the retry controller of a nested flow. The graph of an earlier revision has none. */
            state?: string | null;
            /** @description What fires it, for people; each ends the sentence `it fires …`. */
            triggers?: string[];
            /** @description The nested flow that contains it directly; left out if it is directly in the whole flow. */
            within?: string | null;
        };
        /** @description A header. Bytes of a value that are no text are replaced. */
        Header: {
            /** @description The name. */
            name: string;
            /** @description The value. */
            value: string;
        };
        /** @description The answer of a server that is running. */
        Health: {
            /** @description `ok`. */
            status: string;
        };
        /** @description A queue of jobs. A broker does not tell how old its messages are: `GET /v1/runs/{run}` has the time of each outstanding call. */
        JobQueue: {
            /**
             * Format: int64
             * @description The number of its consumers: workers that take jobs from it now. A worker without a free slot is none while its calls are long. Only of
             *     a queue that exists.
             */
            consumers?: number | null;
            /**
             * Format: int64
             * @description The number of jobs that wait in it. Those that workers have fetched are not counted. Only of a queue that exists.
             */
            messages?: number | null;
            /** @description Its name in flows. */
            queue: string;
            /** @description What the broker has answered about it. */
            state: string;
            /**
             * Format: int64
             * @description The number of workers that answered and name it, also those that are drained.
             */
            workers: number;
        };
        /** @description A page of queues. */
        JobQueues: {
            /** @description What to pass as `after` for the next page; left out at the end. */
            next?: string | null;
            /**
             * @description The queues, in order of name: `default`, those that the settings of the server or an answering worker names, and those in which
             *     calls wait of runs that this server drives. A broker cannot list others.
             */
            queues: components["schemas"]["JobQueue"][];
        };
        /** @description What the last call of a task used. */
        LastUsage: {
            /**
             * Format: int32
             * @description The attempt.
             */
            attempt: number;
            /** @description `apply` or `rollback`. */
            call: string;
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description What it used. */
            usage: components["schemas"]["Usage"];
        };
        /** @description The outcome that a link waits for, and its condition. */
        LinkCondition: {
            /** @description `success`, `failure` or `any`. */
            on: string;
            /** @description The condition. */
            when?: string | null;
        };
        /** @description An event of a followed log. In JSON, `event` names its variant. */
        LogEvent: components["schemas"]["LogEventLog"] | components["schemas"]["LogEventLogMissing"] | components["schemas"]["LogEventLogCut"] | components["schemas"]["LogEventLogEnd"] | {
            /** @enum {string} */
            event: "run";
            /** @description The run's id. */
            run: string;
            /** @description Its state. */
            state: string;
        };
        /** @description A line that a guest wrote. */
        LogEventLog: {
            /**
             * Format: int32
             * @description The attempt's number.
             */
            attempt: number;
            /** @description Apply or rollback. */
            call: string;
            /** @enum {string} */
            event: "log";
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description The name of the level; `stdout` or `stderr` for printed lines. */
            level: string;
            /**
             * Format: int32
             * @description Its number, from 1, among the lines of its source: the attempt's log, its standard output, or its standard
             *     error.
             */
            number: number;
            /** @description The task. */
            task: string;
            /** @description The line. */
            text: string;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description An attempt wrote more than is stored. */
        LogEventLogCut: {
            /**
             * Format: int32
             * @description The attempt's number.
             */
            attempt: number;
            /** @description Apply or rollback. */
            call: string;
            /** @enum {string} */
            event: "log-cut";
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description The task. */
            task: string;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description An attempt has ended, and all of its stored lines were received. */
        LogEventLogEnd: {
            /**
             * Format: int32
             * @description The attempt's number.
             */
            attempt: number;
            /** @description Apply or rollback. */
            call: string;
            /** @enum {string} */
            event: "log-end";
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description The task. */
            task: string;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description Some lines of a running attempt are not known. They follow when it ends, or sooner. */
        LogEventLogMissing: {
            /**
             * Format: int32
             * @description The attempt's number.
             */
            attempt: number;
            /** @description Apply or rollback. */
            call: string;
            /** @enum {string} */
            event: "log-missing";
            /**
             * Format: int64
             * @description The firing.
             */
            firing: number;
            /** @description The number of missing lines. */
            lines: number;
            /** @description The task. */
            task: string;
            /** @description The worker that executed it, where known. */
            worker?: string | null;
        };
        /** @description One line that a guest wrote. */
        LogLine: {
            /** @description The name of the level; `stdout` or `stderr` for printed lines. */
            level: string;
            /** @description The line. */
            text: string;
        };
        /** @description A worker that was lost while it called a task. */
        LostWorker: {
            /** @description When that was recorded. */
            at: string;
            /**
             * Format: int32
             * @description The attempt that was lost.
             */
            attempt: number;
            /** @description The worker, where it is known. */
            worker?: string | null;
        };
        /** @description A module that the server has checked. */
        Module: {
            /** @description Its digest. */
            digest: string;
            /** @description Who signed it. */
            signatures?: components["schemas"]["ModuleSignature"][];
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
            /** @description The names of its tasks; empty for a WASI command. */
            tasks: string[];
        };
        /** @description Modules by alias, each a tag or a digest. */
        ModuleNames: {
            [key: string]: string;
        };
        /** @description A page of the contents of the store. */
        Modules: {
            /** @description The modules and large values, in order of digest. */
            modules: components["schemas"]["StoredModule"][];
            /** @description What to pass as `after` for the next page; left out at the end. */
            next?: string | null;
        };
        /** @description A checked signature of a module. */
        ModuleSignature: {
            /** @description The id of the key, as minisign shows it: 16 hex digits. It does not identify the key. */
            key_id: string;
            /** @description When it was signed, by the clock of the signer. */
            signed_at: string;
            /** @description The public key of the signer, as minisign writes it: it begins with RW. */
            signer: string;
            /** @description The only tag under which the signer wants the module to be found; left out for any use. */
            tag?: string | null;
        };
        /** @description A token that is to be made. */
        NewToken: {
            /**
             * Format: int64
             * @description The seconds after which it expires; without them it is valid until it is revoked.
             */
            expires_in?: number | null;
            /** @description Its name, which no other token has: 1 to 100 of the characters A-Z a-z 0-9 _ -. */
            name: string;
            /** @description The namespace that it is limited to: it reaches only the flows, runs and tags there. Without it, it reaches all. */
            namespace?: string | null;
            /** @description What it allows: `read`, `submit`, `operate`, `push`, `metrics` or `admin`. */
            scopes: string[];
        };
        /** @description The next time of a schedule. */
        NextTime: {
            /** @description The time, as an RFC 3339 time. */
            at: string;
            /** @description The task that it fires. */
            task: string;
        };
        /** @description A task or a retry controller of a run. */
        Node: {
            /** @description When it entered its state. */
            at?: string | null;
            /**
             * Format: int32
             * @description Its attempt; left out before it was started.
             */
            attempt?: number | null;
            awaits?: components["schemas"]["AwaitedNotification"] | null;
            computed_by?: components["schemas"]["ComputedBy"] | null;
            /** @description Its module. */
            digest?: string | null;
            elements?: components["schemas"]["ElementProgress"] | null;
            failure?: components["schemas"]["Failure"] | null;
            /**
             * Format: int64
             * @description Its firing; left out before it was started.
             */
            firing?: number | null;
            /** @description Whether it has a rollback. Only a task has this. Without a rollback, `rolled-back` means that what the task did stays. */
            has_rollback?: boolean | null;
            /** @description `task` or `retry`. */
            kind: string;
            last_usage?: components["schemas"]["LastUsage"] | null;
            /** @description The workers that were lost during a long call of it, as far back as the records go. */
            lost?: components["schemas"]["LostWorker"][];
            /** @description Its name. */
            name: string;
            out?: components["schemas"]["OutstandingCall"] | null;
            provides?: components["schemas"]["Values"] | null;
            /** @description The queue of its jobs, with its namespace. Only a task that calls a guest has one. */
            queue?: string | null;
            /**
             * Format: double
             * @description The seconds until its next attempt.
             */
            retry_in?: number | null;
            /** @description The reason that a person gave for skipping its failed rollback. */
            rollback_skipped?: string | null;
            /** @description When its last apply or rollback was sent to the workers. */
            started_at?: string | null;
            /** @description Its state. A retry controller has `started` in place of `success`. */
            state: string;
            /** @description The worker that called it last, where known. */
            worker?: string | null;
        };
        /**
         * @description A notification of a task: the task succeeds with the values that it provides, or it fails. A task of a persistent flow
         *     that calls a guest fires with the values.
         */
        Notification: {
            /** @description Why the task fails. A notification with a failure has no values. */
            failure?: string | null;
            /** @description The deduplication key: of several notifications with one key, only the first fires a persistent flow. */
            key?: string | null;
            /** @description The task. */
            task: string;
            /** @description The values. A waiting task provides them under its own names; a task that fires takes them under the flow's names. */
            values?: components["schemas"]["Values"];
        };
        /**
         * @description The result of a check.
         * @enum {string}
         */
        Outcome: "ok" | "skipped" | "warn" | "fail";
        /** @description A call that has not been answered yet. */
        OutstandingCall: {
            /** @description The queue that its job was sent to. */
            queue: string;
            /**
             * Format: double
             * @description The seconds since the last heartbeat of its worker, if the next one is late.
             */
            silent_for?: number | null;
            /** @description When its job was sent. */
            since: string;
            /** @description Whether it waits for a worker although no worker consumes its queue. */
            unserved?: boolean;
            /** @description The worker that executes it, where known: after ten seconds, or once an engine has tried to withdraw the call. */
            worker?: string | null;
        };
        /** @description A call that holds a permit or waits for one. */
        PermitCall: {
            /**
             * Format: int32
             * @description The attempt.
             */
            attempt: number;
            /** @description Whether it executes the task or rolls it back. */
            call: string;
            /**
             * Format: int64
             * @description The firing of the task.
             */
            firing: number;
            /** @description The run. */
            run: string;
            /** @description The task; of a task with `for_each`, the element: `fetch[3]`. */
            task: string;
        };
        /** @description A page of tasks whose calls need permits. */
        Permits: {
            /** @description What to pass as `after` for the next page; left out at the end. */
            next?: string | null;
            /** @description The tasks with calls that hold a permit or wait for one, in order of flow and task. */
            tasks: components["schemas"]["TaskPermits"][];
            /** @description The shards about which no engine has answered within two seconds. The calls of their runs are missing. */
            unanswered?: string[];
        };
        /** @description Why a request was refused, in the format of RFC 9457. */
        Problem: {
            /** @description The details of this problem. */
            detail: string;
            /** @description Every error and warning about the flow. */
            diagnostics?: components["schemas"]["Diagnostic"][];
            /** @description What a person can do about it. */
            hint?: string | null;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description The kind of problem, for people. */
            title: string;
            /** @description The kind of problem, for programs. */
            type: string;
        };
        /** @description The first messages in quarantine. */
        Quarantine: {
            /** @description The messages, in the order of the queue: at most 1,000, and none after those that have 16 MiB together. */
            messages: components["schemas"]["QuarantinedMessage"][];
            /**
             * Format: int64
             * @description The number of messages behind them. They can be read after some of the first are released or deleted.
             */
            unread: number;
        };
        /** @description A message in quarantine. Whoever may publish at the broker can have written its texts. */
        QuarantinedMessage: {
            /** @description The ids in its headers, such as the run and the task. Those that do not fit into 2 KiB are left out. */
            headers?: {
                [key: string]: string;
            };
            /** @description Its id: the id of its call, if it is a job. Several messages may have the same. */
            id: string;
            /**
             * Format: int32
             * @description The number of headers that are left out.
             */
            more_headers?: number;
            /** @description The queue that it came from. */
            queue?: string | null;
            /** @description Why it is in quarantine: a sentence, or `delivery_limit` if the broker gave it up. At most 1,000 characters. */
            reason?: string | null;
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
        };
        /** @description What was released or deleted. */
        QuarantineResult: {
            /** @description The released or deleted messages. */
            done: components["schemas"]["QuarantinedMessage"][];
            /**
             * Format: int64
             * @description The number of messages that were not read, since they are behind too many or too large ones.
             */
            unread: number;
            /**
             * @description The messages that could not be released, and stay: they do not name the queue that they came from, or that queue no longer
             *     exists.
             */
            without_origin: components["schemas"]["QuarantinedMessage"][];
        };
        /** @description Which messages in quarantine are released or deleted: those with an id, or all. */
        QuarantineSelection: {
            /** @description All messages that one request reads. Without it, an id must be given. */
            all?: boolean;
            /** @description The messages with this id. */
            id?: string | null;
        };
        /** @description The rehearsal of a flow: its runs without a guest, each with another failure. */
        Rehearsal: {
            /** @description The cases. The first one is the run without a failure; then come the cases of each node, in the order of the flow. */
            cases: components["schemas"]["RehearsedCase"][];
            /** @description The name of the flow. */
            flow: string;
            /**
             * Format: int64
             * @description The number of cases that were left out, because the cases before had as many steps as a rehearsal may have, or because too many
             *     other failures lead to them. Others may be left out that only these cases lead to.
             */
            omitted: number;
            /** @description The recorded run from whose state each case continues; left out if each case is a new run. */
            run?: string | null;
            /** @description The values that stood for the results of tasks. */
            stubs: components["schemas"]["StubbedValue"][];
        };
        /** @description A run of the flow with a failure, or without one. */
        RehearsedCase: {
            /**
             * @description The calls that fail, the one of interest last. Another one comes before it if it leads to the call of interest, as the
             *     failure of a task leads to the call of its failure handler, and to the rollback of the tasks before it. Empty in
             *     the run without a failure.
             */
            failing: components["schemas"]["FailingCall"][];
            /** @description The firings, in a flow that fires more than once. */
            firings?: components["schemas"]["RehearsedFiring"][];
            /** @description The failure handlers that ran. */
            handlers?: string[];
            /** @description The tasks and retry controllers with their states at the end, in the order of the flow. */
            nodes: components["schemas"]["RehearsedNode"][];
            /** @description The tasks that waited for a notification, and got one. */
            notified?: string[];
            /**
             * @description Whether the call of interest was made. If not, the node was never called: the other fields are of a run without its
             *     failure.
             */
            reached: boolean;
            /** @description The calls that were repeated. */
            retried?: components["schemas"]["RetriedCall"][];
            /** @description The flows that a retry controller ran again. */
            retried_flows?: components["schemas"]["RetriedFlow"][];
            /** @description The tasks whose effects are rolled back at the end, in the order in which their rollbacks ended. */
            rolled_back?: string[];
            /** @description The nodes that a link kept from starting. */
            skipped?: components["schemas"]["SkippedNode"][];
            /** @description The state of the run at the end. A run of a persistent flow stays `running`. */
            state: string;
            /**
             * @description The tasks of a run that did not succeed whose effects are not rolled back, although the rest was: those before a
             *     rollback that failed.
             */
            still_applied?: string[];
            /** @description Why the rehearsal stopped before the run ended, if it did. */
            stopped?: string | null;
            /** @description The tasks whose rollback failed. A person has to act: `waft retry`, or `waft skip` for each of them. */
            stuck?: string[];
            /**
             * @description The nodes that failed although the case does not let them fail, at most 20, and why. Mostly a condition cannot be evaluated with a
             *     stubbed value.
             */
            unexpected?: {
                [key: string]: components["schemas"]["Failure"];
            };
            /** @description The tasks that succeeded and went through the rollback of the run without a rollback of their own: their effects stay. */
            without_rollback?: string[];
        };
        /** @description A firing of a flow that fires more than once. */
        RehearsedFiring: {
            /** @description The trigger, for people: `the start`, `a notification of t`, `a schedule of t`, `the link from t`. */
            by: string;
            /** @description Its state at the end. */
            state: string;
        };
        /** @description A task or retry controller at the end of a case. */
        RehearsedNode: {
            /** @description Task or retry controller. */
            kind: string;
            /** @description Its name. */
            name: string;
            /** @description Its state. */
            state: string;
        };
        /** @description A call that was made more than once. */
        RetriedCall: {
            /** @description Apply or rollback. */
            action: string;
            /**
             * Format: int32
             * @description The number of attempts, over all runs of its flow by retry controllers.
             */
            attempts: number;
            /** @description Whether the pauses of a run are drawn at random: then those here are an example. */
            jitter: boolean;
            /** @description The task, or the element of its list. */
            node: string;
            /**
             * @description The pauses before attempts, in seconds and in order. The first attempt after a retry controller has run its flow again
             *     has no pause.
             */
            pauses: number[];
        };
        /** @description A flow that its retry controller ran again. */
        RetriedFlow: {
            /** @description The flow. */
            flow: string;
            /** @description The tasks that are rolled back before the second run, in order. */
            rolled_back: string[];
            /**
             * Format: int32
             * @description The number of times it was run, the first one included.
             */
            runs: number;
        };
        /** @description A revision of a run's flow. */
        Revision: {
            /** @description When the flow was changed. */
            at: string;
            /** @description The edits, described in words. */
            edits: string[];
            /**
             * Format: int64
             * @description Its number.
             */
            revision: number;
        };
        /** @description A run with all its tasks. */
        Run: {
            /** @description Its schedules with missed times that still have to fire. */
            backlogs?: components["schemas"]["Backlog"][];
            /**
             * @description Whether the run was cancelled or has expired, and is not rolled back yet: started calls finish first, then their
             *     rollbacks are made.
             */
            cancelling?: boolean;
            /** @description When it last changed. */
            changed_at: string;
            /** @description The nodes that failed in the last firing, and why. */
            failures: {
                [key: string]: components["schemas"]["Failure"];
            };
            /**
             * Format: int64
             * @description The number of its firings. Only runs that fire more than once have it.
             */
            fired?: number | null;
            /** @description Its firings that are in progress or need a person. */
            firings?: components["schemas"]["FiringState"][];
            /** @description The name of its flow. */
            flow: string;
            /** @description The values that the run started with. */
            inputs: components["schemas"]["Values"];
            /** @description Its labels, which never change. */
            labels?: {
                [key: string]: string;
            };
            /** @description The values that its tasks provided and that were not rolled back. */
            provides: components["schemas"]["Values"];
            /**
             * Format: int64
             * @description The revision of its flow.
             */
            revision: number;
            /** @description The changes of its flow, in order. */
            revisions?: components["schemas"]["Revision"][];
            /** @description The run's id. */
            run: string;
            /** @description The next times of its schedules, in the flow's order. The schedules of a suspended run wait until it is resumed. */
            schedules?: components["schemas"]["NextTime"][];
            /** @description The triggers that started no firing. */
            skipped?: components["schemas"]["SkippedTriggers"][];
            /** @description When it started, as an RFC 3339 time. */
            started_at: string;
            /** @description Its state. */
            state: string;
            /** @description Its tasks and retry controllers, in the flow's order. */
            tasks: components["schemas"]["Node"][];
            /** @description The id of its trace, in hexadecimal, if the server traces. */
            trace_id?: string | null;
            /** @description The address of the page that shows its trace, if the operator has said where traces are shown. */
            trace_url?: string | null;
            /** @description The warnings about the flow, for the client that submits it. They do not prevent the flow from running. */
            warnings?: components["schemas"]["Diagnostic"][];
        };
        /** @description How many runs there are, by flow and state. */
        RunCounts: {
            /** @description The flows with their runs, by name: at most 1,000. */
            flows: components["schemas"]["FlowCounts"][];
            /** @description Whether there are more flows, or more runs than are counted. */
            more?: boolean;
            /**
             * Format: int64
             * @description The number of all runs, of at most 1,000,000 that are counted.
             */
            total: number;
        };
        /** @description A page of the recorded HTTP exchanges of a run. */
        RunExchanges: {
            /** @description The attempts with a record, the one that ended last first. */
            attempts: components["schemas"]["AttemptExchanges"][];
            /** @description The cursor for the next page; left out on the last one. */
            next?: string | null;
        };
        /** @description A filter for runs. All given conditions must hold. */
        RunFilter: {
            /** @description Only runs of this flow. */
            flow?: string | null;
            /** @description Only runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold. */
            label?: string[];
            /** @description Only runs of flows in this namespace. */
            namespace?: string | null;
            /** @description Only runs that started at or after this time, in RFC 3339 format. */
            since?: string | null;
            /** @description Only runs in one of these states, separated by commas. */
            state?: string | null;
            /**
             * @description Only runs whose id begins with this text, or that have it as the value of a label or as an input: a string, a number or a
             *     boolean of at most 128 characters.
             */
            text?: string | null;
            /** @description Only runs that started before this time. */
            until?: string | null;
        };
        /** @description The graph of a run, as it is now or was at a revision of its flow. */
        RunGraph: {
            /** @description The name of its flow. */
            flow: string;
            /**
             * Format: int64
             * @description The last revision of the flow. Only the graph of this one has states.
             */
            last_revision: number;
            /** @description The links. Each connects two nodes that are directly in the same flow. */
            links: components["schemas"]["GraphLink"][];
            /** @description The tasks and nested flows, in the flow's order. A nested flow comes before what it contains. */
            nodes: components["schemas"]["GraphNode"][];
            /** @description The strategy of the retry controller of the whole flow, for people. */
            retry?: string | null;
            /**
             * Format: int64
             * @description The revision of the flow that this is.
             */
            revision: number;
            /** @description The run's id. */
            run: string;
        };
        /** @description A page of the output of guests during the attempts of a run. */
        RunLogs: {
            /** @description The attempts with output, in the order in which they ended. */
            logs: components["schemas"]["AttemptLog"][];
            /** @description The cursor for the next page; left out on the last one. */
            next?: string | null;
        };
        /** @description A page of the list of runs, the youngest first. */
        Runs: {
            /** @description The value for `after` in the request for the next page; `null` on the last page. */
            next?: string | null;
            /** @description The runs. */
            runs: components["schemas"]["Summary"][];
        };
        /** @description An event of all runs. In JSON, `event` names its variant. */
        RunsEvent: components["schemas"]["RunsEventRun"] | components["schemas"]["RunsEventState"] | components["schemas"]["RunsEventLost"];
        /** @description Events were lost here. Read the list of runs again, and then go on with the events that follow. */
        RunsEventLost: {
            /** @enum {string} */
            event: "lost";
            /** @description Why, and what to do, for people. */
            message: string;
        };
        /** @description A run is in a new state. */
        RunsEventRun: {
            /** @description When it entered the state, as an RFC 3339 time. */
            at: string;
            /** @enum {string} */
            event: "run";
            /** @description The name of its flow. */
            flow: string;
            /** @description The run's id. */
            run: string;
            /** @description Its state. */
            state: string;
        };
        /** @description A task or a retry controller of a run is in a new state. */
        RunsEventState: {
            /** @description When it entered its state, as an RFC 3339 time. */
            at: string;
            /**
             * Format: int32
             * @description The attempt, from 1.
             */
            attempt: number;
            /** @enum {string} */
            event: "state";
            failure?: components["schemas"]["EventFailure"] | null;
            /**
             * Format: int64
             * @description The firing, from 1.
             */
            firing: number;
            /** @description The name of the run's flow. */
            flow: string;
            /** @description `task` or `retry`. */
            kind: string;
            /** @description The name of the task or retry controller. An element of a list is named `task[number]`. */
            name: string;
            /**
             * Format: double
             * @description The seconds until its next attempt.
             */
            retry_in?: number | null;
            /** @description The run's id. */
            run: string;
            /** @description Its state, with the words of notifications. */
            state: string;
            /** @description The worker that called it, where known. */
            worker?: string | null;
        };
        /** @description The state of a run after a command was recorded. */
        RunStateResponse: {
            /**
             * @description Whether the command was a cancel, and the run is not rolled back yet. After another command it is `false`; the run
             *     itself shows whether it is being cancelled.
             */
            cancelling?: boolean;
            /** @description The run's id. */
            run: string;
            /** @description Its state. */
            state: string;
        };
        /** @description A schedule of a run that has not ended. */
        Schedule: {
            backlog?: components["schemas"]["ScheduleBacklog"] | null;
            /** @description Its times, as a line in cron form. */
            cron: string;
            /** @description The flow of the run. */
            flow: string;
            /** @description The next time. Left out if the schedule does not fire any more, or if the time is not computed yet. */
            next?: string | null;
            /** @description The run that holds it. */
            run: string;
            /**
             * @description The triggers of its task that have fired nothing, by reason: `missed`, `overlap` or `full`. If other schedules or notifications fire the
             *     task too, theirs count as well.
             */
            skipped?: components["schemas"]["SkippedTriggers"][];
            /** @description The state of the run. While the run is suspended, its schedules do not fire. */
            state: string;
            /** @description The task that it fires. */
            task: string;
            /** @description The time zone of the line. */
            zone: string;
        };
        /** @description The missed times of a schedule that will still fire. */
        ScheduleBacklog: {
            /** @description The first of them. */
            next: string;
            /** @description All of them are before this time. Left out if no time follows. */
            until?: string | null;
        };
        /** @description A page of schedules. */
        Schedules: {
            /** @description What to pass as `after` for the next page; left out at the end. */
            next?: string | null;
            /**
             * @description The schedules of the runs of this page, those of the youngest run first. It may be empty although there is another page: the
             *     runs of a page may have no schedules.
             */
            schedules: components["schemas"]["Schedule"][];
            /** @description The runs of this page that cannot be read: their records are corrupt, or it takes too long now. */
            unreadable?: string[];
        };
        /** @description A link to a node that did not start. */
        SkippedLink: {
            /** @description The source of the link. */
            from: string;
            /** @description Whether it listens to a failure. */
            on_failure?: boolean;
            /** @description The stubbed values that its condition reads, at most 20. With other values the node may start. */
            stubs?: components["schemas"]["StubbedValue"][];
            /** @description The condition, if it has one. */
            when?: string | null;
        };
        /** @description A node that a link kept from starting. */
        SkippedNode: {
            /** @description The links to the node that have a condition or listen to a failure. */
            links: components["schemas"]["SkippedLink"][];
            /** @description The node. A nested flow has the name of its flow. */
            node: string;
        };
        /** @description Schedules and notifications that should have fired a task, and did not. */
        SkippedTriggers: {
            /**
             * Format: int64
             * @description The number of skipped triggers. Of times that were missed at once at most 1,000 are counted.
             */
            count: number;
            /** @description When the last one was skipped. */
            last_at: string;
            /**
             * @description Why: `overlap` (an earlier firing of the schedule was in progress), `missed` (no engine drove the run at that time)
             *     or `full` (10,000 firings were waiting).
             */
            reason: string;
            /** @description The task. */
            task: string;
        };
        /** @description Marks a failed rollback as done. */
        SkipRollback: {
            /** @description Why its rollback is no longer needed. */
            reason: string;
            /** @description The task. */
            task: string;
        };
        /** @description One content of the store. */
        StoredModule: {
            /** @description Its digest. */
            digest: string;
            /** @description Who signed it. */
            signatures?: components["schemas"]["ModuleSignature"][];
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
            /** @description When it was stored. */
            stored_at: string;
            /** @description The tags that refer to it. */
            tags: string[];
        };
        /** @description A reference to a value in the store. */
        StoredValue: {
            /** @description The digest of its bytes; for JSON, of its text. */
            digest: string;
            /** @description The kind of the value: `json` or `bytes`. */
            form: string;
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
        };
        /** @description A value that stood for a result of a task, since no guest was called. */
        StubbedValue: {
            /** @description The origin of the value. */
            from: string;
            /** @description The value, by the flow's name. Of a task with `for_each`, it is the value of each element. */
            name: string;
            /** @description The task. */
            task: string;
            /** @description The value. Left out in a link if its text has more than 256 bytes: the `stubs` of the rehearsal have it. */
            value?: unknown;
        };
        /** @description A run to start. */
        Submission: {
            /** @description The text of the flow file. */
            flow: string;
            /** @description Values that the run starts with. They replace those in `[inputs]` of the file. */
            inputs?: components["schemas"]["Values"];
            /**
             * @description The labels of the run, at most 16. They never change. A name has 1 to 63 of the characters `a-z 0-9 - _ . /`, and begins with
             *     a letter or a digit; a value has at most 128 characters, without control characters.
             */
            labels?: {
                [key: string]: string;
            };
            /** @description Modules by alias, each a tag or a digest. They replace those in `[modules]` of the file. */
            modules?: {
                [key: string]: string;
            };
            /** @description The run's id; the server chooses one if it is not given. If the run already exists, it is returned as it is. */
            run?: string | null;
        };
        /** @description A run in a list. */
        Summary: {
            /** @description When it last changed. */
            changed_at: string;
            /** @description The name of its flow. */
            flow: string;
            /** @description Its labels, which never change. */
            labels?: {
                [key: string]: string;
            };
            /** @description The run's id. */
            run: string;
            /** @description When it started, as an RFC 3339 time. */
            started_at: string;
            /** @description Its state: `pending running success failure rolled-back suspending suspended`. */
            state: string;
        };
        /** @description The permits of a task. The calls of `waft run` take permits of the same task, and are not counted. */
        TaskPermits: {
            /** @description The flow. */
            flow: string;
            /**
             * Format: int64
             * @description The number of calls that hold a permit. A task with only a `rate` needs none once its call has started.
             */
            given: number;
            /** @description Calls that hold a permit, at most 20. */
            holders?: components["schemas"]["PermitCall"][];
            /**
             * Format: int32
             * @description The maximum number of calls that run at once: the smallest of all runs with such a call.
             */
            max_running?: number | null;
            /** @description Calls that wait, at most 20: those that are next among the runs of their shard. */
            next?: components["schemas"]["PermitCall"][];
            /** @description The maximum rate of starts, such as `10/s`: the slowest of all runs with such a call. */
            rate?: string | null;
            /** @description The task. */
            task: string;
            /**
             * Format: int64
             * @description The number of calls that wait for a permit.
             */
            waiting: number;
        };
        /** @description Attempts of a run, in the order of their start. */
        Timeline: {
            /** @description The attempts that match the query: those that started last, the oldest of them first. */
            attempts: components["schemas"]["TimelineAttempt"][];
            /**
             * Format: int64
             * @description The number of attempts that match the query and started before the first shown one.
             */
            earlier: number;
            /** @description The run's id. */
            run: string;
            /**
             * Format: int64
             * @description The number of the run's oldest records that were deleted. Their attempts are not known any more.
             */
            trimmed_records?: number;
        };
        /** @description An attempt of a task or an element of its list, or of a retry controller, with its times. */
        TimelineAttempt: {
            /**
             * Format: int32
             * @description The attempt, from 1.
             */
            attempt: number;
            /** @description `apply` or `rollback`. */
            call: string;
            /** @description When it ended; left out while it has not. */
            ended_at?: string | null;
            failure?: components["schemas"]["Failure"] | null;
            /**
             * Format: int64
             * @description The firing, from 1.
             */
            firing: number;
            /** @description When a worker reported that it works on the call. Short calls are not reported. */
            leased_at?: string | null;
            /** @description How it ended: `success remembered failure rolled-back rollback-failure lost`; left out while it has not ended. */
            outcome?: string | null;
            /**
             * Format: double
             * @description The seconds from its end to the next attempt, if it failed and another one follows.
             */
            retry_in?: number | null;
            /** @description When it was sent to the workers, or began to wait, as an RFC 3339 time. */
            started_at: string;
            /** @description The task; `task[number]` for an element of its list. */
            task: string;
            /**
             * @description The address of the page that shows its span, if the operator has said where traces are shown. An attempt that waits for a
             *     notification has no span: the page shows its trace.
             */
            trace_url?: string | null;
            /** @description The worker, where known. */
            worker?: string | null;
        };
        /** @description A token, without its secret. */
        Token: {
            /** @description When it was made. */
            created_at: string;
            /** @description When it expires; left out for one that is valid until it is revoked. */
            expires_at?: string | null;
            /** @description Its name. */
            name: string;
            /** @description The namespace that it is limited to; left out for one that reaches all. */
            namespace?: string | null;
            /** @description What it allows. */
            scopes: string[];
        };
        /** @description The tokens of a server. */
        Tokens: {
            /** @description The tokens, in order of name; expired ones too. */
            tokens: components["schemas"]["Token"][];
        };
        /** @description What one attempt used. */
        Usage: {
            /**
             * Format: double
             * @description The seconds of CPU time of the threads that ran the guest, while they ran it. It includes what the worker does on these
             *     threads for the guest.
             */
            cpu_seconds: number;
            /**
             * Format: int64
             * @description The bytes of its HTTP requests: addresses, headers and bodies.
             */
            http_request_bytes?: number;
            /**
             * Format: int64
             * @description The number of HTTP requests that it tried, denied ones included.
             */
            http_requests?: number;
            /**
             * Format: int64
             * @description The bytes of the HTTP responses: headers and bodies.
             */
            http_response_bytes?: number;
            /**
             * Format: int64
             * @description The bytes of its inputs; of a rollback, also of the values that the apply had provided.
             */
            input_bytes: number;
            /**
             * Format: int64
             * @description The most bytes of all linear memories of the guest together.
             */
            memory_bytes: number;
            /**
             * Format: int64
             * @description The bytes of the values that it returned.
             */
            output_bytes: number;
            /**
             * Format: double
             * @description The seconds from its start to its end.
             */
            wall_seconds: number;
        };
        /**
         * @description Values by name. Any JSON value is stored under its name. Values that are not JSON are under two keys that are not valid
         *     names of values: bytes as base64 under `$bytes`, and references to the server's store under `$stored`. A request cannot
         *     contain references.
         */
        Values: {
            /** @description The values that are bytes, as base64, by name. */
            $bytes?: {
                [key: string]: string;
            };
            /** @description The references to values in the store, by name. A request with a reference is refused. */
            $stored?: {
                [key: string]: components["schemas"]["StoredValue"];
            };
        } & {
            [key: string]: unknown;
        };
        /** @description A webhook, as this server knows it since it was started. Another server may be the one that sends its events now. */
        Webhook: {
            /**
             * Format: int64
             * @description The number of events that this server has delivered.
             */
            delivered: number;
            /** @description Its last tries, the newest first: at most 100. */
            deliveries: components["schemas"]["WebhookDelivery"][];
            /**
             * Format: int64
             * @description The number of events that were dropped since the queue was full, as far as this server knows.
             */
            dropped: number;
            /**
             * Format: int64
             * @description The number of failed tries.
             */
            failed: number;
            /**
             * Format: int64
             * @description The number of events that this server has given up, since they were too old.
             */
            given_up: number;
            /** @description Its name. */
            name: string;
            /** @description The scheme, host and port of its address: the rest may be secret. */
            url: string;
            /**
             * Format: int64
             * @description The number of events that wait in its queue, besides those that are being sent; `null` if the broker or the logbook does not answer.
             */
            waiting?: number | null;
        };
        /** @description One try to deliver an event. */
        WebhookDelivery: {
            /** @description When the try began, as an RFC 3339 time. */
            at: string;
            /**
             * Format: int32
             * @description The number of the try, from 1. It begins again when another server takes over.
             */
            attempt: number;
            /** @description Why the event was not delivered; `null` if it was. */
            failure?: string | null;
            /** @description The id of the event, as in the header `webhook-id`. */
            id: string;
            /**
             * Format: int32
             * @description The status of the answer, if there was one.
             */
            status?: number | null;
            /** @description What the event is about, for people. */
            subject: string;
            /**
             * Format: int64
             * @description How long it took, in milliseconds.
             */
            took_ms: number;
        };
        /** @description The webhooks of a server. */
        Webhooks: {
            /** @description The webhooks, in the order of their names. */
            webhooks: components["schemas"]["Webhook"][];
        };
        /** @description A worker. For a token that is limited to a namespace, it has only the queues and the calls of the namespace. */
        Worker: {
            /**
             * Format: int32
             * @description The number of calls in progress. Some may wait without a slot, so it may be more than `slots`.
             */
            busy: number;
            /** @description The calls that it makes: at most 100, those that have run longest first. */
            calls?: components["schemas"]["WorkerCall"][];
            /** @description The machine it runs on. Left out for a token that is limited to a namespace. */
            host?: string | null;
            /**
             * Format: int32
             * @description The number of calls beyond those in `calls`.
             */
            more_calls?: number;
            /** @description Its name. */
            name: string;
            /**
             * Format: int32
             * @description The number of calls of other namespaces. For a token that is not limited to a namespace, it is 0.
             */
            other_calls?: number;
            /** @description Those of the slots that a queue has of its own. At most 100 queues. */
            own_slots?: {
                [key: string]: number;
            };
            /**
             * Format: int32
             * @description Its process id on that machine. Left out for a token that is limited to a namespace.
             */
            process?: number | null;
            /** @description The queues that it consumes. */
            queues: string[];
            /**
             * Format: int32
             * @description The maximum number of calls that compute at once.
             */
            slots: number;
            /** @description Whether it takes jobs. Left out for a worker that has not said so, like one of an earlier version. */
            state?: string | null;
            /** @description Its version of waft. */
            version: string;
        };
        /** @description A call that a worker makes. */
        WorkerCall: {
            /**
             * Format: int32
             * @description The attempt.
             */
            attempt: number;
            /** @description Whether it executes the task or rolls it back. */
            call: string;
            /**
             * Format: int64
             * @description The firing of the task.
             */
            firing: number;
            /** @description The flow. */
            flow: string;
            /** @description The run. */
            run: string;
            /**
             * Format: double
             * @description The seconds for which the worker has had the call.
             */
            seconds: number;
            /** @description The task. */
            task: string;
        };
        /** @description The workers that answered. */
        Workers: {
            /** @description The workers, in order of name. */
            workers: components["schemas"]["Worker"][];
        };
        /** @description Whether a worker takes jobs. */
        WorkerStateResponse: {
            /**
             * Format: int32
             * @description The number of calls in progress.
             */
            busy: number;
            /** @description Its state. */
            state: string;
            /** @description The worker. */
            worker: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The process is running */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    read_metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The metrics */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    ready: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description They work */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description One of them does not work */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    read_audit_log: {
        parameters: {
            query?: {
                /** @description The value of `next` on the page before. */
                after?: string;
                /** @description The maximum number of entries: 1 to 1000; the default is 100. */
                limit?: number;
                /** @description Only entries about this run, module, tag or token. */
                subject?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the audit log */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditLog"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_engines: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The engines that were found */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Engines"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    events: {
        parameters: {
            query?: {
                /** @description Only events of runs of this flow. */
                flow?: string;
                /** @description Only events about these: some of `run`, `task` and `retry`, separated by commas. */
                kind?: string;
                /** @description Only events of runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold. */
                label?: string[];
                /** @description Only events of runs of flows in this namespace. */
                namespace?: string;
                /** @description Only events with one of these states, separated by commas. */
                state?: string;
            };
            header?: {
                /** @description The id of the last received event */
                "last-event-id"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events; the schema is of the data of one */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["RunsEvent"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    explain_grants: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["GrantsQuestion"];
            };
        };
        responses: {
            /** @description How much is granted */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["GrantsExplanation"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    check_health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The results of the checks, good or bad */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Checks"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_modules: {
        parameters: {
            query?: {
                /** @description Only the contents behind those of an earlier page: its `next`. */
                after?: string;
                /** @description The maximum number of contents: 1 to 500; the default is 100. */
                limit?: number;
                /** @description Only contents that a tag refers to. A token that is limited to a namespace lists no others. */
                tagged?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the contents */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Modules"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    push_module: {
        parameters: {
            query?: {
                /** @description A tag that refers to the module from now on. */
                tag?: string;
            };
            header?: {
                /** @description A signature of the component, in base64; the header may be repeated */
                "waft-signature"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/wasm": string;
            };
        };
        responses: {
            /** @description It is stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description The server does not admit it, or its signer */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The namespace has no space left, or as many tags as are allowed */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description It is larger than the server allows */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description It is no module that waft can run, a signature is not of this module, or it asks for more than the server allows */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    show_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description A tag, or sha256: and 64 hex digits */
                module: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description The server does not admit it */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The store does not have it */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description sha256: and 64 hex digits */
                module: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description It is stored: all signatures of the module */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModuleSignature"][];
                };
            };
            /** @description The server denies its signer */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The store does not have the module */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The module has as many signatures as are allowed */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description It is no signature of this module */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The description of the API */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
        };
    };
    list_permits: {
        parameters: {
            query?: {
                /** @description Only the tasks behind those of an earlier page: its `next`. */
                after?: string;
                /** @description Only tasks of this flow. */
                flow?: string;
                /** @description The maximum number of tasks: 1 to 50; the default is 20. */
                limit?: number;
                /** @description Only tasks of flows in this namespace. */
                namespace?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of tasks */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Permits"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_quarantine: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The first messages */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Quarantine"];
                };
            };
            /** @description The broker does not answer, or the server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    drop_quarantine: {
        parameters: {
            query?: {
                /** @description All messages that one request reads. Without it, an id must be given. */
                all?: boolean;
                /** @description The messages with this id. */
                id?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What was deleted; nothing if no message has the id */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QuarantineResult"];
                };
            };
            /** @description It selects neither an id nor all */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    release_quarantine: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["QuarantineSelection"];
            };
        };
        responses: {
            /** @description What was released; nothing if no message has the id */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QuarantineResult"];
                };
            };
            /** @description It selects neither an id nor all */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_queues: {
        parameters: {
            query?: {
                /** @description Only the queues behind those of an earlier page: its `next`. */
                after?: string;
                /** @description The maximum number of queues: 1 to 200; the default is 100. */
                limit?: number;
                /** @description Only queues in this namespace. */
                namespace?: string;
                /** @description Only this queue, also if nothing else names it. */
                queue?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of queues */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobQueues"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_runs: {
        parameters: {
            query?: {
                /** @description The value of `next` on the page before. */
                after?: string;
                /** @description Only runs of this flow. */
                flow?: string;
                /** @description Only runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold. */
                label?: string[];
                /** @description The maximum number of runs: 1 to 1000; the default is 100. */
                limit?: number;
                /** @description Only runs of flows in this namespace. */
                namespace?: string;
                /** @description Only runs that started at or after this time, in RFC 3339 format. */
                since?: string;
                /** @description Only runs in one of these states, separated by commas. */
                state?: string;
                /**
                 * @description Only runs whose id begins with this text, or that have it as the value of a label or as an input: a string, a number or a
                 *     boolean of at most 128 characters.
                 */
                text?: string;
                /** @description Only runs that started before this time. */
                until?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of runs */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Runs"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    submit_run: {
        parameters: {
            query?: never;
            header?: {
                /** @description The span of the submitter, as in W3C Trace Context: a server that traces continues its trace */
                traceparent?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Submission"];
            };
        };
        responses: {
            /** @description The run already exists */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description The run has started */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description The id belongs to a run with other content: the differences; or too many runs of the flow or namespace have not ended; or the namespace has no space left */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The flow has errors: all of them */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    show_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_attempt: {
        parameters: {
            query?: {
                /** @description The attempt */
                attempt?: number;
                /** @description `apply`, which is the default, or `rollback` */
                call?: string;
                /** @description The firing */
                firing?: number;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
                /** @description The task, or an element of its list */
                task: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The attempt */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description There is no such run, its records have no such attempt, or the store does not have its module and values any more */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The attempt is too large to be replayed */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancel_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description The run has ended */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    edit_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Edits"];
            };
        };
        responses: {
            /** @description The flow was changed, or can be */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EditResult"];
                };
            };
            /** @description The run is at another revision, or cannot be changed like this any more: every reason; or the namespace has no space left */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The text of the edits, or the changed flow, has errors: all of them */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_elements: {
        parameters: {
            query?: {
                /** @description Only elements with a higher number: the value of `next` on the page before. */
                after?: number;
                /** @description The firing; the default is the last one that has the list. */
                firing?: number;
                /** @description The maximum number of elements: 1 to 1000; the default is 100. */
                limit?: number;
                /** @description Only elements in one of these states, separated by commas. */
                state?: string;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
                /** @description The task */
                task: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the elements */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Elements"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such run, it has no such task, or the task has no list in that firing */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_events: {
        parameters: {
            query?: never;
            header?: {
                /** @description The id of the last received event */
                "last-event-id"?: string | null;
            };
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events; the schema is of the data of one */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["EventPayload"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_exchanges: {
        parameters: {
            query?: {
                /** @description The value of `next` on the page before. */
                after?: string;
                /** @description Only attempts with this number. */
                attempt?: number;
                /** @description Only attempts to `apply`, or to `rollback`. */
                call?: string;
                /** @description Only attempts in this firing. */
                firing?: number;
                /** @description Only attempts of this task; of a task with `for_each`, also those of its elements. It may be an element: `fetch[3]`. */
                task?: string;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the attempts with recorded exchanges */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunExchanges"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    read_flow: {
        parameters: {
            query?: {
                /** @description The revision, from 1; the last one if it is not given. */
                revision?: number;
                /**
                 * @description Whether the first revision is written anew, too, as all others are: without comments, and with the digests of its modules. Such
                 *     texts can be compared.
                 */
                written?: boolean;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The flow */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FlowText"];
                };
            };
            /** @description There is no such run or revision, or the run has no text of its flow */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_graph: {
        parameters: {
            query?: {
                /** @description The revision of the flow; the default is the last one. */
                revision?: number;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The graph */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunGraph"];
                };
            };
            /** @description There is no such run, or its records have no such revision */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_logs: {
        parameters: {
            query?: {
                /** @description The value of `next` on the page before. */
                after?: string;
                /** @description The maximum number of attempts, from 1 to 1,000; 1,000 if it is left out. */
                limit?: number;
                /** @description Only attempts of this task; of a task with `for_each`, also those of its elements. It may be an element: `fetch[3]`. */
                task?: string;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the attempts with output */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunLogs"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    follow_run_logs: {
        parameters: {
            query?: never;
            header?: {
                /** @description The id of the last received event */
                "last-event-id"?: string | null;
            };
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events; the schema is of the data of one */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["LogEvent"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    notify_task: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Notification"];
            };
        };
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description The task does not wait and cannot fire, or not with these values; or the namespace has no space left */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The key is longer than 512 bytes, or the failure than 16 KiB */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rehearse_run: {
        parameters: {
            query?: {
                /** @description Whether each case is a new run of the flow, with the inputs of this one. Without it, each case goes on from the recorded state. */
                from_start?: boolean;
                /** @description Only the cases of this task. */
                node?: string;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The rehearsal */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rehearsal"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such run, or it has no such task */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The run has ended, so nothing of it can fail: `from_start` rehearses its flow */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The run is too large to be rehearsed by the server */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The modules of the flow were not found in time, or the server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    resume_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description The run is not suspended */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    retry_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description The run has not failed */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    skip_task: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SkipRollback"];
            };
        };
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description There is no such run, or no such task in it */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description No rollback of this task has failed */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The reason is longer than 16 KiB */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    suspend_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The command was recorded */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunStateResponse"];
                };
            };
            /** @description The run is not in progress */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_timeline: {
        parameters: {
            query?: {
                /** @description Only attempts that started before this time, in RFC 3339 format. */
                before?: string;
                /** @description Only attempts in this firing. */
                firing?: number;
                /** @description The maximum number of attempts: 1 to 10000; the default is 1000. */
                limit?: number;
                /** @description Only attempts of this task and of the elements of its list; `task[number]` for those of one element. */
                task?: string;
            };
            header?: never;
            path: {
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The attempts, in the order of their start */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Timeline"];
                };
            };
            /** @description The query cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such run */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_value: {
        parameters: {
            query?: {
                /** @description The digest of a reference to the value: sha256: and 64 hex digits */
                digest?: string;
            };
            header?: never;
            path: {
                /** @description The name of the value, as the flow calls it */
                name: string;
                /** @description The run's id */
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The value */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                    "application/octet-stream": string;
                };
            };
            /** @description There is no such run, or it has no such value */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    command_runs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BulkRequest"];
            };
        };
        responses: {
            /** @description What was done, or would be */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BulkResult"];
                };
            };
            /** @description The filter cannot be read, or has no condition */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The filter selects another number of runs than expected */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    count_runs: {
        parameters: {
            query?: {
                /** @description Only runs of this flow. */
                flow?: string;
                /** @description Only runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold. */
                label?: string[];
                /** @description Only runs of flows in this namespace. */
                namespace?: string;
                /** @description Only runs that started at or after this time, in RFC 3339 format. */
                since?: string;
                /** @description Only runs in one of these states, separated by commas. */
                state?: string;
                /**
                 * @description Only runs whose id begins with this text, or that have it as the value of a label or as an input: a string, a number or a
                 *     boolean of at most 128 characters.
                 */
                text?: string;
                /** @description Only runs that started before this time. */
                until?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The counts */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunCounts"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_schedules: {
        parameters: {
            query?: {
                /** @description Only the runs behind those of an earlier page: its `next`. */
                after?: string;
                /** @description Only schedules of this flow. */
                flow?: string;
                /** @description The maximum number of runs to look into: 1 to 100; the default is 50. */
                limit?: number;
                /** @description Only schedules of flows in this namespace. */
                namespace?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of schedules */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedules"];
                };
            };
            /** @description The filter cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_tokens: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The tokens, in order of name */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Tokens"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    create_token: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewToken"];
            };
        };
        responses: {
            /** @description It was made */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CreatedToken"];
                };
            };
            /** @description There is a token of that name */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    revoke_token: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The token's name */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It was revoked */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description There is no such token */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_webhooks: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The webhooks */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhooks"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    test_webhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The name of the webhook */
                webhook: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What came of it */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookDelivery"];
                };
            };
            /** @description There is no such webhook */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_workers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The workers, in order of name */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Workers"];
                };
            };
            /** @description The server sends as many large answers as it has memory for */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    drain_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The worker's name */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DrainOptions"];
            };
        };
        responses: {
            /** @description The worker takes no new jobs */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerStateResponse"];
                };
            };
            /** @description No worker of that name has answered */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The worker is a part of the server, and cannot exit */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    resume_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The worker's name */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The worker takes jobs */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerStateResponse"];
                };
            };
            /** @description No worker of that name has answered */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The worker exits */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request was refused, or failed */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
