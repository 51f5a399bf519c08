// The token of this tab, and whether the server can be reached.

import { Store } from "../store.ts";

const KEY = "waft-token";

/** The token that requests carry; empty for none. It lives as long as the tab. */
export const token = new Store<string>(read());

/** Whether the server wants another token: the page asks for one. */
export const tokenWanted = new Store<"" | "none" | "refused">("");

/** Raised when everything has to be read again: a token was given. */
export const session = new Store<number>(0);

/** Whether the last request reached the server. */
export const reachable = new Store<boolean>(true);

/** The server's clock minus the clock of this machine, in milliseconds. */
export const clockOffset = new Store<number>(0);

/** Differences below this are the time of a request, or the seconds of the header `Date`. */
const IGNORED_OFFSET = 2500;

function read(): string {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** Keeps a token for this tab, and reads everything again. */
export function giveToken(text: string): void {
  keep(text);
  tokenWanted.set("");
  session.set(session.value + 1);
}

/** Forgets the token of this tab, and everything that was read with it: the page starts anew at the same address. */
export function forgetToken(): void {
  keep("");
  location.reload();
}

function keep(text: string): void {
  try {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  } catch {
    // A browser without storage keeps it in the page.
  }
  token.set(text);
}

/** Notes that the API refused the token that a request carried. */
export function noteRefused(used: string): void {
  // A request from before may be answered after a new token was given.
  if (used === token.value) tokenWanted.set(used ? "refused" : "none");
}

/** Notes the server's time, from the header of an answer. */
export function noteDate(header: string | null): void {
  const time = header ? Date.parse(header) : NaN;
  if (Number.isNaN(time)) return;
  const offset = time - Date.now();
  clockOffset.set(Math.abs(offset) < IGNORED_OFFSET ? 0 : Math.round(offset / 1000) * 1000);
}

/** The time by the server's clock. */
export function serverNow(): number {
  return Date.now() + clockOffset.value;
}
