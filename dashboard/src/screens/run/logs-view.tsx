// What the guests of a run write, live and searchable.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { runPath, type ApiError } from "../../api/client.ts";
import { EventStream, type StreamState } from "../../api/stream.ts";
import type { LogEvent } from "../../api/types.ts";
import { parseJson } from "../../model/json.ts";
import { LogBook, select, type LogLine } from "../../model/logs.ts";
import { isFinal } from "../../model/states.ts";
import { count, oneLine } from "../../model/text.ts";
import { Dialog, Empty, Rows, Trouble } from "../../ui/parts.tsx";
import { Line, LongText } from "../../ui/text.tsx";
import { StreamNote } from "./stream-note.tsx";
import { shownState, type RunData } from "./use-run.ts";

/** The pause between a line and the next drawing, in milliseconds; many lines take longer to search. */
const BEFORE_DRAWING = 80;
const BEFORE_LONG_DRAWING = 500;

/** The number of lines from which a log is long. */
const LONG = 5000;

/** The greatest number of tasks to choose from. The page of a task leads to the lines of any other one. */
const TASKS = 500;

export function LogsView({ data, of, onFilter }: { data: RunData; of: string; onFilter: (of: string) => void }) {
  const book = useRef(new LogBook());
  const [version, setVersion] = useState(0);
  const [stream, setStream] = useState<{ state: StreamState; error: ApiError | null }>({ state: "connecting", error: null });
  const [levels, setLevels] = useState("");
  const [text, setText] = useState("");
  const [follows, setFollows] = useState(true);
  const [open, setOpen] = useState<LogLine | null>(null);
  const following = useRef<EventStream | null>(null);
  useEffect(() => {
    let frame: ReturnType<typeof setTimeout> | undefined;
    const own = new EventStream(runPath(data.id, "logs", "follow"), {
      onEvents: (received) => {
        for (const { data } of received) {
          try {
            book.current.add(parseJson(data) as unknown as LogEvent);
          } catch {
            // An event that this page cannot read is of a newer server.
          }
        }
        frame ??= setTimeout(() => {
          frame = undefined;
          setVersion((version) => version + 1);
        }, book.current.lines.length > LONG ? BEFORE_LONG_DRAWING : BEFORE_DRAWING);
      },
      onState: (state, error) => setStream({ state, error }),
    });
    following.current = own;
    return () => {
      clearTimeout(frame);
      own.close();
    };
  }, [data.id]);
  const { run } = data;
  useEffect(() => {
    if (run && (!isFinal(run.state) || stream.state === "refused")) following.current?.resume();
  }, [run]);
  const shown = useMemo(() => select(book.current.lines, { task: of, levels, text: text.trim() }), [version, of, levels, text]);
  const names = useMemo(() => {
    const tasks = [...book.current.tasks].sort();
    const first = tasks.slice(0, TASKS);
    return { first: of && !first.includes(of) ? [of, ...first] : first, left: tasks.length - first.length };
  }, [version, of]);
  const { total, dropped } = book.current;
  const state = shownState(stream.state, run);
  return (
    <div class="logs">
      <div class="list-tools">
        <label class="filter">
          <span>Find</span>
          <input type="search" spellcheck={false} placeholder="text in a line" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <label class="filter">
          <span>Task</span>
          <select value={of} onChange={(event) => onFilter(event.currentTarget.value)}>
            <option value="">all</option>
            {names.first.map((name) => (
              <option key={name} value={name}>
                {oneLine(name)}
              </option>
            ))}
            {names.left ? <option disabled>and {names.left} more</option> : null}
          </select>
        </label>
        <label class="filter">
          <span>Level</span>
          <select value={levels} onChange={(event) => setLevels(event.currentTarget.value)}>
            <option value="">all</option>
            <option value="info">info and above</option>
            <option value="warn">warn and above</option>
            <option value="error">error</option>
            <option value="printed">printed</option>
          </select>
        </label>
        <label class="check">
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
          Follow
        </label>
        <span class="quiet">
          {shown.length === total - dropped ? count(total, "line") : `${shown.length.toLocaleString("en-US")} of ${count(total, "line")}`}
          {dropped ? `; the first ${dropped.toLocaleString("en-US")} are not kept here` : ""}
        </span>
        <StreamNote state={state} />
      </div>
      <Trouble error={stream.error} />
      {shown.length ? (
        <Rows
          items={shown}
          height={22}
          label="Lines of the log"
          follow={follows}
          class="log-rows"
          keyOf={(line) => line.number}
          row={(line) => (
            <div class={`log-line level-${levelClass(line.level)}`} onClick={() => (isLong(line.text) ? setOpen(line) : undefined)}>
              <span class="log-task">
                <Line text={line.task} most={60} />
              </span>
              <span class="log-attempt">{line.attempt}</span>
              <span class="log-level">{oneLine(line.level)}</span>
              <span class="log-text">
                <Line text={line.text} />
              </span>
              {isLong(line.text) ? (
                <button type="button" class="link" aria-label="Show all of the line" onClick={() => setOpen(line)}>
                  all
                </button>
              ) : null}
            </div>
          )}
        />
      ) : (
        <Empty title={total ? "No line matches" : state === "ended" ? "The guests wrote nothing" : "Nothing written yet"} />
      )}
      {open ? (
        <Dialog title={`${oneLine(open.task)}, ${open.attempt}`} wide onClose={() => setOpen(null)}>
          <LongText text={open.text} most={20_000} class="mono" />
        </Dialog>
      ) : null}
    </div>
  );
}

const LEVEL_CLASSES = new Set(["trace", "debug", "info", "warn", "error", "stdout", "stderr", "note"]);

function levelClass(level: string): string {
  return LEVEL_CLASSES.has(level) ? level : "info";
}

function isLong(text: string): boolean {
  return text.length > 140 || text.includes("\n");
}
