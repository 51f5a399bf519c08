// Runs the tests in a browser with the test runner of Node. They need a built waft, built guests and a Chromium: `cargo xtask
// dashboard --browser` names all three. Arguments go to the test runner, such as `--test-name-pattern=rolled`.

import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = await mkdtemp(join(root, "node_modules/.browser-"));
try {
  const names = (await readdir(join(root, "browser"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    entryPoints: names.map((name) => join(root, "browser", name)),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = names.map((name) => join(folder, name.replace(/\.ts$/, ".mjs")));
  const options = ["--test", "--test-reporter=spec", "--test-concurrency=1", ...process.argv.slice(2)];
  const ended = spawnSync(process.execPath, [...options, ...files], { stdio: "inherit" });
  process.exitCode = ended.status ?? 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
