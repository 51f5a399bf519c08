// The values of a run: what it started with, and what its tasks provided.

import { useState } from "preact/hooks";

import { ApiError, runPath, send } from "../../api/client.ts";
import type { Run } from "../../api/types.ts";
import { parseJson, runValues, toText, type Json, type RunValue } from "../../model/json.ts";
import { count, oneLine, size } from "../../model/text.ts";
import { Icon } from "../../ui/icons.tsx";
import { JsonTree } from "../../ui/json-tree.tsx";
import { Empty, Trouble } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";

/** The largest value that is shown as a tree, in bytes. Larger ones can be downloaded. */
const MAX_SHOWN = 8 << 20;

export function ValuesView({ run }: { run: Run }) {
  const inputs = runValues(run.inputs);
  const provides = runValues(run.provides);
  if (!inputs.length && !provides.length) return <Empty title="The run has no values yet" />;
  return (
    <div class="values">
      <section>
        <h2>Provided</h2>
        {provides.length ? <ValueList run={run.run} values={provides} /> : <p class="quiet">No task has provided a value that was not rolled back.</p>}
      </section>
      <section>
        <h2>Inputs</h2>
        {inputs.length ? <ValueList run={run.run} values={inputs} /> : <p class="quiet">The run started without values.</p>}
      </section>
    </div>
  );
}

export function ValueList({ run, values }: { run: string; values: RunValue[] }) {
  const [most, setMost] = useState(100);
  return (
    <>
      <ul class="value-list">
        {values.slice(0, most).map((value) => (
          <li key={value.kind === "stored" ? `${value.name} ${value.digest}` : value.name}>
            <Value run={run} value={value} />
          </li>
        ))}
      </ul>
      {values.length > most ? (
        <button type="button" onClick={() => setMost(most * 10)}>
          Show more of {values.length}
        </button>
      ) : null}
    </>
  );
}

function Value({ run, value }: { run: string; value: RunValue }) {
  const [loaded, setLoaded] = useState<{ value: Json } | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isLoading, setLoading] = useState(false);
  const path = () => {
    const digest = value.kind === "stored" ? `?${new URLSearchParams({ digest: value.digest })}` : "";
    return `${runPath(run, "values", value.name)}${digest}`;
  };
  const attempt = async (work: () => Promise<void>) => {
    setLoading(true);
    setError(null);
    try {
      await work();
    } catch (error) {
      setError(error instanceof ApiError ? error : new ApiError(500, String(error), null, "unexpected"));
    }
    setLoading(false);
  };
  const load = () => attempt(async () => setLoaded({ value: parseJson(await (await send(path())).text()) }));
  const download = () =>
    attempt(async () => {
      if (value.kind === "json") {
        save(new Blob([toText(value.value, 2)], { type: "application/json" }), `${value.name}.json`);
        return;
      }
      const response = await send(path());
      const isJson = response.headers.get("content-type") === "application/json";
      save(await response.blob(), `${value.name}${isJson ? ".json" : ".bin"}`);
    });
  return (
    <div class="value">
      <div class="value-head">
        <span class="value-name">
          <Line text={value.name} />
        </span>
        {value.kind === "json" && isShort(value) ? <JsonTree value={value.value} /> : <span class="quiet">{kindOf(value)}</span>}
        {value.kind === "stored" && value.form === "json" && value.size <= MAX_SHOWN && !loaded ? (
          <button type="button" class="link" disabled={isLoading} onClick={() => void load()}>
            {isLoading ? "Loading…" : "Load"}
          </button>
        ) : null}
        <button
          type="button"
          class="link with-icon"
          aria-label={`Download ${oneLine(value.name)}`}
          disabled={isLoading}
          onClick={() => void download()}
        >
          <Icon name="download" />
        </button>
      </div>
      <Trouble error={error} />
      {isShort(value) ? null : value.kind === "json" ? <JsonTree value={value.value} /> : loaded ? <JsonTree value={loaded.value} /> : null}
    </div>
  );
}

/** Whether a value fits beside its name. */
function isShort(value: RunValue): boolean {
  return value.kind === "json" && (typeof value.value !== "object" || value.value === null) && String(value.value).length <= 60;
}

function kindOf(value: RunValue): string {
  switch (value.kind) {
    case "bytes":
      return `${size(value.size)} of bytes`;
    case "stored":
      return `${size(value.size)} of ${value.form === "json" ? "JSON" : "bytes"}, in the store`;
    case "json": {
      const text = typeof value.value === "string" ? value.value : null;
      return text !== null && text.length > 300 ? count(text.length, "character") : "";
    }
  }
}

/** Lets the browser save a file. The name comes from outside: it is one of a file, and nothing else. */
function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  const address = URL.createObjectURL(blob);
  link.href = address;
  link.download = oneLine(name).replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
