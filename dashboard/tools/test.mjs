// Runs the unit tests with the test runner of Node, which reads no TypeScript: they are bundled first.

import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

async function bundleTests(folder, entries) {
  await build({
    entryPoints: entries,
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "inline",
    logLevel: "warning",
  });
}

const root = fileURLToPath(new URL("..", import.meta.url));
// Inside of the project, so that its packages are found.
const folder = await mkdtemp(join(root, "node_modules/.tests-"));
try {
  const names = (await readdir(join(root, "tests"))).filter((name) => name.endsWith(".test.ts"));
  await bundleTests(folder, names.map((name) => join(root, "tests", name)));
  const files = names.map((name) => join(folder, name.replace(/\.ts$/, ".mjs")));
  const ended = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...files], { stdio: "inherit" });
  process.exitCode = ended.status ?? 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
