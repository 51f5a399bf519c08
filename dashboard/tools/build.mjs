// Builds the files that the server embeds: into its folder, or with `--check` into memory, to compare them with that folder.

import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = fileURLToPath(new URL("../../runtime/server/assets/dashboard", import.meta.url));

/** The most bytes that a browser may have to load, compressed. */
const MAX_BYTES = 200_000;

const common = { absWorkingDir: root, bundle: true, minify: true, write: false, logLevel: "warning", legalComments: "none", charset: "utf8" };

async function script(entry, name) {
  const built = await build({
    ...common,
    entryPoints: [entry],
    format: "esm",
    target: ["chrome123", "firefox120", "safari17.5"],
    jsx: "automatic",
    jsxImportSource: "preact",
  });
  return [name, built.outputFiles[0].contents];
}

async function style(entry, name) {
  const built = await build({ ...common, entryPoints: [entry], target: ["chrome123", "firefox121", "safari17.5"] });
  return [name, built.outputFiles[0].contents];
}

const copy = async (name) => [name, await readFile(new URL(`../src/${name}`, import.meta.url))];

const files = await Promise.all([
  copy("index.html"),
  copy("icon.svg"),
  script("src/main.tsx", "app.js"),
  script("src/theme-early.ts", "theme.js"),
  script("src/layout-worker.ts", "layout.js"),
  style("src/style/app.css", "app.css"),
]);

const check = process.argv.includes("--check");
const stale = [];
let total = 0;
await mkdir(target, { recursive: true });
for (const [name, contents] of files) {
  const path = `${target}/${name}`;
  const plain = Buffer.from(contents);
  if (check) {
    // Versions of zlib compress differently: what counts is what a browser unpacks.
    const known = await readFile(path).catch(() => null);
    const packed = await readFile(`${path}.gz`).then(gunzipSync).catch(() => null);
    if (!known?.equals(plain) || !packed?.equals(plain)) stale.push(name);
    continue;
  }
  const packed = gzipSync(plain, { level: 9 });
  total += packed.length;
  // An unchanged file keeps its compressed form too.
  const known = await readFile(path).catch(() => null);
  const unpacked = await readFile(`${path}.gz`).then(gunzipSync).catch(() => null);
  if (known?.equals(plain) && unpacked?.equals(plain)) continue;
  await writeFile(path, plain);
  await writeFile(`${path}.gz`, packed);
}
if (stale.length) {
  console.error(`error: ${stale.join(", ")} of the dashboard differ from their sources: run \`cargo xtask dashboard\`, and commit what it builds`);
  process.exit(1);
}
if (total > MAX_BYTES) {
  console.error(`error: the dashboard takes ${total} bytes compressed, and may take ${MAX_BYTES}`);
  process.exit(1);
}
console.log(check ? "the built dashboard is that of its sources" : `built the dashboard: ${total} bytes compressed`);
