// Makes the types of the API from its description; with `--check`, compares them with those in git.

import { readFile, writeFile } from "node:fs/promises";
import openapi, { astToString } from "openapi-typescript";

const description = new URL("../../docs/openapi.json", import.meta.url);
const path = new URL("../src/api/schema.ts", import.meta.url);

const head = "// Made from docs/openapi.json by `npm run types`: do not edit.\n\n";
const text = head + astToString(await openapi(description, { exportType: false, alphabetize: true }));

if (process.argv.includes("--check")) {
  const known = await readFile(path, "utf8").catch(() => "");
  if (known !== text) {
    console.error("error: src/api/schema.ts is not that of docs/openapi.json: run `cargo xtask dashboard`, and commit what it writes");
    process.exit(1);
  }
} else {
  await writeFile(path, text);
}
