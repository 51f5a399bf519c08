// What a rehearsal says of each task: what is tried again, what is rolled back in which order, and what needs a person.

import type { Rehearsal, RehearsedCase, RetriedCall, RetriedFlow, SkippedLink, StubbedValue } from "../api/types.ts";
import { toText, type Json } from "./json.ts";
import { look, type Look } from "./states.ts";
import { count, cut } from "./text.ts";

/** The longest text of a value, in characters. */
const VALUE = 60;

/** The greatest number of pauses or stubs in one text. */
const FEW = 10;

/** A position of the slider: a task with the cases in which it fails, or the run without a failure, whose name is empty. */
export type Position = { node: string; cases: RehearsedCase[] };

/** The positions in the order of the report. */
export function positions(rehearsal: Rehearsal): Position[] {
  const found = new Map<string, Position>();
  for (const one of rehearsal.cases) {
    const node = one.failing.at(-1)?.node ?? "";
    const known = found.get(node);
    if (known) known.cases.push(one);
    else found.set(node, { node, cases: [one] });
  }
  return [...found.values()];
}

/** What fails of a task. */
export type FailureKey = "apply" | "first-try" | "rollback";

export function failureKey(one: RehearsedCase): FailureKey {
  const target = one.failing.at(-1);
  if (target?.action === "rollback") return "rollback";
  return target?.fails === "first-try" ? "first-try" : "apply";
}

/** The case of a position with this failure, or else its first one. */
export function caseOf(position: Position, key: string): RehearsedCase | null {
  return position.cases.find((one) => failureKey(one) === key) ?? position.cases[0] ?? null;
}

/** What fails of a task, for people. */
export function failureName(one: RehearsedCase): string {
  switch (failureKey(one)) {
    case "rollback":
      return "its rollback fails";
    case "first-try":
      return "it fails at first";
    default:
      return "it fails";
  }
}

/** A case in one sentence, in the words of `waft rehearse`. */
export function caseTitle(one: RehearsedCase): string {
  const target = one.failing.at(-1);
  if (!target) return "no failure";
  const key = failureKey(one);
  const first = key === "first-try" ? ` in the first run of ${(one.retried_flows ?? []).map(({ flow }) => flow).join(", ")}` : "";
  const causes = one.failing.slice(0, -1).map(({ node }) => node);
  const after = causes.length ? `, after ${causes.join(" and ")} ${causes.length === 1 ? "has" : "have"} failed` : "";
  return `${key === "rollback" ? `the rollback of ${target.node}` : target.node} fails${first}${after}`;
}

/** How the run ends. */
export function caseEnd(one: RehearsedCase): { words: string; look: Look } {
  if (!one.reached) return { words: "is not called", look: "pending" };
  if (one.stuck?.length || one.state === "failure") return { words: "needs a person", look: "rollback-failure" };
  if (one.state === "success") return { words: "succeeds", look: "success" };
  if (one.state === "rolled-back") return { words: "is rolled back", look: "rolled-back" };
  if (one.state === "running") return { words: one.stopped ? "goes on" : "stays open", look: "running" };
  return { words: "does not end", look: "unknown" };
}

/** The slider at a position, for readers who hear it. */
export function positionText(all: Position[], index: number, one: RehearsedCase): string {
  const { words } = caseEnd(one);
  const end = one.reached ? `the run ${words}` : `it ${words}`;
  return index === 0 ? `no failure: ${end}` : `${caseTitle(one)}, ${index} of ${all.length - 1}: ${end}`;
}

/** What happens to a node in a case. */
export type Mark = {
  look: Look;
  /** All of it. */
  words: string;
  /** The most important part, short enough for a node of the graph. */
  short: string;
  /** Its places in the order of the rollback, such as `2` or `2–4`; empty if it is not rolled back. */
  order: string;
  /** Whether the case leaves it as it is. */
  isUntouched: boolean;
};

/** The task of a list element. */
function taskOf(name: string): string {
  return name.replace(/\[\d+\]$/, "");
}

/** What happens to each node. */
export function marks(one: RehearsedCase): Map<string, Mark> {
  const tasks = (names: string[] | undefined) => new Set((names ?? []).map(taskOf));
  const places = new Map<string, number[]>();
  (one.rolled_back ?? []).forEach((name, index) => {
    const task = taskOf(name);
    const known = places.get(task);
    if (known) known.push(index + 1);
    else places.set(task, [index + 1]);
  });
  const attempts = { apply: new Map<string, number>(), rollback: new Map<string, number>() };
  for (const { node, action, attempts: number } of one.retried ?? []) {
    const known = attempts[action === "rollback" ? "rollback" : "apply"];
    known.set(taskOf(node), Math.max(known.get(taskOf(node)) ?? 0, number));
  }
  const failing = tasks(one.failing.filter(({ action }) => action !== "rollback").map(({ node }) => node));
  const [stuck, done, applied, handlers] = [tasks(one.stuck), tasks(one.without_rollback), tasks(one.still_applied), tasks(one.handlers)];
  const again = tasks((one.retried_flows ?? []).flatMap(({ rolled_back }) => rolled_back));
  const runs = new Map((one.retried_flows ?? []).map(({ flow, runs }) => [flow, runs]));
  const skipped = new Set((one.skipped ?? []).map(({ node }) => node));
  const mark = (name: string, state: string): Mark => {
    const found: { look: Look; short: string; words?: string }[] = [];
    const order = one.reached ? span(places.get(name) ?? []) : "";
    const tries = attempts.apply.get(name) ?? 0;
    if (!one.reached && failing.has(name)) return { look: "pending", words: "is not called", short: "is not called", order: "", isUntouched: false };
    if (one.reached) {
      if (stuck.has(name)) found.push({ look: "rollback-failure", short: "needs a person", words: "its rollback fails, and needs a person" });
      if (failing.has(name)) found.push({ look: "failure", short: tries > 1 ? `fails after ${tries} attempts` : "fails" });
      else if (tries > 1) found.push({ look: "retrying", short: `${tries} attempts` });
      if (again.has(name)) found.push({ look: "retrying", short: "rolled back and run again" });
      const flowRuns = runs.get(name);
      if (flowRuns !== undefined) found.push({ look: "retrying", short: `runs ${flowRuns} times` });
      if (order) found.push({ look: "rolled-back", short: `rolled back as number ${order}` });
      if (attempts.rollback.has(name)) found.push({ look: "rolled-back", short: `${attempts.rollback.get(name)} rollback attempts` });
      if (done.has(name)) found.push({ look: "success", short: "stays, has no rollback" });
      if (applied.has(name)) found.push({ look: "success", short: "stays applied" });
      if (handlers.has(name)) found.push({ look: "success", short: "handles the failure" });
    }
    if (!found.length && skipped.has(name)) found.push({ look: "ignored", short: "is not started" });
    const first = found[0];
    if (!first) return { look: look(state), words: rest(state), short: rest(state), order: "", isUntouched: true };
    // What is rolled back looks so, even if it was tried several times before.
    const shown = found.find((part) => part.look === "rollback-failure" || part.look === "failure") ?? found.find((part) => part.look === "rolled-back") ?? first;
    return { look: shown.look, words: found.map(({ short, words }) => words ?? short).join(", "), short: shown.short, order, isUntouched: false };
  };
  return new Map(one.nodes.map(({ name, state }) => [name, mark(name, state)]));
}

/** A node of which a case says nothing else. */
function rest(state: string): string {
  switch (state) {
    case "success":
    case "started":
      return "untouched";
    case "pending":
      return "not reached";
    case "ignored":
      return "skipped";
    case "rolled-back":
      return "nothing to roll back";
    default:
      return state;
  }
}

/** Numbers that follow one another as `2–4`, others as they are. */
function span(numbers: number[]): string {
  const [first, last] = [numbers[0], numbers.at(-1)];
  if (first === undefined || last === undefined || numbers.length === 1) return String(first ?? "");
  return last - first === numbers.length - 1 ? `${first}–${last}` : `${first}, …, ${last}`;
}

/** A part of the description of a case. */
export type Part = { title: string; items: string[]; isOrdered?: boolean; needsPerson?: boolean };

/** A case in words, as `waft rehearse` prints it. */
export function describe(one: RehearsedCase): Part[] {
  const all: Part[] = [];
  const add = (title: string, items: string[] | undefined, more: Partial<Part> = {}) => {
    if (items?.length) all.push({ title, items, ...more });
  };
  if (one.reached) {
    add("A person has to act: the rollback fails", one.stuck, { needsPerson: true });
    add("Tried again", (one.retried ?? []).map(retriedText));
    add("Run again", (one.retried_flows ?? []).map(againText));
    add("Rolled back, in this order", one.rolled_back, { isOrdered: true });
    add("Stays done, without a rollback", one.without_rollback);
    add("Stays applied", one.still_applied);
    add("Handles the failure", one.handlers);
    add("Waits for a notification", one.notified);
  }
  add("Not started", (one.skipped ?? []).map(({ node, links }) => [node, ...links.map(linkText)].join("; ")));
  if (one.reached) {
    add("Fires", (one.firings ?? []).map(({ by, state }) => `by ${by}: ${state}`));
    add("Fails too, perhaps because of a stubbed value", Object.entries(one.unexpected ?? {}).map(([name, failure]) => `${name}: ${failure.message}`));
  }
  add("The rehearsal stops", one.stopped ? [one.stopped] : []);
  return all;
}

function againText({ flow, runs, rolled_back }: RetriedFlow): string {
  const before = rolled_back.length ? `; before it runs again, these are rolled back: ${few(rolled_back)}` : "";
  return `${flow} runs ${count(runs, "time")}${before}`;
}

function linkText({ from, when, on_failure, stubs = [] }: SkippedLink): string {
  const values = stubs.length ? `, and ${few(stubs.map((stub) => `${stub.task}.${stub.name} is ${valueText(stub)}`))}` : "";
  return `the link from ${from}${on_failure ? ", which waits for a failure," : ""} is not taken${when ? `: ${when}` : ""}${values}`;
}

function retriedText({ node, action, attempts, pauses, jitter }: RetriedCall): string {
  const kind = action === "rollback" ? count(attempts, "attempt to roll back", "attempts to roll back") : count(attempts, "attempt");
  const times = pauses.map((pause) => `${jitter ? "about " : ""}${seconds(pause)}`);
  return `${node}: ${kind}, with pauses of ${few(times)}`;
}

/** A number of seconds, with as many digits as a person needs. */
function seconds(pause: number): string {
  return `${Number.isInteger(pause) || pause >= 10 ? pause.toFixed(0) : pause.toFixed(1)}s`;
}

function few(items: string[]): string {
  return `${items.slice(0, FEW).join(", ")}${items.length > FEW ? ` and ${items.length - FEW} more` : ""}`;
}

/** A stubbed value as text. */
export function valueText(stub: StubbedValue): string {
  if (stub.value === undefined) return "a long value";
  const text = cut(toText(stub.value as Json), VALUE);
  return `${text.text}${text.isCut ? "…" : ""}`;
}

/** Where a stubbed value comes from. */
export function originText(stub: StubbedValue): string {
  switch (stub.from) {
    case "schema":
      return "from a JSON schema";
    case "failure":
      return "the failure of this rehearsal";
    default:
      return "nothing is known of it";
  }
}
