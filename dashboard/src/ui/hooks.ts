// Reads the API while somebody looks at the page.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { get, toApiError, type ApiError } from "../api/client.ts";
import { session, serverNow } from "../api/session.ts";
import { pause } from "../api/sse.ts";

export type Loaded<Data> = {
  data: Data | null;
  error: ApiError | null;
  isLoading: boolean;
  /** Reads again now. */
  refresh: () => void;
};

export type LoadOptions = {
  /** The pause after an answer, in milliseconds; 0 to read once. */
  every?: number;
  /** Whether an answer or a refusal stays until somebody asks again: for what costs the server much time. */
  once?: boolean;
};

/** Reads a path, and reads it again from time to time; `null` reads nothing. Data of the last answer stays when a later request fails.
 * A function makes the path of each request. */
export function useLoaded<Data>(key: string | null, path: () => string, { every = 0, once = false }: LoadOptions = {}): Loaded<Data> {
  const [state, setState] = useState<{ key: string | null; data: Data | null; error: ApiError | null; isLoading: boolean }>({
    key,
    data: null,
    error: null,
    isLoading: key !== null,
  });
  const makePath = useRef(path);
  makePath.current = path;
  const again = useRef<() => void>(() => undefined);
  useEffect(() => {
    if (key === null) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let request: AbortController | null = null;
    let isWanted = false;
    let isDone = false;
    let tries = 0;
    // What costs the server much time is not asked for all the time: the page pauses at least as long as an answer took.
    let earliest = 0;
    const schedule = (after: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => void read(), after);
    };
    const read = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      if (request) {
        // One request at a time: what changes meanwhile is read after it.
        isWanted = true;
        return;
      }
      const own = new AbortController();
      request = own;
      const started = performance.now();
      setState((before) => (before.key === key ? { ...before, isLoading: true } : { key, data: null, error: null, isLoading: true }));
      let next = every;
      let least = 0;
      try {
        const data = await get<Data>(makePath.current(), own.signal);
        if (request !== own) return;
        tries = 0;
        isDone = true;
        setState({ key, data, error: null, isLoading: false });
      } catch (error) {
        if (request !== own || own.signal.aborted) return;
        const shown = toApiError(error);
        tries += 1;
        setState((before) => ({ ...before, error: shown, isLoading: false }));
        // A refusal of a token waits for another token. Each refused request is an entry in the audit log.
        if (shown.isUnreachable || shown.status >= 500) {
          least = pause(tries);
          next = least;
        } else {
          next = once || shown.status === 401 || shown.status === 403 ? 0 : Math.max(every, 10_000);
          isWanted = false;
          isDone = true;
        }
      }
      request = null;
      const now = performance.now();
      least = Math.max(least, now - started);
      earliest = now + least;
      if (isWanted) next = Math.min(next || Infinity, 300);
      isWanted = false;
      if (next) schedule(Math.max(next, least));
    };
    const readAnew = () => {
      request?.abort();
      request = null;
      void read();
    };
    again.current = () => {
      const wait = earliest - performance.now();
      if (request || wait <= 0) void read();
      else schedule(wait);
    };
    const onVisible = () => {
      if (!document.hidden && !(once && isDone)) void read();
    };
    const stopWatching = session.watch(readAnew);
    document.addEventListener("visibilitychange", onVisible);
    void read();
    return () => {
      clearTimeout(timer);
      request?.abort();
      request = null;
      again.current = () => undefined;
      stopWatching();
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [key, every, once]);
  const refresh = useCallback(() => again.current(), []);
  if (state.key !== key) return { data: null, error: null, isLoading: key !== null, refresh };
  return { data: state.data, error: state.error, isLoading: state.isLoading, refresh };
}

/** Reads again some time after something has changed, in milliseconds. The changes of a busy run never pause: the first one starts the
 * time. */
export function useRefreshAfter(version: number, refresh: () => void, after: number): void {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    if (!version) return;
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      refresh();
    }, after);
  }, [version, refresh, after]);
  useEffect(() => () => clearTimeout(timer.current), []);
}

/** The time by the server's clock, while something depends on it: every so many milliseconds, and only while the page is looked at. */
export function useNow(every: number): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    if (!every) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden) setNow(serverNow());
    }, every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** The size of an element, as it changes. */
export function useSize<Kind extends Element>(): [(element: Kind | null) => void, { width: number; height: number }] {
  const [size, setSize] = useState({ width: 0, height: 0 });
  const observer = useRef<ResizeObserver | null>(null);
  const attach = useCallback((element: Kind | null) => {
    observer.current?.disconnect();
    if (!element) return;
    observer.current = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      setSize((before) => (before.width === width && before.height === height ? before : { width, height }));
    });
    observer.current.observe(element);
  }, []);
  return [attach, size];
}

/** Whether the screen is narrow. */
export function useIsNarrow(): boolean {
  const [query] = useState(() => matchMedia("(max-width: 820px)"));
  const [isNarrow, setIsNarrow] = useState(query.matches);
  useEffect(() => {
    const update = () => setIsNarrow(query.matches);
    query.addEventListener("change", update);
    return () => query.removeEventListener("change", update);
  }, [query]);
  return isNarrow;
}
