// The place of the page is in its address: a link to it shows the same, and the browser's buttons go back and forth.

import { Store, useStore } from "./store.ts";

export type Place = { path: string; query: URLSearchParams };

/** Where the page is. */
export const place = new Store<Place>(read());

function read(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** Goes to an address of the page. */
export function go(address: string, how: "push" | "replace" = "push"): void {
  if (address === location.pathname + location.search) return;
  if (how === "push") history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  place.set(read());
}

/** Changes some keys of the query; an empty text removes a key. */
export function setQuery(changes: { [key: string]: string }, how: "push" | "replace" = "push"): void {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) {
    if (value) query.set(key, value);
    else query.delete(key);
  }
  go(address(location.pathname, query), how);
}

/** An address with a query. */
export function address(path: string, query: URLSearchParams): string {
  // These need no escapes in a query, and are easier to read without.
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%3D", "=").replaceAll("%2F", "/");
  return text ? `${path}?${text}` : path;
}

/** The address of a run. */
export function runAddress(run: string, query: { [key: string]: string } = {}): string {
  return address(`/ui/runs/${encodeURIComponent(run)}`, new URLSearchParams(query));
}

export function usePlace(): Place {
  return useStore(place);
}

/** Listens to the browser's buttons, and to links within the page. */
export function startRouter(): void {
  addEventListener("popstate", () => place.set(read()));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!link.pathname.startsWith("/ui")) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
