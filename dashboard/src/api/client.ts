// Sends requests to the API.

import { parseJson } from "../model/json.ts";
import { noteDate, noteRefused, reachable, token } from "./session.ts";
import type { Problem } from "./types.ts";

/** Why a request has no result. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string | null,
    readonly kind: string,
  ) {
    super(message);
  }

  /** Whether the server was not reached: trying again may help. */
  get isUnreachable(): boolean {
    return this.status === 0;
  }
}

const UNREACHABLE = "the server cannot be reached";

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
    if (options.signal?.aborted) throw error;
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
    return new ApiError(status, message, problem.hint ?? null, problem.type);
  } catch {
    return new ApiError(status, `the server answered ${status}`, null, "unexpected");
  }
}

/** The JSON that a path gives. Numbers of values stay as they were written.
 * @throws ApiError as `send` does. */
export async function get<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
  const response = await send(path, { signal: signal ?? null });
  return parseJson(await text(response, signal)) as Answer;
}

async function text(response: Response, signal?: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    reachable.set(false);
    throw new ApiError(0, UNREACHABLE, null, "unreachable");
  }
}

/** Sends a command with a body of JSON text.
 * @throws ApiError as `send` does. */
export async function post<Answer>(path: string, body: string | null): Promise<Answer> {
  const headers: Record<string, string> = body === null ? {} : { "content-type": "application/json" };
  const response = await send(path, { method: "POST", headers, body });
  return parseJson(await text(response)) as Answer;
}

/** The path of a run, or of something in it. */
export function runPath(run: string, ...rest: string[]): string {
  return ["/v1/runs", ...[run, ...rest].map(encodeURIComponent)].join("/");
}
