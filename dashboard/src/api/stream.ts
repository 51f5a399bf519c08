// Follows a stream of events. After a cut it goes on where it was; while nobody looks at the page it rests.

import { ApiError, send } from "./client.ts";
import { reachable, session } from "./session.ts";
import { pause, SseParser, type SseEvent } from "./sse.ts";

/** What a stream is doing. */
export type StreamState = "connecting" | "open" | "retrying" | "ended" | "refused";

export type StreamOptions = {
  /** Takes events that arrived together. */
  onEvents: (events: SseEvent[]) => void;
  onState: (state: StreamState, error: ApiError | null) => void;
};

/** A server sends a keep-alive every ten seconds: without any byte for this long, the connection is gone. */
const SILENCE = 25_000;

/** Follows the stream at a path until it is closed. */
export class EventStream {
  private last = "";
  /** The number of connections since the last one that brought something: the pause before the next one grows with it. */
  private tries = 0;
  private closed = false;
  private isRefused = false;
  private connection: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly stopWatching: () => void;

  constructor(
    private readonly path: string,
    private readonly options: StreamOptions,
  ) {
    document.addEventListener("visibilitychange", this.onVisibility);
    // What another token may not read does not go on under the one before.
    this.stopWatching = session.watch(() => this.connectAnew());
    if (!document.hidden) void this.connect();
  }

  /** Connects again if the stream has ended or was refused: the run may go on after its end. A stream that ends at once each time is
   * asked for more and more seldom. */
  resume(): void {
    if (this.closed || document.hidden || this.connection || this.timer !== undefined) return;
    this.connectLater();
  }

  close(): void {
    this.closed = true;
    this.disconnect();
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.stopWatching();
  }

  // A browser opens only a few connections to one server, and all its tabs share them.
  private readonly onVisibility = () => {
    if (document.hidden) this.disconnect();
    else if (!this.isRefused) this.connectAnew();
  };

  private connectAnew(): void {
    if (this.closed) return;
    this.disconnect();
    if (document.hidden) {
      this.isRefused = false;
      return;
    }
    this.tries = 0;
    void this.connect();
  }

  private connectLater(): void {
    this.timer = setTimeout(() => void this.connect(), pause(this.tries));
  }

  private disconnect(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.connection?.abort();
    this.connection = null;
  }

  private enter(state: StreamState, error: ApiError | null = null): void {
    this.isRefused = state === "refused";
    this.options.onState(state, error);
  }

  private async connect(): Promise<void> {
    this.disconnect();
    const connection = new AbortController();
    this.connection = connection;
    if (this.tries === 0) this.enter("connecting");
    try {
      await this.read(connection);
      if (this.connection !== connection) return;
      this.connection = null;
      this.tries += 1;
      // The server also ends streams when it stops, or when a token is revoked: whoever reads the run finds out.
      this.enter("ended");
    } catch (error) {
      if (this.connection !== connection || this.closed) return;
      this.connection = null;
      this.tries += 1;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) {
        this.enter("refused", error);
        return;
      }
      reachable.set(!(error instanceof ApiError && error.isUnreachable));
      this.enter("retrying", error instanceof ApiError ? error : null);
      this.connectLater();
    }
  }

  private async read(connection: AbortController): Promise<void> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (this.last) headers["last-event-id"] = this.last;
    const { signal } = connection;
    const response = await within(send(this.path, { headers, signal }), connection);
    const reader = response.body?.getReader();
    if (!reader || this.connection !== connection) return;
    this.enter("open");
    const [parser, decoder] = [new SseParser(), new TextDecoder()];
    for (;;) {
      const piece = await within(reader.read(), connection);
      if (this.connection !== connection) return;
      if (piece.done) return;
      this.tries = 0;
      const events = parser.add(decoder.decode(piece.value, { stream: true }));
      const latest = events.at(-1);
      if (!latest) continue;
      this.last = latest.id || this.last;
      this.options.onEvents(events);
    }
  }
}

/** Waits for the head or a piece of a stream, and gives the connection up if none comes. */
async function within<Piece>(piece: Promise<Piece>, connection: AbortController): Promise<Piece> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new ApiError(0, "the server sends nothing", null, "unreachable"));
      connection.abort();
    }, SILENCE);
  });
  try {
    return await Promise.race([piece, silence]);
  } finally {
    clearTimeout(timer);
  }
}
