// The theme: that of the system, or the one that the reader chose.

import { Store } from "./store.ts";

export type Theme = "system" | "light" | "dark";

const KEY = "waft-theme";

export const theme = new Store<Theme>(read());

function read(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

/** Chooses a theme, for all visits. */
export function chooseTheme(chosen: Theme): void {
  theme.set(chosen);
  try {
    if (chosen === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  if (chosen === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = chosen;
}
