// Why a run failed, and what a person can do next, in the words of `waft show`.

import { useMemo } from "preact/hooks";

import type { Failure, Run } from "../../api/types.ts";
import { toText, type Json } from "../../model/json.ts";
import { commands, ending, isFinal } from "../../model/states.ts";
import { oneLine } from "../../model/text.ts";
import { duration, parse } from "../../model/time.ts";
import { Line, LongText } from "../../ui/text.tsx";
import { At } from "../../ui/time.tsx";
import type { Act } from "./actions.tsx";
import { canStartAgain } from "./again-dialog.tsx";

/** The greatest number of failures that are shown at once. */
const MOST = 20;

/** A failure, its details, and the failure of the apply before that of a rollback. */
export function FailureChain({ failure }: { failure: Failure }) {
  const details = useMemo(() => (failure.details == null ? null : toText(failure.details as Json, 2)), [failure.details]);
  return (
    <div class="failure-chain">
      <p class="failure-kind">{oneLine(failure.kind)}</p>
      <LongText text={failure.message} most={1500} />
      {details !== null ? (
        <details>
          <summary>Details</summary>
          <LongText text={details} most={4000} class="mono" />
        </details>
      ) : null}
      {failure.apply ? (
        <div class="failure-before">
          <p class="quiet">after it had failed</p>
          <FailureChain failure={failure.apply} />
        </div>
      ) : null}
    </div>
  );
}

/** What stands above the views of a run: how it ended, what failed, what it waits for. */
export function Notices({ run, act, onTask }: { run: Run; act: (act: Act) => void; onTask: (name: string) => void }) {
  const failed = Object.entries(run.failures);
  const stuck = run.tasks.filter((task) => task.state === "rollback-failure");
  const needsPerson = run.state === "failure";
  const [start, end] = [parse(run.started_at), parse(run.changed_at)];
  const after = isFinal(run.state) && start !== null && end !== null ? ` after ${duration(end - start)}` : "";
  const isUndoing = run.tasks.some((task) => task.state === "rolling-back" || task.state === "rolled-back");
  const awaits = run.tasks.filter((task) => task.awaits);
  const unserved = run.tasks.filter((task) => task.out?.unserved);
  return (
    <>
      {failed.length || needsPerson || run.state === "rolled-back" ? (
        <section class={`notice ${needsPerson ? "bad" : "warn"}`} aria-label="How the run ended">
          <p>
            <strong>
              <Line text={run.flow} /> {isFinal(run.state) ? `${ending(run.state, failed.length > 0)}${after}` : isUndoing ? "failed and is being rolled back" : "has failures"}
            </strong>
          </p>
          <ul class="failures">
            {failed.slice(0, MOST).map(([name, failure]) => (
              <li key={name}>
                <p>
                  <button type="button" class="link" onClick={() => onTask(name)}>
                    <Line text={name} />
                  </button>{" "}
                  {stuck.some((task) => task.name === name) ? "could not be rolled back" : "failed"}
                </p>
                <FailureChain failure={failure} />
              </li>
            ))}
            {failed.length > MOST ? <li class="quiet">and {failed.length - MOST} more</li> : null}
          </ul>
          {needsPerson ? (
            <p class="next">
              <em>Retry</em> tries the rollbacks again. If you have rolled back by hand, skip the task and say how:{" "}
              {stuck.slice(0, MOST).map((task) => (
                <button key={task.name} type="button" onClick={() => act({ kind: "skip", task: task.name })}>
                  Skip <Line text={task.name} />…
                </button>
              ))}
            </p>
          ) : run.state === "rolled-back" && commands(run.state, false).includes("retry") ? (
            <p class="next">
              <em>Retry</em> starts it anew, with the same inputs.
              {canStartAgain(run) ? (
                <>
                  {" "}
                  <em>Start with other inputs</em> starts another run of the flow.
                </>
              ) : null}
            </p>
          ) : null}
        </section>
      ) : null}
      {run.state === "suspended" ? (
        <section class="notice info">
          <p>
            The run is suspended. <em>Resume</em> continues it.
          </p>
        </section>
      ) : null}
      {awaits.slice(0, MOST).map((task) => (
        <section key={task.name} class="notice info" aria-label={`${oneLine(task.name)} waits`}>
          <p>
            <button type="button" class="link" onClick={() => onTask(task.name)}>
              <Line text={task.name} />
            </button>{" "}
            waits for <Line text={task.awaits?.word ?? ""} />
            {task.awaits?.values.length ? (
              <>
                , with <Line text={task.awaits.values.join(", ")} />
              </>
            ) : null}
            {task.awaits?.until ? (
              <>
                , until <At time={task.awaits.until} />
              </>
            ) : null}
          </p>
          <button type="button" class="primary" onClick={() => act({ kind: "notify", task: task.name })}>
            Notify…
          </button>
        </section>
      ))}
      {unserved.slice(0, 3).map((task) => (
        <section key={task.name} class="notice warn">
          <p>
            <Line text={task.name} /> waits for a worker on queue <Line text={task.out?.queue ?? ""} />: no worker consumes it.
          </p>
        </section>
      ))}
    </>
  );
}
