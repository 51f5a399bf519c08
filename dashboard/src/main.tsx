// Starts the page.

import { render } from "preact";

import { App } from "./app.tsx";
import { go, startRouter } from "./router.ts";

if (location.pathname === "/" || location.pathname === "/ui" || location.pathname === "/ui/") go("/ui/runs", "replace");
startRouter();
const root = document.getElementById("app");
if (root) render(<App />, root);
