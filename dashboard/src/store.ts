// A value that parts of the page share and that tells them when it changes.

import { useEffect, useState } from "preact/hooks";

export class Store<Value> {
  private readonly watchers = new Set<() => void>();
  constructor(private current: Value) {}

  get value(): Value {
    return this.current;
  }

  set(value: Value): void {
    if (Object.is(value, this.current)) return;
    this.current = value;
    for (const watcher of [...this.watchers]) watcher();
  }

  watch(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

/** The value of a store; the component is drawn again when it changes. */
export function useStore<Value>(store: Store<Value>): Value {
  const [, draw] = useState(0);
  useEffect(() => {
    let drawn = store.value;
    const update = () => {
      if (Object.is(drawn, store.value)) return;
      drawn = store.value;
      draw((count) => count + 1);
    };
    const stop = store.watch(update);
    draw((count) => count + 1);
    return stop;
  }, [store]);
  return store.value;
}
