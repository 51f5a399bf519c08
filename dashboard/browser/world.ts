// A real server with real runs, and a browser that looks at it.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** How long something may take that happens by itself, in milliseconds: tests share a machine. */
export const PATIENCE = 30_000;

function variable(name: string): string {
  const value = process.env[name];
  assert.ok(value, `set ${name}, or run \`cargo xtask dashboard --browser\`, which does`);
  return value;
}

/** A `waft serve` with its own folder, which it keeps when it is started again. */
export class Server {
  private constructor(
    private readonly folder: string,
    private readonly token: string,
    private child: ChildProcess,
    public port: number,
  ) {}

  static async start({ token = "" } = {}): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), "waft-dashboard-"));
    const { child, port } = await launch(folder, token, 0);
    return new Server(folder, token, child, port);
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it again at the same address. */
  async restart(): Promise<void> {
    await this.end();
    await this.startAgain();
  }

  async startAgain(): Promise<void> {
    this.child = (await launch(this.folder, this.token, this.port)).child;
  }

  /** Ends the process. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await ended;
  }

  /** Ends the process, and removes its folder. Calls that never end are not waited for after a SIGKILL. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    await this.end(signal);
    await rm(this.folder, { recursive: true, force: true });
  }

  async api<Answer>(method: string, path: string, body?: unknown, token = this.token): Promise<Answer> {
    const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
    const isBytes = body instanceof Uint8Array;
    if (body !== undefined) headers["content-type"] = isBytes ? "application/wasm" : "application/json";
    const content = body === undefined ? null : isBytes ? (body as BodyInit) : JSON.stringify(body);
    const response = await fetch(this.address + path, { method, headers, body: content });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : null) as Answer;
  }

  /** Uploads a built guest under its name. */
  async push(name: string): Promise<void> {
    const bytes = await readFile(join(variable("WAFT_TEST_GUESTS"), `${name}.wasm`));
    await this.api("POST", `/v1/modules?tag=${name}`, new Uint8Array(bytes));
  }

  async submit(run: string, flow: string, inputs: object = {}, labels: object = {}): Promise<void> {
    await this.api("POST", "/v1/runs", { run, flow, inputs, labels });
  }

  async state(run: string): Promise<string> {
    return (await this.api<{ state: string }>("GET", `/v1/runs/${run}`)).state;
  }

  /** Waits until a run is in one of the states. */
  async waitFor(run: string, ...states: string[]): Promise<void> {
    await until(async () => states.includes(await this.state(run)), `${run} is ${states.join(" or ")}`);
  }
}

/** Waits until something is so; if it never is, the failure says what was expected, and what is so `instead`. */
export async function until(isSo: () => Promise<boolean>, what: string, instead = () => ""): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `in vain waited until ${what} ${instead()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function launch(folder: string, token: string, port: number): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(
    variable("WAFT_TEST_BINARY"),
    ["serve", "--listen", `127.0.0.1:${port}`, "--store", join(folder, "store"), "--logbook", `sqlite:${join(folder, "logbook.db")}`, "--slots", "4"],
    {
      cwd: folder,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: folder,
        XDG_CONFIG_HOME: join(folder, "configuration"),
        XDG_DATA_HOME: join(folder, "data"),
        XDG_STATE_HOME: join(folder, "state"),
        WAFT_CACHE: join(tmpdir(), "waft-tests-cache"),
        ...(token ? { WAFT_TOKEN: token } : {}),
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let output = "";
  const found = await new Promise<number>((resolve, reject) => {
    const read = (piece: Buffer) => {
      output += piece.toString();
      const match = /waft listens on http:\/\/127\.0\.0\.1:(\d+)/.exec(output);
      if (match) resolve(Number(match[1]));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("exit", () => reject(new Error(`waft serve ended: ${output}`)));
  });
  return { child, port: found };
}

/** A browser with an empty profile. */
export async function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: variable("WAFT_TEST_BROWSER"), args: FLAGS, headless: true });
}

/** A page, which fails the test for each error and each request to another host. */
export class Looker {
  readonly problems: string[] = [];
  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    private readonly server: Server,
  ) {}

  static async open(browser: Browser, server: Server, path: string, options: BrowserContextOptions = {}): Promise<Looker> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-US", timezoneId: "Europe/Berlin", ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const looker = new Looker(context, page, server);
    page.on("pageerror", (error) => looker.problems.push(`error: ${error.message}`));
    page.on("request", (request) => {
      const address = request.url();
      if (!address.startsWith(server.address) && !address.startsWith("blob:")) looker.problems.push(`request to ${address}`);
    });
    page.on("console", (message) => {
      // The browser itself notes refused and lost requests.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) looker.problems.push(message.text());
    });
    page.on("dialog", (dialog) => {
      looker.problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.goto(server.address + path);
    return looker;
  }

  async goto(path: string): Promise<void> {
    await this.page.goto(this.server.address + path);
  }

  /**
   * Waits until these elements are there with exactly these texts.
   *
   * A page that loads other rows shows none for a moment: to look once would be a matter of luck.
   */
  async shows(selector: string, expected: string[]): Promise<void> {
    let last: string[] = [];
    const isSo = async () => {
      last = (await this.page.locator(selector).allInnerTexts()).map((text) => text.trim());
      return isDeepStrictEqual(last, expected);
    };
    await until(isSo, `${selector} shows ${JSON.stringify(expected)}`, () => `it shows ${JSON.stringify(last)}`);
  }

  /** Takes a picture, if somebody wants pictures. */
  async picture(name: string): Promise<void> {
    const folder = process.env["WAFT_DASHBOARD_PICTURES"];
    if (folder) await this.page.screenshot({ path: join(folder, `${name}.png`) });
  }

  /** Fails if a reader with special needs could not use the page. */
  async checkAccess(what: string): Promise<void> {
    const script = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    // The script stands outside of what the page may load: it is put in by the browser's tools.
    await this.page.evaluate(script);
    const found = await this.page.evaluate(async () => {
      type Axe = { run: (root: Document, options: object) => Promise<{ violations: { id: string; help: string; nodes: { html: string; failureSummary?: string }[] }[] }> };
      const { axe } = globalThis as unknown as { axe: Axe };
      const { violations } = await axe.run(document, { resultTypes: ["violations"] });
      return violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 4).map((node) => `  ${node.html.slice(0, 220)}\n  ${node.failureSummary ?? ""}`).join("\n")}`);
    });
    assert.deepEqual(found, [], `${what}:\n${found.join("\n")}`);
  }

  /** Ends, and fails if something went wrong on the page. */
  async close(): Promise<void> {
    await this.context.close();
    assert.deepEqual(this.problems, []);
  }
}
