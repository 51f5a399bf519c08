import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ApiError, get } from "../src/api/client.ts";
import { giveToken, reachable } from "../src/api/session.ts";
import { EventStream, type StreamState } from "../src/api/stream.ts";

type Request = { path: string; headers: Headers; signal: AbortSignal };

/** A page that somebody looks at, and a server. Returns the requests to it. */
function serve(answer: (request: Request) => Response | Promise<Response>): Request[] {
  const requests: Request[] = [];
  Object.assign(globalThis, {
    document: { hidden: false, addEventListener: () => undefined, removeEventListener: () => undefined },
    fetch: async (path: string, options: RequestInit) => {
      const request = { path, headers: options.headers as Headers, signal: options.signal as AbortSignal };
      requests.push(request);
      return answer(request);
    },
  });
  return requests;
}

/** An answer that goes on until its request is given up. */
function open(request: Request, text: string): Response {
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode(text));
      request.signal.addEventListener("abort", () => controller.error(request.signal.reason));
    },
  });
  return new Response(body);
}

const lost = (request: Request) =>
  new Promise<Response>((_, reject) => request.signal.addEventListener("abort", () => reject(request.signal.reason)));

function follow() {
  const states: StreamState[] = [];
  const events: string[] = [];
  let wake = () => {};
  const stream = new EventStream("/v1/runs/r/events", {
    onEvents: (received) => {
      events.push(...received.map(({ data }) => data));
      wake();
    },
    onState: (state) => {
      states.push(state);
      wake();
    },
  });
  /** Waits until the stream was so often in a state. */
  const reaches = async (state: StreamState, times: number) => {
    while (states.filter((other) => other === state).length < times) await new Promise<void>((resolve) => (wake = resolve));
  };
  const receives = async (count: number) => {
    while (events.length < count) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { stream, reaches, receives };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

test("a stream that ends at once is asked for more and more seldom", async () => {
  const requests = serve(() => new Response(new ReadableStream({ start: (controller) => controller.close() })));
  const { stream, reaches } = follow();
  for (const [ends, wait] of [[1, 500], [2, 1000], [3, 2000]] as const) {
    await reaches("ended", ends);
    stream.resume();
    stream.resume();
    mock.timers.tick(wait - 1);
    assert.equal(requests.length, ends);
    mock.timers.tick(1);
    assert.equal(requests.length, ends + 1);
  }
  stream.close();
  mock.timers.tick(60_000);
  assert.equal(requests.length, 4);
});

test("another token is used at once, and the stream goes on where it was", async () => {
  const requests = serve((request) => open(request, "id: 7\ndata: x\n\n"));
  const { stream, receives } = follow();
  await receives(1);
  giveToken("other");
  assert.equal(requests.length, 2);
  assert.ok(requests[0]?.signal.aborted, "what the token before may read does not go on");
  assert.deepEqual(
    requests.map(({ headers }) => [headers.get("authorization"), headers.get("last-event-id")]),
    [[null, null], ["Bearer other", "7"]],
  );
  stream.close();
  assert.ok(requests[1]?.signal.aborted);
});

test("a connection that is gone without a word is given up", async () => {
  const requests = serve(lost);
  const { stream, reaches } = follow();
  mock.timers.tick(25_000);
  await reaches("retrying", 1);
  assert.ok(requests[0]?.signal.aborted && !reachable.value);
  mock.timers.tick(500);
  assert.equal(requests.length, 2);
  stream.close();
});

test("a request is given up after its time, and by the page", async () => {
  serve(lost);
  const answer = get("/v1/runs");
  mock.timers.tick(120_000);
  await assert.rejects(answer, (error) => error instanceof ApiError && error.isUnreachable);
  const page = new AbortController();
  const left = get("/v1/runs", page.signal);
  page.abort();
  await assert.rejects(left, (error) => !(error instanceof ApiError));
});
