// The audit log: what an entry is about.

import type { AuditEntry } from "../api/types.ts";
import type { Look } from "./states.ts";

const OF_RUNS = new Set(["submit", "notify", "cancel", "suspend", "resume", "retry", "skip", "edit"]);
const OF_MODULES = new Set(["push", "sign"]);

/** What an entry is about, if the page can show it. */
export function shownSubject({ action, subject }: AuditEntry): { kind: "run" | "module"; id: string } | null {
  if (!subject) return null;
  if (OF_RUNS.has(action)) return { kind: "run", id: subject };
  return OF_MODULES.has(action) && subject.startsWith("sha256:") ? { kind: "module", id: subject } : null;
}

/** How the status of an answer looks. */
export function statusLook(status: number): Look {
  if (status < 400) return "success";
  return status < 500 ? "rolling-back" : "failure";
}
