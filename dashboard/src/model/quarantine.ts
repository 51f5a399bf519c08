// The messages in quarantine. Whoever may publish at the broker can have written their texts.

import type { QuarantinedMessage, QuarantineResult } from "../api/types.ts";
import { count } from "./text.ts";

/** What can be done with messages. */
export type QuarantineCommand = "release" | "drop";

/** Messages that a command is for: those with an id, or all that one request reads. */
export type Selected = { id: string } | "all";

/** The name of a message in an address, which cannot be empty. */
export function messageKey({ id }: QuarantinedMessage): string {
  return id || "(no id)";
}

/** Why a message is in quarantine. */
export function reasonText({ reason }: QuarantinedMessage): string {
  if (!reason) return "no reason is known";
  return reason === "delivery_limit" ? "the broker has given it up: it was delivered too often (delivery_limit)" : reason;
}

/** The run that a message names, and its task. */
export function namedRun({ headers = {} }: QuarantinedMessage): { run: string; task: string } | null {
  const header = (name: string) => (Object.hasOwn(headers, name) ? headers[name] : undefined);
  const run = header("run");
  return run ? { run, task: header("task") ?? "" } : null;
}

/** The number of listed messages that a command is for. */
export function selectedCount(messages: QuarantinedMessage[], selected: Selected): number {
  return selected === "all" ? messages.length : messages.filter(({ id }) => id === selected.id).length;
}

/** The path of the request that deletes messages. */
export function dropPath(selected: Selected): string {
  return `/v1/quarantine?${new URLSearchParams(selected === "all" ? { all: "true" } : { id: selected.id })}`;
}

/** The body of the request that releases messages. */
export function releaseBody(selected: Selected): string {
  return JSON.stringify(selected === "all" ? { all: true } : { id: selected.id });
}

/** What a command did, in sentences. */
export function resultTexts(command: QuarantineCommand, result: QuarantineResult): string[] {
  const { done, without_origin: left, unread } = result;
  const word = command === "release" ? "released" : "dropped";
  const texts = [done.length || left.length ? `${count(done.length, "message was", "messages were")} ${word}.` : `No message was ${word}: none is there any more.`];
  if (left.length) {
    texts.push(`${count(left.length, "message stays", "messages stay")}: no queue is known to which it could go, or the queue no longer exists.`);
  }
  if (unread) texts.push(`${count(unread, "message was", "messages were")} not read, behind too many or too large ones.`);
  return texts;
}
