// A command to all runs of a filter: chosen, previewed, confirmed, and then sent page by page.

import { useEffect, useRef, useState } from "preact/hooks";

import { post, toApiError, type ApiError } from "../../api/client.ts";
import { serverNow } from "../../api/session.ts";
import type { BulkAction, BulkRequest, BulkResult } from "../../api/types.ts";
import {
  addResult,
  anyNumberRequest,
  bulkActions,
  conditions,
  firstRequest,
  matchedText,
  nextRequest,
  NOTHING_DONE,
  previewRequest,
  type BulkTotal,
} from "../../model/bulk.ts";
import { isEmpty, type RunFilter } from "../../model/filters.ts";
import { count } from "../../model/text.ts";
import { runAddress } from "../../router.ts";
import { CommandTrouble } from "../../ui/command-dialog.tsx";
import { Dialog, Trouble } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";

const PATH = "/v1/runs/bulk";

const ACTIONS: { [action in BulkAction]: { name: string; text: string } } = {
  suspend: { name: "Suspend", text: "Calls that have started finish. Nothing new starts until the runs are resumed." },
  resume: { name: "Resume", text: "The runs continue where they were." },
  retry: { name: "Retry", text: "Rollbacks that failed are tried again. Runs that were rolled back start again from their beginning." },
  cancel: {
    name: "Cancel",
    text: "Calls that have started finish first. Then every task that was applied is rolled back. This cannot be taken back.",
  },
};

type Stage =
  | { kind: "choosing"; error: ApiError | null }
  | { kind: "asking" }
  | { kind: "previewed"; request: BulkRequest; preview: BulkResult }
  | { kind: "sending"; total: BulkTotal; matched: number | null; isStopping: boolean }
  | { kind: "ended"; request: BulkRequest; total: BulkTotal; isStopped: boolean; error: ApiError | null };

/** The status of a refusal because another number of runs is selected than a person has seen. */
const OTHER_NUMBER = 409;

/** The dialog for a command to the runs of a filter, which does not change while it is open. */
export function BulkDialog({ filter, onClose, onDone }: { filter: RunFilter; onClose: () => void; onDone: () => void }) {
  const actions = bulkActions(filter.states);
  const [action, setAction] = useState<BulkAction | undefined>(actions[0]);
  const [stage, setStage] = useState<Stage>({ kind: "choosing", error: null });
  const isStopped = useRef(false);
  // Whoever leaves the screen sends no further page.
  useEffect(() => () => void (isStopped.current = true), []);
  const body = useRef<HTMLDivElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    // The button that was pressed is gone: a reader with a keyboard goes on at the new text.
    if (!isFirst.current) body.current?.focus();
    isFirst.current = false;
  }, [stage.kind]);

  // A further look is for the same runs: those that have started since then would change the number again.
  const look = async (request: BulkRequest) => {
    setStage({ kind: "asking" });
    try {
      setStage({ kind: "previewed", request, preview: await post<BulkResult>(PATH, JSON.stringify(request)) });
    } catch (error) {
      setStage({ kind: "choosing", error: toApiError(error) });
    }
  };
  const send = async (preview: BulkRequest, first: BulkRequest, matched: number | null) => {
    isStopped.current = false;
    let total = NOTHING_DONE;
    let next: BulkRequest | null = first;
    setStage({ kind: "sending", total, matched, isStopping: false });
    try {
      while (next && !isStopped.current) {
        const result: BulkResult = await post<BulkResult>(PATH, JSON.stringify(next));
        total = addResult(total, result);
        next = result.next ? nextRequest(preview, result.next) : null;
        setStage({ kind: "sending", total, matched, isStopping: isStopped.current });
      }
      setStage({ kind: "ended", request: preview, total, isStopped: next !== null, error: null });
    } catch (error) {
      setStage({ kind: "ended", request: preview, total, isStopped: false, error: toApiError(error) });
    }
    onDone();
  };
  const isSending = stage.kind === "sending";
  return (
    <Dialog title="Command many runs" onClose={isSending ? () => undefined : onClose} fixed={isSending}>
      <div class="form bulk" ref={body} tabIndex={-1}>
        <Conditions filter={filter} />
        {stage.kind === "choosing" || stage.kind === "asking" ? (
          <Choice
            actions={actions}
            action={action}
            onAction={setAction}
            isAsking={stage.kind === "asking"}
            error={stage.kind === "choosing" ? stage.error : null}
            onLook={() => void (action && look(previewRequest(action, filter, serverNow())))}
            onClose={onClose}
          />
        ) : null}
        {stage.kind === "previewed" ? (
          <Preview
            preview={stage.preview}
            onBack={() => setStage({ kind: "choosing", error: null })}
            onSend={(matched) => void send(stage.request, firstRequest(stage.request, matched), matched)}
          />
        ) : null}
        {stage.kind === "sending" ? (
          <>
            <p role="status">
              {(stage.total.done + stage.total.refused).toLocaleString("en-US")} of {stage.matched === null ? "the runs" : matchedText(stage.matched)}…
            </p>
            <div class="form-actions">
              <button
                type="button"
                disabled={stage.isStopping}
                onClick={() => {
                  isStopped.current = true;
                  setStage({ ...stage, isStopping: true });
                }}
              >
                {stage.isStopping ? "Stopping…" : "Stop"}
              </button>
            </div>
          </>
        ) : null}
        {stage.kind === "ended" ? (
          <Result
            stage={stage}
            onLook={() => void look(stage.request)}
            onSend={() => void send(stage.request, anyNumberRequest(stage.request), null)}
            onClose={onClose}
          />
        ) : null}
      </div>
    </Dialog>
  );
}

function Conditions({ filter }: { filter: RunFilter }) {
  if (isEmpty(filter)) {
    return <p class="notice warn">No filter is set: these are all runs.</p>;
  }
  return (
    <>
      <p>The runs of the filter, on all pages:</p>
      <ul class="tags">
        {conditions(filter).map((condition) => (
          <li key={condition}>
            <Line text={condition} most={120} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Choice(props: {
  actions: BulkAction[];
  action: BulkAction | undefined;
  onAction: (action: BulkAction) => void;
  isAsking: boolean;
  error: ApiError | null;
  onLook: () => void;
  onClose: () => void;
}) {
  const { actions, action, isAsking } = props;
  if (!action) return <p class="notice info">Runs in these states take no command.</p>;
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        props.onLook();
      }}
    >
      <label>
        Command
        <select value={action} onChange={(event) => props.onAction(event.currentTarget.value as BulkAction)}>
          {actions.map((action) => (
            <option key={action} value={action}>
              {ACTIONS[action].name}
            </option>
          ))}
        </select>
      </label>
      <p>{ACTIONS[action].text}</p>
      <Trouble error={props.error} />
      <div class="form-actions">
        <button type="button" onClick={props.onClose}>
          Close
        </button>
        <button type="submit" class="primary" disabled={isAsking}>
          {isAsking ? "Looking…" : "Show which runs"}
        </button>
      </div>
    </form>
  );
}

/** What a command would do. Nothing is done yet. */
function Preview({ preview, onBack, onSend }: { preview: BulkResult; onBack: () => void; onSend: (matched: number) => void }) {
  const { name, text } = ACTIONS[preview.action];
  const matched = preview.matched ?? 0;
  const first = preview.first ?? [];
  return (
    <>
      <p role="status">
        <strong>
          {matched ? `${name} ${matchedText(matched)}?` : "No run of the filter is in a state for this command."}
        </strong>
      </p>
      {matched ? <p>{text} Runs that start more than a few seconds from now do not get the command.</p> : null}
      {first.length ? (
        <ul class="bulk-runs" aria-label="The first runs">
          {first.map((run) => (
            <li key={run}>
              <a class="mono" href={runAddress(run)}>
                <Line text={run} />
              </a>
            </li>
          ))}
          {matched > first.length ? <li class="quiet">and {count(matched - first.length, "more run")}</li> : null}
        </ul>
      ) : null}
      <div class="form-actions">
        <button type="button" onClick={onBack}>
          Back
        </button>
        {matched ? (
          <button type="button" class={preview.action === "cancel" ? "danger-filled" : "primary"} onClick={() => onSend(matched)}>
            {name} {matchedText(matched)}
          </button>
        ) : null}
      </div>
    </>
  );
}

function Result(props: { stage: Extract<Stage, { kind: "ended" }>; onLook: () => void; onSend: () => void; onClose: () => void }) {
  const { onLook, onSend, onClose } = props;
  const { request, total, isStopped, error } = props.stage;
  return (
    <>
      <p role="status">
        <strong>
          {total.done || !error ? `The command is recorded for ${count(total.done, "run")}.` : "The command is recorded for no run."}
        </strong>
        {total.refused ? ` ${count(total.refused, "run")} refused it.` : ""}
        {isStopped ? " You stopped it: other runs are left." : ""}
      </p>
      {total.refusals.length ? (
        <ul class="bulk-runs" aria-label="Refusals">
          {total.refusals.map(({ run, reason }) => (
            <li key={run}>
              <a class="mono" href={runAddress(run)}>
                <Line text={run} />
              </a>
              <span>
                <Line text={reason} />
              </span>
            </li>
          ))}
          {total.refused > total.refusals.length ? <li class="quiet">and {count(total.refused - total.refusals.length, "more run")}</li> : null}
        </ul>
      ) : null}
      <CommandTrouble error={error} evidence="the runs" />
      <div class="form-actions">
        {error || isStopped ? (
          <button type="button" onClick={onLook}>
            Look again
          </button>
        ) : null}
        {error?.status === OTHER_NUMBER ? (
          <button type="button" class={request.action === "cancel" ? "danger-filled" : undefined} onClick={onSend}>
            {ACTIONS[request.action].name} those that match now
          </button>
        ) : null}
        <button type="button" class="primary" onClick={onClose}>
          Done
        </button>
      </div>
    </>
  );
}
