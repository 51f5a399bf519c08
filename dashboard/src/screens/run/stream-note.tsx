// Whether a stream of events is live.

import type { StreamState } from "../../api/stream.ts";

const NAMES: { [state in StreamState]: string } = {
  connecting: "connecting…",
  open: "live",
  retrying: "connection lost, trying again…",
  ended: "complete",
  refused: "refused",
};

export function StreamNote({ state }: { state: StreamState }) {
  return (
    <span class={`stream-note ${state}`} role="status">
      {NAMES[state]}
    </span>
  );
}
