// The revisions of a run's flow, the difference between two of them, and the way to a new one.

import { useRef, useState } from "preact/hooks";

import type { Run } from "../../api/types.ts";
import { compared } from "../../model/revisions.ts";
import { isFinal } from "../../model/states.ts";
import { count } from "../../model/text.ts";
import { address, runAddress, setQuery, usePlace } from "../../router.ts";
import { Waiting } from "../../ui/parts.tsx";
import { At } from "../../ui/time.tsx";
import { DifferenceView, useRevision } from "./difference.tsx";
import { EditForm, EditWords } from "./edit-form.tsx";
import type { RunData } from "./use-run.ts";

/** The number of revisions that are shown at first, the newest first. */
const FIRST = 20;

export function RevisionsView({ data, selected, onSelect }: { data: RunData; selected: string; onSelect: (name: string) => void }) {
  const { query } = usePlace();
  const { run } = data;
  const [made, setMade] = useState(0);
  const heading = useRef<HTMLHeadingElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  if (!run) return <Waiting />;
  const ended = isFinal(run.state);
  // The run is read again a moment after an edit.
  const last = Math.max(made, run.revision);
  const edits = query.get("edit") === "yes" && !ended;
  const close = () => {
    setQuery({ edit: "" }, "replace");
    // The button is there again after the next drawing.
    setTimeout(() => opener.current?.focus());
  };
  const applied = (revision: number) => {
    setMade(revision);
    data.refresh();
    setQuery({ edit: "", from: String(revision - 1), to: String(revision) }, "replace");
    setTimeout(() => heading.current?.focus());
  };
  return (
    <div class="revisions-view">
      <p class="visually-hidden" role="status">
        {made ? `The flow is at revision ${made}` : ""}
      </p>
      {edits ? (
        <EditForm run={run} selected={selected} onSelect={onSelect} onClose={close} onApplied={applied} />
      ) : (
        <>
          <div class="section-head">
            <h2 ref={heading} tabIndex={-1}>
              {made ? `The flow is at revision ${last}` : "Revisions of the flow"}
            </h2>
            {ended ? null : (
              <button ref={opener} type="button" class="primary" onClick={() => setQuery({ edit: "yes" })}>
                Edit the flow…
              </button>
            )}
          </div>
          {ended ? <p class="quiet">The run has ended: its flow cannot be edited any more.</p> : null}
          <RevisionList run={run} last={last} />
          <Comparison run={run} last={last} selected={selected} onSelect={onSelect} />
        </>
      )}
    </div>
  );
}

function RevisionList({ run, last }: { run: Run; last: number }) {
  const { query } = usePlace();
  const [most, setMost] = useState(FIRST);
  const all = [...(run.revisions ?? [])].reverse();
  const shown = compared(query.get("from"), query.get("to"), last);
  return (
    <>
      <ol class="revisions" aria-label="Revisions">
        {all.slice(0, most).map(({ revision, at, edits }) => (
          <li key={revision} class="revision">
            <p>
              <strong>revision {revision}</strong>{" "}
              <span class="quiet">
                <At time={at} />
              </span>{" "}
              <a
                href={runAddress(run.run, { view: "revisions", from: String(revision - 1), to: String(revision) })}
                aria-current={shown?.to === revision && shown.from === revision - 1 ? "true" : undefined}
              >
                What revision {revision} changed
              </a>
            </p>
            <EditWords edits={edits} />
          </li>
        ))}
        {all.length > most ? null : (
          <li class="revision">
            <p>
              <strong>revision 1</strong>{" "}
              <span class="quiet">
                <At time={run.started_at} />, as it was submitted
              </span>
            </p>
          </li>
        )}
      </ol>
      {all.length > most ? (
        <button type="button" onClick={() => setMost(most * 10)}>
          Show more of {count(all.length + 1, "revision")}
        </button>
      ) : null}
      <p class="quiet">
        Who made them is in the <a href={address("/ui/audit", new URLSearchParams({ subject: run.run }))}>audit log of the run</a>, for tokens of an admin.
      </p>
    </>
  );
}

function Comparison(props: { run: Run; last: number; selected: string; onSelect: (name: string) => void }) {
  const { run, last, selected, onSelect } = props;
  const { query } = usePlace();
  const pair = compared(query.get("from"), query.get("to"), last);
  const before = useRevision(run.run, pair?.from ?? null);
  const after = useRevision(run.run, pair?.to ?? null);
  if (!pair) return <p class="quiet">The flow is as it was submitted.</p>;
  const edits = (run.revisions ?? []).filter(({ revision }) => revision > pair.from && revision <= pair.to).flatMap(({ edits }) => edits);
  const number = (label: string, key: "from" | "to", value: number) => (
    <label class="filter">
      <span>{label}</span>
      <input
        type="number"
        min={1}
        max={last}
        value={value}
        onChange={(event) => setQuery({ from: String(pair.from), to: String(pair.to), [key]: event.currentTarget.value }, "replace")}
      />
    </label>
  );
  return (
    <section class="comparison" aria-label="Comparison">
      <div class="list-tools">
        <h2>
          From revision {pair.from} to {pair.to}
        </h2>
        {number("From", "from", pair.from)}
        {number("To", "to", pair.to)}
      </div>
      {pair.from === pair.to ? (
        <p class="quiet">Choose two different revisions.</p>
      ) : (
        <DifferenceView before={before} after={after} edits={edits} selected={selected} onSelect={onSelect} />
      )}
    </section>
  );
}
