// Changes the flow of a run by hand: what the edits would do, and then the edits.

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, post, runPath, toApiError } from "../../api/client.ts";
import type { Diagnostic, EditResult, Run } from "../../api/types.ts";
import { lineAt } from "../../model/revisions.ts";
import { count } from "../../model/text.ts";
import { CommandTrouble } from "../../ui/command-dialog.tsx";
import { Line, LongText } from "../../ui/text.tsx";
import { DifferenceView, useRevision, type Version } from "./difference.tsx";

/** The number of errors that are shown; the server sends at most a hundred. */
const MOST = 101;

const EXAMPLE = `# A task that was forgotten, after another one
[[edit]]
add_text = '''
[[task]]
name = "approve"
wait = "a manager's approval"
provides = ["by"]
'''

[[edit]]
link = ["create-server", "approve"]

[[edit]]
set = "install-wordpress"
with = { version = "6.9" }`;

/** The texts of edits that are not applied yet, by run: whoever looks at another view does not lose them. */
const drafts = new Map<string, string>();

/** What a text of edits would do. */
type Checked = { text: string; result: EditResult };

export function EditForm(props: {
  run: Run;
  selected: string;
  onSelect: (name: string) => void;
  onClose: () => void;
  /** The edits were made: the flow is at this revision. */
  onApplied: (revision: number) => void;
}) {
  const { run } = props;
  const [text, setText] = useState(() => drafts.get(run.run) ?? "");
  const [checked, setChecked] = useState<Checked | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState<"" | "checking" | "applying">("");
  const field = useRef<HTMLTextAreaElement>(null);
  const result = useRef<HTMLHeadingElement>(null);
  // What was checked is what is applied: another text has to be checked, too.
  const current = checked?.text === text ? checked.result : null;
  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    if (checked) result.current?.focus();
  }, [checked]);
  const showLine = (line: number) => {
    const place = lineAt(text, line);
    if (!place || !field.current) return;
    field.current.focus();
    field.current.setSelectionRange(place.start, place.end);
  };
  const sendEdits = async (body: object) => {
    setError(null);
    try {
      return await post<EditResult>(runPath(run.run, "edits"), JSON.stringify({ text, ...body }));
    } catch (error) {
      const shown = toApiError(error);
      setError(shown);
      const line = shown.diagnostics.find((diagnostic) => diagnostic.line != null)?.line;
      // The button that had the focus is disabled by now.
      if (line != null) showLine(line);
      else field.current?.focus();
      return null;
    } finally {
      setBusy("");
    }
  };
  const check = async () => {
    if (busy) return;
    setBusy("checking");
    setChecked(null);
    const found = await sendEdits({ dry_run: true, preview: true });
    if (found) setChecked({ text, result: found });
  };
  const apply = async () => {
    if (busy || !current) return;
    setBusy("applying");
    // Nobody else may have changed the flow since it was seen.
    const made = await sendEdits({ if_revision: current.revision - 1 });
    if (!made) {
      setChecked(null);
      return;
    }
    drafts.delete(run.run);
    props.onApplied(made.revision);
  };
  return (
    <section class="edit-form" aria-label="Edit the flow">
      <h2>Edit the flow</h2>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void check();
        }}
      >
        <label>
          <span>
            Edits <span class="quiet">as a file for `waft edit apply`</span>
          </span>
          <textarea
            ref={field}
            class="mono"
            rows={10}
            required
            spellcheck={false}
            value={text}
            readOnly={busy !== ""}
            aria-invalid={error?.diagnostics.length ? "true" : undefined}
            aria-describedby={error ? "edit-errors" : undefined}
            onInput={(event) => {
              setText(event.currentTarget.value);
              drafts.set(run.run, event.currentTarget.value);
            }}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
                event.preventDefault();
                event.currentTarget.form?.requestSubmit();
              }
            }}
          />
        </label>
        <details>
          <summary>An example</summary>
          <pre class="mono">{EXAMPLE}</pre>
          <p class="quiet">
            Also: remove = "a task", unlink = ["a", "b"], use = ["a task", "module#task"], and require = "a task" with requires = {"{ parameter = \"value\" }"}. Ctrl and
            Enter show what it would do.
          </p>
        </details>
        <div id="edit-errors">
          <EditTrouble error={error} text={text} onLine={showLine} />
        </div>
        <div class="form-actions">
          <button type="button" onClick={props.onClose}>
            Close
          </button>
          <button type="submit" class={current ? "" : "primary"} disabled={busy !== ""}>
            {busy === "checking" ? "Checking…" : "Show what it would do"}
          </button>
        </div>
      </form>
      {checked ? (
        <section class="edit-preview" aria-label="What it would do">
          <h3 ref={result} tabIndex={-1}>
            {current ? `This would make revision ${checked.result.revision}` : "The edits have changed since: show again what they would do"}
          </h3>
          {current ? (
            <>
              <EditWords edits={current.edits} />
              <Warnings warnings={current.warnings ?? []} />
              <Preview run={run} result={current} selected={props.selected} onSelect={props.onSelect} />
              <div class="form-actions">
                <button type="button" class="primary" disabled={busy !== ""} onClick={() => void apply()}>
                  {busy === "applying" ? "Applying…" : `Apply: make revision ${current.revision}`}
                </button>
              </div>
            </>
          ) : null}
        </section>
      ) : null}
    </section>
  );
}

/** Edits in words, as the API describes them. */
export function EditWords({ edits }: { edits: string[] }) {
  return <LongText class="mono" text={edits.join("\n")} most={3000} />;
}

/** The flow as it would be, beside the flow as it is. */
function Preview(props: { run: Run; result: EditResult; selected: string; onSelect: (name: string) => void }) {
  const { run, result } = props;
  const before = useRevision(run.run, result.revision - 1);
  const { preview } = result;
  if (!preview) return null;
  const text = preview.text ?? null;
  const textError = text === null ? new ApiError(404, "The changed flow cannot be written as a file.", null, "no-such-flow") : null;
  const after: Version = { graph: preview.graph, text, graphError: null, textError };
  return <DifferenceView before={before} after={after} edits={result.edits} selected={props.selected} onSelect={props.onSelect} />;
}

function Warnings({ warnings }: { warnings: Diagnostic[] }) {
  if (!warnings.length) return null;
  return (
    <div class="notice warn">
      <p>{count(warnings.length, "warning")} about the changed flow:</p>
      <ul class="diagnostics">
        {warnings.slice(0, MOST).map((warning, index) => (
          <li key={index}>
            <LongText text={warning.message} most={600} />
            {warning.hint ? <LongText class="quiet" text={warning.hint} most={600} /> : null}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Why edits are refused: each error with the line in which it is. */
function EditTrouble({ error, text, onLine }: { error: ApiError | null; text: string; onLine: (line: number) => void }) {
  if (!error?.diagnostics.length) return <CommandTrouble error={error} evidence="the revisions of the run" />;
  return (
    <div class="notice bad" role="alert">
      {/* The message of a single error is that error. */}
      {error.diagnostics.length > 1 ? <LongText text={error.message} most={600} /> : null}
      <ul class="diagnostics">
        {error.diagnostics.slice(0, MOST).map((diagnostic, index) => {
          const { line } = diagnostic;
          const place = line == null ? null : lineAt(text, line);
          return (
            <li key={index}>
              {line == null ? null : (
                <button type="button" class="link" onClick={() => onLine(line)}>
                  Line {line}
                  {diagnostic.column == null ? "" : `, column ${diagnostic.column}`}
                </button>
              )}
              {place?.text ? (
                <code>
                  <Line text={place.text} most={160} />
                </code>
              ) : null}
              <LongText text={diagnostic.message} most={600} />
              {diagnostic.hint ? <LongText class="quiet" text={diagnostic.hint} most={600} /> : null}
            </li>
          );
        })}
      </ul>
    </div>
  );
}
