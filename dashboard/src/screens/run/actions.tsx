// The commands to a run, each confirmed before it is sent.

import { useState } from "preact/hooks";

import { post, runPath } from "../../api/client.ts";
import type { Run, RunStateResponse } from "../../api/types.ts";
import { typed } from "../../model/json.ts";
import { commands, isFinal } from "../../model/states.ts";
import { oneLine } from "../../model/text.ts";
import { CommandDialog } from "../../ui/command-dialog.tsx";
import { Line } from "../../ui/text.tsx";
import { AgainDialog, canStartAgain } from "./again-dialog.tsx";

/** What a person wants to do. */
export type Act =
  | { kind: "cancel" | "suspend" | "resume" | "retry" }
  | { kind: "again" }
  | { kind: "skip"; task: string }
  | { kind: "notify"; task: string };

const NAMES = { suspend: "Suspend", resume: "Resume", retry: "Retry", cancel: "Cancel" } as const;

export function ActionButtons({ run, act }: { run: Run; act: (act: Act) => void }) {
  return (
    <>
      {commands(run.state, run.cancelling ?? false).map((kind) => (
        <button key={kind} type="button" class={kind === "cancel" ? "danger" : kind === "suspend" ? "" : "primary"} onClick={() => act({ kind })}>
          {NAMES[kind]}…
        </button>
      ))}
      {isFinal(run.state) && canStartAgain(run) ? (
        <button type="button" onClick={() => act({ kind: "again" })}>
          Start with other inputs…
        </button>
      ) : null}
    </>
  );
}

type SimpleKind = "cancel" | "suspend" | "resume" | "retry";

function explain(kind: SimpleKind, run: Run): { title: string; text: string; button: string } {
  switch (kind) {
    case "cancel":
      return {
        title: "Cancel the run?",
        text: "Calls that have started finish first. Then every task that was applied is rolled back, in reverse order. This cannot be taken back.",
        button: "Cancel the run",
      };
    case "suspend":
      return { title: "Suspend the run?", text: "Calls that have started finish. Nothing new starts until the run is resumed.", button: "Suspend the run" };
    case "resume":
      return { title: "Resume the run?", text: "The run continues where it was.", button: "Resume the run" };
    case "retry":
      return run.state === "failure"
        ? { title: "Retry the rollbacks?", text: "The rollbacks that failed are tried again.", button: "Retry the rollbacks" }
        : { title: "Start the run anew?", text: "The run was rolled back. It starts again from its beginning, under the same id and with the same inputs.", button: "Start it anew" };
  }
}

/** The dialog for what a person wants to do. */
export function ActDialog(props: { run: Run; act: Act; onClose: () => void; onDone: () => void }) {
  const { run, act, onClose } = props;
  switch (act.kind) {
    case "skip":
      return <SkipDialog {...props} task={act.task} />;
    case "notify":
      return <NotifyDialog {...props} task={act.task} />;
    case "again":
      return <AgainDialog run={run} onClose={onClose} />;
    default: {
      const { title, text, button } = explain(act.kind, run);
      return (
        <CommandDialog
          title={title}
          button={button}
          isDangerous={act.kind === "cancel"}
          evidence="the run"
          onClose={onClose}
          onDone={props.onDone}
          send={() => post<RunStateResponse>(runPath(run.run, act.kind), null)}
        >
          <p>
            <strong>
              <Line text={run.flow} />
            </strong>{" "}
            <code>{oneLine(run.run)}</code>
          </p>
          <p>{text}</p>
        </CommandDialog>
      );
    }
  }
}

function SkipDialog({ run, task, onClose, onDone }: { run: Run; task: string; onClose: () => void; onDone: () => void }) {
  const [reason, setReason] = useState("");
  return (
    <CommandDialog
      title={`Skip the rollback of ${oneLine(task)}?`}
      button="Skip the rollback"
      isDangerous
      evidence="the run"
      onClose={onClose}
      onDone={onDone}
      send={() => post(runPath(run.run, "skip"), JSON.stringify({ task, reason }))}
    >
      <p>waft then counts the task as rolled back, and calls nothing. Do this only after you have undone its effect by hand.</p>
      <label>
        Reason
        <textarea
          rows={3}
          required
          value={reason}
          placeholder="How was it settled? The run keeps this text."
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
    </CommandDialog>
  );
}

function NotifyDialog({ run, task, onClose, onDone }: { run: Run; task: string; onClose: () => void; onDone: () => void }) {
  const awaits = run.tasks.find((node) => node.name === task)?.awaits;
  // The run may go on while the form is open: its fields stay.
  const [names] = useState(() => awaits?.values ?? []);
  const [word] = useState(() => awaits?.word ?? "");
  const [values, setValues] = useState<{ [name: string]: string }>({});
  const [fails, setFails] = useState(false);
  const [message, setMessage] = useState("");
  const body = () => {
    if (fails) return JSON.stringify({ task, failure: message });
    // Each value is sent as it was typed: a number keeps all its digits.
    const pairs = names.map((name) => `${JSON.stringify(name)}:${typed(values[name] ?? "").json}`);
    return `{"task":${JSON.stringify(task)},"values":{${pairs.join(",")}}}`;
  };
  return (
    <CommandDialog
      title={`Notify ${oneLine(task)}`}
      button={fails ? "Let it fail" : "Notify"}
      isDangerous={fails}
      evidence="the run"
      onClose={onClose}
      onDone={onDone}
      send={() => post(runPath(run.run, "notify"), body())}
    >
      {word ? (
        <p>
          It waits for <Line text={word} />.
        </p>
      ) : null}
      {fails ? (
        <label>
          Why it fails
          <textarea rows={2} required value={message} onInput={(event) => setMessage(event.currentTarget.value)} />
        </label>
      ) : (
        <>
          {names.map((name) => {
            const text = values[name] ?? "";
            const { isText } = typed(text);
            return (
              <label key={name}>
                <span>
                  <Line text={name} /> <span class="quiet">{text === "" ? "JSON, or text" : isText ? "sent as text" : "sent as JSON"}</span>
                </span>
                <textarea
                  rows={1}
                  spellcheck={false}
                  class="mono"
                  value={text}
                  onInput={(event) => setValues({ ...values, [name]: event.currentTarget.value })}
                />
              </label>
            );
          })}
          {names.length ? null : <p class="quiet">It takes no values.</p>}
        </>
      )}
      <label class="check">
        <input type="checkbox" checked={fails} onChange={(event) => setFails(event.currentTarget.checked)} />
        Let the task fail instead
      </label>
    </CommandDialog>
  );
}
