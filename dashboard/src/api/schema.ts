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
         * Lists the contents of the store: modules, and values that were too large for messages. A token that is limited to a
         *     namespace lists what its tags name, and the tags of none.
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
         *     with another flow, other inputs or other modules is refused.
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
        /** Shows a run with all its tasks. */
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
         * @description They are applied to the current flow. With `if_revision` they are refused if the flow is at another revision.
         */
        post: operations["edit_run"];
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
    "/v1/runs/{run}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Shows what guests logged and printed during the attempts of a run. */
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
    "/v1/workers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lists the workers that answer within a second. */
        get: operations["list_workers"];
        put?: never;
        post?: never;
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
        /** @description The result of edits, or of a check whether they can be made. */
        EditResult: {
            /** @description Whether the flow was changed; `false` for a `dry_run`. */
            applied: boolean;
            /** @description The edits, described in words. */
            edits: string[];
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
            edits: components["schemas"]["Edit"][];
            /**
             * Format: int64
             * @description The revision that the flow must have; the request is refused otherwise.
             */
            if_revision?: number | null;
        };
        Element: {
            attempt?: number | null;
            failure?: null | components["schemas"]["Failure"];
            /** Format: int64 */
            number: number;
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
        Elements: {
            /** Format: int64 */
            count: number;
            elements: components["schemas"]["Element"][];
            /** Format: int64 */
            firing: number;
            next?: number | null;
            run: string;
            task: string;
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
            /** @description When the run started or continued, as an RFC 3339 time. */
            at?: string | null;
            /** @enum {string} */
            event: "run";
            /** @description The nodes that failed in the last firing, and why. */
            failures?: {
                [key: string]: components["schemas"]["Failure"];
            } | null;
            /** @description The name of its flow; only in the event of a run that started or continues. */
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
        GraphLink: {
            back?: boolean;
            conditions?: components["schemas"]["LinkCondition"][];
            from: string;
            to: string;
            values?: string[];
        };
        GraphNode: {
            elements?: null | components["schemas"]["ElementProgress"];
            is_failure_handler?: boolean;
            kind: string;
            name: string;
            removed?: boolean;
            retry?: string | null;
            state?: string | null;
            triggers?: string[];
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
        LinkCondition: {
            on: string;
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
        /** @description The contents of the store. */
        Modules: {
            /** @description The modules and large values, in order of digest. */
            modules: components["schemas"]["StoredModule"][];
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
            /** @description The warnings about the flow, for the client that submits it. They do not prevent the flow from running. */
            warnings?: components["schemas"]["Diagnostic"][];
        };
        /** @description A page of the recorded HTTP exchanges of a run. */
        RunExchanges: {
            /** @description The attempts with a record, the one that ended last first. */
            attempts: components["schemas"]["AttemptExchanges"][];
            /** @description The cursor for the next page; left out on the last one. */
            next?: string | null;
        };
        RunGraph: {
            flow: string;
            /** Format: int64 */
            last_revision: number;
            links: components["schemas"]["GraphLink"][];
            nodes: components["schemas"]["GraphNode"][];
            retry?: string | null;
            /** Format: int64 */
            revision: number;
            run: string;
        };
        /** @description The output of guests during the attempts of a run. */
        RunLogs: {
            /** @description The attempts with output, in the order in which they ended. */
            logs: components["schemas"]["AttemptLog"][];
        };
        /** @description A page of the list of runs, the youngest first. */
        Runs: {
            /** @description The value for `after` in the request for the next page; `null` on the last page. */
            next?: string | null;
            /** @description The runs. */
            runs: components["schemas"]["Summary"][];
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
        Timeline: {
            attempts: components["schemas"]["TimelineAttempt"][];
            /** Format: int64 */
            earlier: number;
            run: string;
            /** Format: int64 */
            trimmed_records?: number;
        };
        TimelineAttempt: {
            /** Format: int64 */
            attempt: number;
            call: string;
            ended_at?: string | null;
            failure?: null | components["schemas"]["Failure"];
            /** Format: int64 */
            firing: number;
            leased_at?: string | null;
            outcome?: string | null;
            /** Format: double */
            retry_in?: number | null;
            started_at: string;
            task: string;
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
        /** @description A worker. */
        Worker: {
            /**
             * Format: int32
             * @description The number of calls in progress. Some may wait without a slot, so it may be more than `slots`.
             */
            busy: number;
            /** @description The machine it runs on. */
            host: string;
            /** @description Its name. */
            name: string;
            /**
             * Format: int32
             * @description Its process id on that machine.
             */
            process: number;
            /** @description The queues that it consumes. */
            queues: string[];
            /**
             * Format: int32
             * @description The maximum number of calls that compute at once.
             */
            slots: number;
            /** @description Its version of waft. */
            version: string;
        };
        /** @description The workers that answered. */
        Workers: {
            /** @description The workers, in order of name. */
            workers: components["schemas"]["Worker"][];
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
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The contents, in order of digest */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Modules"];
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
            /** @description The namespace has no space left */
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
            header?: never;
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
            /** @description The changed flow has errors: all of them */
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
    run_logs: {
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
            /** @description The attempts with output */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunLogs"];
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
