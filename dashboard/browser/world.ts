// A real server with real runs, and a browser that looks at it.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Locator, type Page } from "playwright-core";

import { DEADLY } from "./flows.ts";

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

/** The names of the runs in the list of runs. */
export const RUN_LINKS = ".runs-table .run-link";

/** The token that may do everything on the servers that have tokens. */
export const OWNER_TOKEN = "the-token-of-the-server";

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

  /** Makes a token with some scopes, and returns its secret. */
  async makeToken(name: string, ...scopes: string[]): Promise<string> {
    return (await this.api<{ secret: string }>("POST", "/v1/tokens", { name, scopes })).secret;
  }

  /** Submits runs whose jobs are in quarantine at the end: the server is killed while it makes their calls, and started again. */
  async quarantine(...runs: string[]): Promise<void> {
    for (const run of runs) await this.submit(run, DEADLY);
    type Calls = { workers: { calls?: { run: string }[] }[] };
    await until(async () => {
      const { workers } = await this.api<Calls>("GET", "/v1/workers");
      return workers.flatMap(({ calls = [] }) => calls).length === runs.length;
    }, "all calls run");
    await this.end("SIGKILL");
    await this.startAgain();
    await until(async () => {
      const { messages } = await this.api<{ messages: unknown[] }>("GET", "/v1/quarantine");
      return messages.length === runs.length;
    }, "the jobs are given up");
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
async function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: variable("WAFT_TEST_BROWSER"), args: FLAGS, headless: true });
}

/** A browser and a server with the guest `hostile`, for the tests of one `describe`. */
export class World {
  private startedBrowser: Browser | null = null;
  private startedServer: Server | null = null;
  private constructor() {}

  /** Called in a `describe`: both start before its tests, and end after them. Calls that do not end need a SIGKILL. */
  static start(options: { token?: string; signal?: "SIGTERM" | "SIGKILL"; setUp?: (server: Server) => Promise<void> } = {}): World {
    const { token = "", signal = "SIGTERM", setUp } = options;
    const world = new World();
    before(async () => {
      world.startedBrowser = await startBrowser();
      world.startedServer = await Server.start({ token });
      await world.server.push("hostile");
      await setUp?.(world.server);
    });
    after(async () => {
      await world.startedBrowser?.close();
      await world.startedServer?.stop(signal);
    });
    return world;
  }

  get server(): Server {
    assert.ok(this.startedServer, "the server starts before the tests");
    return this.startedServer;
  }

  /** Opens a page of the server in a profile of its own. */
  async open(path: string, options: BrowserContextOptions = {}): Promise<Looker> {
    assert.ok(this.startedBrowser, "the browser starts before the tests");
    return Looker.open(this.startedBrowser, this.server, path, options);
  }
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

  /** The prompt for a token. */
  get tokenPrompt(): Locator {
    return this.page.getByRole("dialog", { name: "This server needs a token" });
  }

  /** Enters a token into the prompt for it. */
  async enterToken(secret: string): Promise<void> {
    await this.tokenPrompt.getByLabel("Token").fill(secret);
    await this.tokenPrompt.getByRole("button", { name: "Continue" }).click();
  }

  /** Gives a command by a button and the button of its dialog, which closes then. */
  async command(button: string, confirm: string): Promise<void> {
    await this.page.getByRole("button", { name: button }).click();
    const dialog = this.page.getByRole("dialog");
    await dialog.getByRole("button", { name: confirm }).click();
    await dialog.waitFor({ state: "detached" });
  }

  /** The text of what has the focus. */
  async focused(): Promise<string> {
    return this.page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
  }

  /** The selected text of the field that has the focus. */
  async selection(): Promise<string> {
    return this.page.evaluate(() => {
      const field = document.activeElement;
      return field instanceof HTMLTextAreaElement ? field.value.slice(field.selectionStart, field.selectionEnd) : "";
    });
  }

  /** Goes on with the key Tab until something with this text has the focus. */
  async tabTo(text: string): Promise<void> {
    for (let tries = 0; tries < 80; tries += 1) {
      if ((await this.focused()) === text) return;
      await this.page.keyboard.press("Tab");
    }
    assert.fail(`no key leads to ${text}`);
  }

  /** Fails if a text of an attacker is markup in a part of the page, or hides its characters. */
  async checkTexts(part: Locator, place: string): Promise<void> {
    const text = part.getByText("<script>alert(2)</script>").first();
    await text.waitFor();
    const content = (await text.textContent()) ?? "";
    assert.ok(content.includes("\\x1b[31mred"), `${place}: ${content}`);
    assert.ok(content.includes("\\u{202e}gnp.exe"), `${place}: ${content}`);
    assert.equal(await part.locator("script, img").count(), 0, place);
  }

  /** Fails if a text of an attacker has become an element. */
  async checkNoMarkup(place: string): Promise<void> {
    assert.equal(await this.page.locator("main script, main img").count(), 0, place);
  }

  /** Fails if the page is wider than its window. */
  async checkWidth(place: string): Promise<void> {
    const [needed, width] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth] as const);
    assert.ok(needed <= width, `${place} needs ${needed}, and has ${width}`);
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
