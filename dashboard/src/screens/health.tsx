// The checks of `waft doctor`, made by the server when somebody asks.

import { useEffect, useState } from "preact/hooks";

import { ApiError, get } from "../api/client.ts";
import { session } from "../api/session.ts";
import type { Check, Checks } from "../api/types.ts";
import type { Look } from "../model/states.ts";
import { count } from "../model/text.ts";
import { StateIcon } from "../ui/icons.tsx";
import { Empty, ScreenHead, Trouble } from "../ui/parts.tsx";
import { Line, LongText } from "../ui/text.tsx";
import { Ago } from "../ui/time.tsx";

const OUTCOMES = new Map<string, { look: Look; name: string }>([
  ["ok", { look: "success", name: "works" }],
  ["skipped", { look: "ignored", name: "not checked" }],
  ["warn", { look: "rolling-back", name: "look at this" }],
  ["fail", { look: "failure", name: "does not work" }],
]);

export function HealthScreen() {
  const [checks, setChecks] = useState<Checks | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isRunning, setRunning] = useState(false);
  useEffect(() => {
    document.title = "Health · waft";
  }, []);
  const check = async () => {
    setRunning(true);
    setError(null);
    try {
      setChecks(await get<Checks>("/v1/health/checks"));
    } catch (error) {
      setError(error instanceof ApiError ? error : new ApiError(0, String(error), null, "unexpected"));
    }
    setRunning(false);
  };
  // A new token may be allowed to ask what the one before was not.
  useEffect(() => session.watch(() => setError(null)), []);
  const problems = checks?.checks.filter((check) => check.outcome === "fail" || check.outcome === "warn").length ?? 0;
  return (
    <>
      <ScreenHead title="Health">
        <button type="button" class="primary" disabled={isRunning} onClick={() => void check()}>
          {isRunning ? "Checking…" : checks ? "Check again" : "Check now"}
        </button>
      </ScreenHead>
      <div role="status">
        {isRunning ? (
          <p class="quiet">The server checks everything that it depends on. This takes up to 30 seconds.</p>
        ) : checks ? (
          <p>
            {problems ? (
              <strong>{count(problems, "check needs", "checks need")} a look.</strong>
            ) : (
              <strong>Everything works.</strong>
            )}{" "}
            <span class="quiet">
              waft {checks.version}, checked <Ago time={checks.at} />
            </span>
          </p>
        ) : null}
      </div>
      <Trouble error={error} />
      {checks ? (
        <ul class="checks">
          {checks.checks.map((check, index) => (
            <CheckRow key={index} check={check} />
          ))}
        </ul>
      ) : isRunning || error ? null : (
        <Empty title="Not checked yet">
          The server checks its broker, its logbook, its store, its queues and its workers, as <code>waft doctor</code> does.
        </Empty>
      )}
    </>
  );
}

function CheckRow({ check }: { check: Check }) {
  const outcome = OUTCOMES.get(check.outcome) ?? { look: "unknown" as Look, name: check.outcome };
  return (
    <li class={`check state-edge ${outcome.look}`}>
      <span class={`state ${outcome.look}`}>
        <StateIcon look={outcome.look} />
        {outcome.name}
      </span>
      <strong class="mono check-name">
        <Line text={check.check} />
      </strong>
      <div class="check-text">
        <LongText text={check.detail} most={800} />
        {check.advice ? <LongText class="advice" text={check.advice} most={800} /> : null}
      </div>
    </li>
  );
}
