// The states of runs and tasks: their names for people, their colours and their shapes.

/** A family of states that looks the same. The colour is a class of the style sheet, the shape an icon. */
export type Look =
  | "pending"
  | "running"
  | "waiting"
  | "success"
  | "failure"
  | "rolling-back"
  | "rolled-back"
  | "rollback-failure"
  | "ignored"
  | "retrying"
  | "suspended"
  | "unknown";

const LOOKS = new Map<string, Look>([
  ["pending", "pending"],
  ["running", "running"],
  ["started", "success"],
  ["success", "success"],
  ["failure", "failure"],
  ["rolling-back", "rolling-back"],
  ["rolled-back", "rolled-back"],
  ["rollback-failure", "rollback-failure"],
  ["ignored", "ignored"],
  ["retrying", "retrying"],
  ["suspending", "suspended"],
  ["suspended", "suspended"],
  ["cancelling", "rolling-back"],
  ["waiting", "waiting"],
]);

/** How a state looks. A newer server may send states that this page does not know. */
export function look(state: string | null | undefined): Look {
  return LOOKS.get(state ?? "") ?? "unknown";
}

/** The states of runs, in the order of the filter. */
export const RUN_STATES = ["running", "success", "rolled-back", "failure", "suspending", "suspended", "pending"] as const;

/** Whether a run in this state has ended. A suspended run has not. */
export function isFinal(state: string): boolean {
  return state === "success" || state === "failure" || state === "rolled-back";
}

/** Whether a task in this state is being called. */
export function isCalled(state: string): boolean {
  return state === "running" || state === "rolling-back";
}

/** How a run ended, or what it is doing, in the words of `waft show`. */
export function ending(state: string, hasFailures: boolean): string {
  switch (state) {
    case "success":
      return "succeeded";
    case "failure":
      return "failed and needs a person: a rollback failed";
    case "rolled-back":
      return hasFailures ? "failed and was rolled back" : "was stopped and rolled back";
    case "suspended":
      return "is suspended";
    default:
      return "is in progress";
  }
}

/** The commands that a run takes in a state. */
export function commands(state: string, cancelling: boolean): ("suspend" | "resume" | "cancel" | "retry")[] {
  switch (state) {
    case "pending":
    case "running":
      return cancelling ? [] : ["suspend", "cancel"];
    case "suspending":
    case "suspended":
      return cancelling ? ["resume"] : ["resume", "cancel"];
    case "failure":
    case "rolled-back":
      return ["retry"];
    default:
      return [];
  }
}
