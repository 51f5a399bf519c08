// Sends requests to the API.

import { parseJson } from "../model/json.ts";
import { noteDate, noteRefused, reachable, token } from "./session.ts";
import type { Diagnostic, Problem } from "./types.ts";

/** Why a request has no result. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string | null,
    readonly kind: string,
    /** The errors and warnings of a flow or of edits, each with its line if it has one. */
    readonly diagnostics: readonly Diagnostic[] = [],
  ) {
    super(message);
  }

  /** Whether the server was not reached: trying again may help. */
  get isUnreachable(): boolean {
    return this.status === 0;
  }
}

const UNREACHABLE = "the server cannot be reached";

/** The longest time that an answer may take, in milliseconds. The checks of a server take half a minute. */
const LONGEST = 120_000;

/** The reason with which a request ends that has taken this long. */
const TOO_LONG = new Error(UNREACHABLE);

/** Whether the page itself gave a request up. */
function isGivenUp(signal: AbortSignal | null | undefined): boolean {
  return signal?.aborted === true && signal.reason !== TOO_LONG;
}

/** Does something that takes a signal, and raises the signal after a time. A connection may be gone without a word, and a request would
 * wait for minutes. */
async function limited<Result>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const own = new AbortController();
  const giveUp = () => own.abort(signal?.reason);
  if (signal?.aborted) giveUp();
  signal?.addEventListener("abort", giveUp);
  const timer = setTimeout(() => own.abort(TOO_LONG), LONGEST);
  try {
    return await work(own.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/** Sends a request; the answer is one of success.
 * @throws ApiError when the request is refused, fails, or does not reach the server. */
export async function send(path: string, options: RequestInit = {}): Promise<Response> {
  const used = token.value;
  const headers = new Headers(options.headers);
  if (used) headers.set("authorization", `Bearer ${used}`);
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (isGivenUp(options.signal)) throw error;
    reachable.set(false);
    throw new ApiError(0, UNREACHABLE, null, "unreachable");
  }
  reachable.set(true);
  noteDate(response.headers.get("date"));
  if (response.ok) return response;
  if (response.status === 401) noteRefused(used);
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  const { status } = response;
  try {
    const problem = (await response.json()) as Problem;
    // "There is no run r" repeats "there is no such run", and is more specific.
    const message = problem.title.startsWith("there is ") ? problem.detail : `${problem.title}: ${problem.detail}`;
    return new ApiError(status, message, problem.hint ?? null, problem.type, problem.diagnostics ?? []);
  } catch {
    return new ApiError(status, `the server answered ${status}`, null, "unexpected");
  }
}

/** The JSON that a path gives. Numbers of values stay as they were written.
 * @throws ApiError as `send` does. */
export async function get<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
  return limited(signal, async (signal) => parseJson(await text(await send(path, { signal }), signal)) as Answer);
}

async function text(response: Response, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    if (isGivenUp(signal)) throw error;
    reachable.set(false);
    throw new ApiError(0, UNREACHABLE, null, "unreachable");
  }
}

/** Sends a command with a body of JSON text.
 * @throws ApiError as `send` does. */
export async function post<Answer>(path: string, body: string | null): Promise<Answer> {
  return command<Answer>("POST", path, body);
}

/** Deletes what a path selects.
 * @throws ApiError as `send` does. */
export async function remove<Answer>(path: string): Promise<Answer> {
  return command<Answer>("DELETE", path, null);
}

async function command<Answer>(method: "POST" | "DELETE", path: string, body: string | null): Promise<Answer> {
  const headers: Record<string, string> = body === null ? {} : { "content-type": "application/json" };
  return limited(undefined, async (signal) => parseJson(await text(await send(path, { method, headers, body, signal }), signal)) as Answer);
}

/** Any reason why a request has failed, as one that can be shown. */
export function toApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, String(error), null, "unexpected");
}

/** The path of a run, or of something in it. */
export function runPath(run: string, ...rest: string[]): string {
  return ["/v1/runs", ...[run, ...rest].map(encodeURIComponent)].join("/");
}
