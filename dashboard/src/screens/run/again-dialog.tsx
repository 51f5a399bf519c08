// Starts the flow of a run that has ended once more, with inputs that a person may change.

import { useState } from "preact/hooks";

import { ApiError, get, post, runPath, send } from "../../api/client.ts";
import type { FlowText, Run } from "../../api/types.ts";
import { fieldOf, given, MAX_INPUT, nextId, submissionBody, toBase64, type Given } from "../../model/again.ts";
import { runValues, typed, type RunValue } from "../../model/json.ts";
import { cut, oneLine, size } from "../../model/text.ts";
import { go, runAddress } from "../../router.ts";
import { CommandDialog } from "../../ui/command-dialog.tsx";
import { Line } from "../../ui/text.tsx";

/** The greatest number of inputs that have a field. All others are sent as they are. */
const MAX_FIELDS = 100;

/** The longest JSON that has a field, in characters. */
const MAX_FIELD = 100_000;

/** Whether a run has inputs that can be changed for another run. */
export function canStartAgain(run: Run): boolean {
  return runValues(run.inputs).length > 0;
}

export function AgainDialog({ run, onClose }: { run: Run; onClose: () => void }) {
  // The run may be read again while the form is open: its fields stay.
  const [inputs] = useState(() => runValues(run.inputs));
  const [beginnings] = useState(() => inputs.map((input) => (input.kind === "json" ? fieldOf(input) : "")));
  const [texts, setTexts] = useState<ReadonlyMap<string, string>>(new Map());
  const [id, setId] = useState(() => nextId(run.run));
  const start = async () => {
    const flow = await get<FlowText>(`${runPath(run.run, "flow")}?written=true`);
    const all: Given[] = [];
    for (const [index, input] of inputs.entries()) {
      const text = texts.get(input.name) ?? beginnings[index] ?? "";
      all.push(given(input, text) ?? (await readStored(run.run, input)));
    }
    await post<Run>("/v1/runs", submissionBody({ run: id.trim(), flow: flow.text, labels: run.labels ?? {}, inputs: all }));
  };
  return (
    <CommandDialog
      title="Start with other inputs"
      button="Start the run"
      evidence="the list of runs"
      onClose={onClose}
      onDone={() => go(runAddress(id.trim()))}
      send={start}
    >
      <p>
        Another run of <Line text={run.flow} /> starts, with the same flow, modules and labels. This one stays as it is
        {run.state === "failure" ? ": what it has not rolled back is not rolled back then, either" : ""}.
      </p>
      {inputs.slice(0, MAX_FIELDS).map((input, index) => {
        const beginning = beginnings[index] ?? "";
        if (input.kind === "json" && beginning.length > MAX_FIELD) {
          return (
            <p key={input.name} class="quiet">
              <Line text={input.name} /> is sent as it is: {size(beginning.length)} are too much for a field.
            </p>
          );
        }
        const text = texts.get(input.name) ?? beginning;
        return (
          <label key={input.name}>
            <span>
              <Line text={input.name} /> <span class="quiet">{hint(input, text, text !== beginning)}</span>
            </span>
            <textarea
              rows={1}
              spellcheck={false}
              class="mono"
              value={text}
              placeholder={input.kind === "json" ? "" : "leave it empty to keep the value"}
              onInput={(event) => setTexts(new Map(texts).set(input.name, event.currentTarget.value))}
            />
          </label>
        );
      })}
      {inputs.length > MAX_FIELDS ? <p class="quiet">{inputs.length - MAX_FIELDS} more inputs are sent as they are.</p> : null}
      <label>
        Id of the new run
        <input required spellcheck={false} autocomplete="off" class="mono" value={id} onInput={(event) => setId(event.currentTarget.value)} />
      </label>
    </CommandDialog>
  );
}

function hint(input: RunValue, text: string, isChanged: boolean): string {
  if (!isChanged) return input.kind === "json" ? "JSON, or text" : `${size(input.size)}, kept as they are`;
  return `changed, ${typed(text).isText ? "sent as text" : "sent as JSON"}`;
}

/** An input that the run has in the store. */
async function readStored(run: string, input: RunValue): Promise<Given> {
  const { name } = input;
  const stored = input.kind === "stored" ? input : null;
  if (stored && stored.size > MAX_INPUT) {
    const message = `The input ${oneLine(cut(name, 100).text)} has ${size(stored.size)}, and this page sends at most ${size(MAX_INPUT)} again.`;
    throw new ApiError(413, message, "enter another value, or use `waft submit`", "too-large");
  }
  const digest = stored ? `?${new URLSearchParams({ digest: stored.digest })}` : "";
  const response = await send(`${runPath(run, "values", name)}${digest}`);
  if (stored?.form === "json") return { name, json: await response.text() };
  return { name, base64: toBase64(new Uint8Array(await response.arrayBuffer())) };
}
