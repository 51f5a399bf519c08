// Shows times in the reader's zone, with the exact time of the server as tooltip.

import { changesIn, duration, exact, local, parse, relative } from "../model/time.ts";
import { oneLine } from "../model/text.ts";
import { serverNow } from "../api/session.ts";
import { useNow } from "./hooks.ts";

/** How long ago something was. */
export function Ago({ time }: { time: string }) {
  const value = parse(time);
  const now = useNow(value === null ? 0 : changesIn(value, serverNow()));
  if (value === null) return <span>{oneLine(time)}</span>;
  return (
    <time dateTime={time} title={`${local(value, now)} · ${exact(time)}`}>
      {relative(value, now)}
    </time>
  );
}

/** A time of the clock, to the millisecond if what happens within a second matters. */
export function At({ time, precise = false }: { time: string; precise?: boolean }) {
  const value = parse(time);
  if (value === null) return <span>{oneLine(time)}</span>;
  return (
    <time dateTime={time} title={exact(time)}>
      {local(value, serverNow())}
      {precise ? <span class="quiet">.{String(value % 1000).padStart(3, "0")}</span> : null}
    </time>
  );
}

/** How long something took, or has taken until now. */
export function Lasted({ from, until }: { from: string; until: string | null }) {
  const [start, end] = [parse(from), parse(until)];
  const now = useNow(end === null && start !== null ? 1000 : 0);
  if (start === null) return null;
  return <span class="number">{duration((end ?? now) - start)}</span>;
}
