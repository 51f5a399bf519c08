// Reads server-sent events from text that arrives in pieces.

export type SseEvent = { id: string; data: string };

export class SseParser {
  private rest = "";
  private data: string[] = [];
  private id = "";

  /** The events that a piece of text completes. */
  add(piece: string): SseEvent[] {
    const found: SseEvent[] = [];
    let start = 0;
    for (;;) {
      // Only the new piece is searched: a line of megabytes comes in many pieces.
      const end = piece.indexOf("\n", start);
      if (end < 0) break;
      const line = this.rest + piece.slice(start, end);
      this.rest = "";
      start = end + 1;
      const event = this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (event) found.push(event);
    }
    this.rest += piece.slice(start);
    return found;
  }

  private line(line: string): SseEvent | null {
    if (line === "") {
      const event = this.data.length ? { id: this.id, data: this.data.join("\n") } : null;
      this.data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "id") this.id = value;
    return null;
  }
}

/** The pause before another try, in milliseconds: it doubles up to ten seconds. */
export function pause(tries: number): number {
  return Math.min(10_000, 500 * 2 ** Math.max(0, tries - 1));
}
