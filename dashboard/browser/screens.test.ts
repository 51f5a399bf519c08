// What an operator sees of flows, schedules, queues, workers, the quarantine and the audit log, and what they do there with many runs.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { APPROVAL, CLOCK, ENDLESS, HOSTILE_TEXT, NIGHTLY, waiting } from "./flows.ts";
import { OWNER_TOKEN, RUN_LINKS, until, World } from "./world.ts";

describe("the screens of an operator", { timeout: 600_000 }, () => {
  const world = World.start();

  test("each flow has the numbers of its runs by state, and its latest runs", async () => {
    const looker = await world.open("/ui/flows");
    const { page } = looker;
    await page.getByText("No flow has a run yet").waitFor();
    for (const run of ["approval-1", "approval-2"]) await world.server.submit(run, APPROVAL);
    await world.server.api("POST", "/v1/runs/approval-2/cancel");
    await world.server.waitFor("approval-2", "rolled-back");
    await world.server.submit("waits-1", waiting("waits"));
    await looker.goto("/ui/flows");
    await looker.shows(".state-counts a", ["1 running", "1 rolled-back", "1 running"]);
    await looker.shows(".opener", ["shop/approval", "waits"]);
    await page.getByRole("button", { name: "Show shop/approval" }).click();
    await looker.shows(".latest-runs .run-link", ["approval-2", "approval-1"]);
    assert.match(page.url(), /\/ui\/flows\?open=shop\/approval$/);
    await looker.checkAccess("flows");
    // A number leads to the runs that it counts.
    await page.getByRole("link", { name: "1 rolled-back" }).click();
    await page.waitForURL("**/ui/runs?state=rolled-back&flow=shop/approval");
    await looker.shows(RUN_LINKS, ["approval-2"]);
    await page.goBack();
    await page.getByRole("link", { name: "2 runs of shop/approval" }).click();
    await page.waitForURL("**/ui/runs?flow=shop/approval");
    // The address alone says it all.
    await looker.goto("/ui/flows?namespace=shop&since=1h&open=shop/approval");
    await looker.shows(".opener", ["shop/approval"]);
    await looker.shows(".latest-runs .run-link", ["approval-2", "approval-1"]);
    assert.equal(await page.getByLabel("Started").inputValue(), "1h");
    await page.getByRole("link", { name: "Clear" }).click();
    await looker.shows(".opener", ["shop/approval", "waits"]);
    await page.getByLabel("Name", { exact: true }).fill("WAIT");
    await page.keyboard.press("Enter");
    await looker.shows(".opener", ["waits"]);
    await looker.goto(`/ui/flows?name=${encodeURIComponent(HOSTILE_TEXT)}&open=${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByText("No flow matches").waitFor();
    await looker.checkNoMarkup(page.url());
    await looker.close();
  });

  test("many runs are commanded after a look at which they are", async () => {
    const names = ["many-3", "many-2", "many-1"];
    for (const run of [...names].reverse()) await world.server.submit(run, waiting("many"), {}, { team: "shop" });
    const looker = await world.open("/ui/runs?flow=many&label=team=shop");
    const { page } = looker;
    await looker.shows(RUN_LINKS, names);
    await page.getByRole("button", { name: "Command these runs…" }).click();
    const dialog = page.getByRole("dialog", { name: "Command many runs" });
    await dialog.getByText("flow: many").waitFor();
    await dialog.getByText("label: team=shop").waitFor();
    await dialog.getByLabel("Command").selectOption("cancel");
    await dialog.getByText("This cannot be taken back.").waitFor();
    await looker.checkAccess("the choice of a command");
    await dialog.getByRole("button", { name: "Show which runs" }).click();
    await dialog.getByText("Cancel 3 runs?").waitFor();
    await looker.shows("dialog .bulk-runs a", names);
    await looker.checkAccess("the preview of a command");
    assert.equal(await world.server.state("many-1"), "running", "a look does nothing");
    // Another number of runs than a person has seen is commanded only on purpose.
    await world.server.api("POST", "/v1/runs/many-3/cancel");
    await world.server.waitFor("many-3", "rolled-back");
    await dialog.getByRole("button", { name: "Cancel 3 runs" }).click();
    await dialog.getByText("the runs have changed meanwhile").waitFor();
    assert.equal(await world.server.state("many-1"), "running");
    await looker.checkAccess("another number of runs");
    await dialog.getByRole("button", { name: "Look again" }).click();
    await dialog.getByText("Cancel 2 runs?").waitFor();
    await dialog.getByRole("button", { name: "Back" }).click();
    await dialog.getByLabel("Command").selectOption("suspend");
    await dialog.getByRole("button", { name: "Show which runs" }).click();
    await dialog.getByText("Suspend 2 runs?").waitFor();
    await world.server.api("POST", "/v1/runs/many-2/suspend");
    await world.server.waitFor("many-2", "suspended");
    await dialog.getByRole("button", { name: "Suspend 2 runs" }).click();
    await dialog.getByRole("button", { name: "Suspend those that match now" }).click();
    await dialog.getByText("The command is recorded for 1 run.").waitFor();
    await looker.checkAccess("the result of a command");
    await dialog.getByRole("button", { name: "Done" }).click();
    await dialog.waitFor({ state: "detached" });
    await looker.shows(".runs-table .state", ["rolled-back", "suspended", "suspended"]);
    assert.equal(await world.server.state("waits-1"), "running", "other runs go on");
    // Without a filter, the page says that these are all runs.
    await looker.goto("/ui/runs");
    await page.getByRole("button", { name: "Command these runs…" }).click();
    await dialog.getByText("No filter is set: these are all runs.").waitFor();
    await dialog.getByLabel("Command").selectOption("resume");
    await dialog.getByRole("button", { name: "Show which runs" }).click();
    await dialog.getByRole("button", { name: "Resume 2 runs" }).click();
    await dialog.getByText("The command is recorded for 2 runs.").waitFor();
    await world.server.waitFor("many-1", "running");
    // Only the commands that the states of the filter take are offered.
    await looker.goto("/ui/runs?state=success");
    await page.getByRole("button", { name: "Command these runs…" }).click();
    await dialog.getByText("Runs in these states take no command.").waitFor();
    await looker.goto("/ui/runs?state=suspended");
    await page.getByRole("button", { name: "Command these runs…" }).click();
    await looker.shows("dialog option", ["Resume", "Cancel"]);
    await dialog.getByRole("button", { name: "Show which runs" }).click();
    await dialog.getByText("No run of the filter is in a state for this command.").waitFor();
    await looker.close();
  });

  test("the conditions of a command are texts", async () => {
    const looker = await world.open(`/ui/runs?text=${encodeURIComponent(HOSTILE_TEXT)}`);
    const { page } = looker;
    await page.getByRole("button", { name: "Command these runs…" }).click();
    const dialog = page.getByRole("dialog", { name: "Command many runs" });
    await looker.checkTexts(dialog, "the conditions");
    await dialog.getByRole("button", { name: "Show which runs" }).click();
    // The server refuses the text, and the dialog stays.
    await dialog.getByRole("alert").waitFor();
    await dialog.getByRole("button", { name: "Show which runs" }).waitFor();
    await looker.close();
  });

  test("many runs are commanded with keys alone", async () => {
    await world.server.submit("keys-1", waiting("keys"));
    const looker = await world.open("/ui/runs?flow=keys");
    const { page } = looker;
    await looker.shows(RUN_LINKS, ["keys-1"]);
    await page.locator("main").focus();
    await looker.tabTo("Command these runs…");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await until(async () => (await looker.focused()) === "Command these runs…", "the button has the focus again");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await looker.tabTo("Show which runs");
    await page.keyboard.press("Enter");
    await page.getByText("Suspend 1 run?").waitFor();
    await looker.tabTo("Suspend 1 run");
    await page.keyboard.press("Enter");
    await page.getByText("The command is recorded for 1 run.").waitFor();
    await looker.tabTo("Done");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await looker.shows(".runs-table .state", ["suspended"]);
    await looker.close();
  });

  test("a worker is drained and resumed, and each engine has its shards", async () => {
    const looker = await world.open("/ui/workers");
    const { page } = looker;
    await looker.shows(".workers-table .state", ["active"]);
    await page.locator(".workers-table .opener").click();
    await looker.command("Drain…", "Drain the worker");
    await looker.shows(".workers-table .state", ["draining"]);
    // The only worker of a server cannot exit: the refusal stays in the dialog.
    await page.getByRole("button", { name: "Drain and exit…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drain, then exit" }).click();
    await page.getByRole("dialog").getByText("the worker cannot exit").waitFor();
    await looker.checkAccess("a refused command to a worker");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    // Whoever opens the address sees the same.
    await page.reload();
    await looker.command("Resume…", "Resume the worker");
    await looker.shows(".workers-table .state", ["active"]);
    await page.locator(".engines-table .opener").click();
    const shards = page.locator('[aria-label^="Shards of"] li');
    await until(async () => (await shards.count()) === 8, "the engine drives all shards");
    assert.match(page.url(), /open=.*engine=/);
    await looker.checkAccess("workers and engines");
    await looker.close();
  });

  test("the audit log shows who did what, page by page", async () => {
    await world.server.submit("audited-1", waiting("audited"));
    await world.server.api("POST", "/v1/runs/audited-1/suspend");
    // Whoever sends a request chooses what it is about.
    await world.server.api("DELETE", `/v1/quarantine?id=${encodeURIComponent(HOSTILE_TEXT)}`);
    const looker = await world.open("/ui/audit");
    const { page } = looker;
    await looker.checkTexts(page.locator("main"), "the audit log");
    await looker.checkAccess("audit");
    await page.getByLabel("About").fill("audited-1");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/ui/audit?subject=audited-1");
    await looker.shows(".audit-table tbody td:nth-child(3)", ["suspend", "submit"]);
    await page.locator(".audit-table").getByRole("link", { name: "audited-1" }).first().click();
    await page.waitForURL("**/ui/runs/audited-1");
    for (let number = 0; number < 101; number += 1) await world.server.api("DELETE", `/v1/quarantine?id=none-${number}`);
    await looker.goto("/ui/audit");
    await page.getByRole("link", { name: "Older" }).click();
    await page.waitForURL("**/ui/audit?after=*");
    await looker.checkTexts(page.locator("main"), "the older entries");
    await page.getByRole("link", { name: "Newest" }).click();
    await page.locator(".audit-table").getByText("none-100").waitFor();
    await looker.goto(`/ui/audit?subject=${encodeURIComponent("<img src=x>")}`);
    await page.getByText("No entry is about this").waitFor();
    await looker.close();
  });

  test("the texts of messages in quarantine are texts", async () => {
    const looker = await world.open("/ui/quarantine");
    const { page } = looker;
    await page.getByText("The quarantine is empty").waitFor();
    await looker.checkAccess("an empty quarantine");
    // Whoever may publish at the broker chooses all texts of a message, and several may have one id. This server has no broker at which a
    // test could publish, so the list is a made one. The commands go to the server, which has no such message.
    const messages = [
      { id: HOSTILE_TEXT, queue: HOSTILE_TEXT, reason: HOSTILE_TEXT, headers: { [HOSTILE_TEXT]: HOSTILE_TEXT, run: HOSTILE_TEXT }, more_headers: 3, size: 2048 },
      { id: HOSTILE_TEXT, reason: "delivery_limit", size: 0 },
    ];
    await looker.context.route("**/v1/quarantine", (route) => route.fulfill({ json: { messages, unread: 7 } }));
    await looker.goto(`/ui/quarantine?open=${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByText("7 more messages follow these").waitFor();
    await until(async () => (await page.locator(".detail-row").count()) === 2, "both messages with the id are open");
    await looker.checkTexts(page.locator(".quarantine-table"), "the messages");
    await looker.checkTexts(page.locator(".detail-row").first(), "the details of a message");
    await page.getByText("2 KiB").waitFor();
    await page.locator(".detail-row").getByText("3 headers").waitFor();
    await looker.checkAccess("hostile messages");
    await page.getByRole("button", { name: "Drop…" }).first().click();
    const dialog = page.getByRole("dialog", { name: "Drop 2 messages?" });
    await dialog.getByText("They all have this id.").waitFor();
    await looker.checkTexts(dialog, "the dialog");
    await looker.checkAccess("the dialog of a command to the quarantine");
    await dialog.getByRole("button", { name: "Drop 2 messages" }).click();
    await page.getByText("No message was dropped: none is there any more.").waitFor();
    await page.getByRole("link", { name: "Open the run that it names" }).click();
    await page.getByRole("alert").waitFor();
    await looker.checkNoMarkup(page.url());
    await looker.close();
  });

  test("readers with special needs can use each of these screens, in both themes and on narrow screens", async () => {
    await world.server.submit("nightly-1", NIGHTLY);
    const places = [
      ["flows?open=shop/approval", ".latest-runs li"],
      ["schedules", ".table"],
      ["queues", ".queues-table"],
      ["workers", ".engines-table"],
      ["quarantine", ".empty"],
      ["audit", ".audit-table"],
    ] as const;
    const sizes = [
      { colorScheme: "light", viewport: { width: 1280, height: 860 } },
      { colorScheme: "dark", viewport: { width: 1280, height: 860 } },
      { colorScheme: "light", viewport: { width: 375, height: 720 }, hasTouch: true },
    ] as const;
    for (const options of sizes) {
      const looker = await world.open("/ui/flows", options);
      const { page } = looker;
      const { width } = options.viewport;
      for (const [place, part] of places) {
        const what = `${place}, ${options.colorScheme}, ${width} wide`;
        await looker.goto(`/ui/${place}`);
        await page.locator(part).first().waitFor();
        await looker.checkWidth(what);
        // The link to the screen is in view, also in a line of links that scrolls.
        const link = await page.locator(".screens [aria-current]").boundingBox();
        assert.ok(link && link.x >= 0 && link.x + link.width <= width, what);
        await looker.checkAccess(what);
        await looker.picture(`${place.replace(/[^a-z]+.*/, "")}-${options.colorScheme}-${width}`);
      }
      await looker.goto("/ui/runs?flow=many");
      await page.getByRole("button", { name: "Command these runs…" }).click();
      await page.getByRole("button", { name: "Show which runs" }).click();
      await page.locator(".bulk-runs li").first().waitFor();
      await looker.checkAccess(`a command, ${options.colorScheme}, ${width} wide`);
      await looker.picture(`bulk-${options.colorScheme}-${width}`);
      await looker.close();
    }
  });
});

describe("the screens of a server with calls that do not end", { timeout: 300_000 }, () => {
  const world = World.start({ signal: "SIGKILL" });

  test("queues are shown, and which calls have permits and which wait", async () => {
    const looker = await world.open("/ui/queues");
    const { page } = looker;
    await page.getByText("No call holds a permit or waits for one").waitFor();
    await looker.shows(".queues-table tbody strong", ["default"]);
    await world.server.submit("endless-1", ENDLESS);
    await until(async () => {
      const { tasks } = await world.server.api<{ tasks: { given: number }[] }>("GET", "/v1/permits");
      return tasks[0]?.given === 1;
    }, "the first run has the permit");
    await world.server.submit("endless-2", ENDLESS);
    // The list shows it by itself.
    await page.getByRole("button", { name: "Show hold" }).click();
    await looker.shows('[aria-label="Calls with a permit"] a', ["endless-1"]);
    await looker.shows('[aria-label="Calls that wait"] a', ["endless-2"]);
    await page.getByRole("cell", { name: "1 of 1" }).waitFor();
    await looker.checkAccess("permits");
    // The address alone says it all.
    await page.reload();
    await looker.shows('[aria-label="Calls that wait"] a', ["endless-2"]);
    await page.getByRole("link", { name: "endless-2" }).click();
    await page.waitForURL("**/ui/runs/endless-2?task=hold");
    await looker.goto("/ui/queues?namespace=shop");
    await page.getByText("No queue is known").waitFor();
    await looker.goto(`/ui/queues?namespace=${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByRole("alert").first().waitFor();
    await looker.checkNoMarkup(page.url());
    await looker.close();
  });

  test("a worker shows its calls", async () => {
    const looker = await world.open("/ui/workers");
    const { page } = looker;
    await page.locator(".workers-table .opener").click();
    await page.locator('[aria-label="Calls"]').getByText("apply of hold in endless").waitFor();
    await looker.checkAccess("calls of a worker");
    await page.locator('[aria-label="Calls"]').getByRole("link", { name: "endless-1" }).click();
    await page.waitForURL("**/ui/runs/endless-1?task=hold");
    await looker.close();
  });

  test("schedules say when they fire next, and what they have not fired", async () => {
    const looker = await world.open("/ui/schedules");
    const { page } = looker;
    await page.getByText("No schedules").waitFor();
    await world.server.submit("nightly-1", NIGHTLY);
    await world.server.submit("clock-1", CLOCK);
    await until(async () => {
      const { schedules } = await world.server.api<{ schedules: { run: string; skipped?: { count: number }[] }[] }>("GET", "/v1/schedules");
      return schedules.length === 2 && schedules.some(({ skipped = [] }) => skipped.some(({ count }) => count > 1));
    }, "the clock has fired nothing twice");
    await looker.goto("/ui/schedules");
    await looker.shows(".table .run-link", ["clock-1", "nightly-1"]);
    const [clock, nightly] = [page.locator("tr", { hasText: "clock-1" }), page.locator("tr", { hasText: "nightly-1" })];
    await clock.getByText("an earlier firing was under way").waitFor();
    await clock.getByText("Europe/Berlin").waitFor();
    await nightly.getByText("0 3 * * *").waitFor();
    await nightly.locator("time").first().waitFor();
    await looker.checkAccess("schedules");
    await world.server.api("POST", "/v1/runs/nightly-1/suspend");
    await world.server.waitFor("nightly-1", "suspended");
    await looker.goto("/ui/schedules?flow=nightly");
    await looker.shows(".table .run-link", ["nightly-1"]);
    await nightly.getByText("not while the run is suspended").waitFor();
    await nightly.locator(".run-link").click();
    await page.waitForURL("**/ui/runs/nightly-1?task=tidy");
    await looker.goto(`/ui/schedules?flow=${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByRole("alert").waitFor();
    await looker.checkNoMarkup(page.url());
    await looker.close();
  });
});

describe("the quarantine of a server that was killed", { timeout: 300_000 }, () => {
  const world = World.start({ signal: "SIGKILL" });

  test("messages are shown, released and dropped", async () => {
    const names = ["deadly-1", "deadly-2", "deadly-3"];
    await world.server.quarantine(...names);
    const looker = await world.open("/ui/quarantine");
    const { page } = looker;
    const rows = page.locator(".quarantine-table .opener");
    const shown = (count: number) => until(async () => (await rows.count()) === count, `there are ${count} messages`);
    await shown(3);
    await page.locator(".quarantine-table").getByText("the job came back").first().waitFor();
    await rows.filter({ hasText: "deadly-1" }).click();
    await page.locator(".detail-row dd").getByText("deadly-1", { exact: true }).waitFor();
    await looker.checkAccess("quarantine");
    await looker.picture("quarantine");
    // The address alone says it all.
    assert.match(page.url(), /\?open=deadly-1/);
    await page.reload();
    await page.locator(".detail-row dd").getByText("deadly-1", { exact: true }).waitFor();
    // A dialog that is closed does nothing.
    await page.getByRole("button", { name: "Release…" }).click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Read again" }).click();
    await shown(3);
    await looker.command("Release…", "Release the message");
    await page.getByText("1 message was released.").waitFor();
    await shown(2);
    assert.equal(await rows.filter({ hasText: "deadly-1" }).count(), 0);
    // A message names its run.
    await rows.filter({ hasText: "deadly-2" }).click();
    await page.getByRole("link", { name: "Open the run that it names" }).click();
    await page.waitForURL("**/ui/runs/deadly-2?task=kill");
    await page.goBack();
    await looker.command("Drop…", "Drop the message");
    await page.getByText("1 message was dropped.").waitFor();
    await shown(1);
    await looker.command("Drop all…", "Drop all messages");
    await page.getByText("The quarantine is empty").waitFor();
    await looker.close();
  });
});

describe("the screens of a reader", { timeout: 300_000 }, () => {
  const world = World.start({ token: OWNER_TOKEN });

  test("what a token does not allow is refused, and everything else is shown", async () => {
    await world.server.submit("waits-1", waiting("waits"), { note: "one" });
    const secret = await world.server.makeToken("reader", "read");
    const looker = await world.open("/ui/audit");
    const { page } = looker;
    await looker.enterToken(secret);
    await page.getByRole("alert").getByText("this needs admin").waitFor();
    for (const link of ["Quarantine", "Audit"]) {
      await page.getByRole("link", { name: link }).click();
      await page.getByRole("heading", { level: 1, name: link }).waitFor();
      await page.getByRole("alert").getByText("this needs admin").waitFor();
    }
    await page.getByRole("link", { name: "Flows" }).click();
    await looker.shows(".opener", ["waits"]);
    await looker.goto("/ui/runs");
    await looker.shows(RUN_LINKS, ["waits-1"]);
    await page.getByRole("button", { name: "Command these runs…" }).click();
    await page.getByRole("button", { name: "Show which runs" }).click();
    await page.getByRole("dialog").getByText("this needs operate").waitFor();
    await page.keyboard.press("Escape");
    await looker.goto("/ui/workers");
    await page.locator(".workers-table .opener").click();
    await page.getByRole("button", { name: "Drain…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drain the worker" }).click();
    await page.getByRole("dialog").getByText("this needs operate").waitFor();
    // Neither an edit nor another run with other inputs.
    await looker.goto("/ui/runs/waits-1?view=revisions&edit=yes");
    await page.getByRole("textbox", { name: /^Edits/ }).fill('[[edit]]\nremove = "w"\n');
    await page.getByRole("button", { name: "Show what it would do" }).click();
    await page.getByRole("alert").getByText("this needs operate").waitFor();
    await world.server.api("POST", "/v1/runs/waits-1/cancel");
    await page.getByRole("button", { name: "Start with other inputs…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Start the run" }).click();
    await page.getByRole("dialog").getByText("this needs submit").waitFor();
    await looker.close();
  });
});
