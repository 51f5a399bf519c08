// What an operator does with the dashboard, in a real browser, with real runs of a real server.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { APPROVAL, HOSTILE, HOSTILE_TEXT, ORDER, PROVISION, SHOWCASE, STUCK, wide } from "./flows.ts";
import { OWNER_TOKEN, PATIENCE, RUN_LINKS, until, World } from "./world.ts";

describe("the dashboard", { timeout: 600_000 }, () => {
  const world = World.start();

  test("a run that succeeds is watched from its start to its end", async () => {
    const looker = await world.open("/");
    const { page } = looker;
    await page.waitForURL("**/ui/runs");
    await page.getByText("No runs yet").waitFor();
    await world.server.submit("order-1", ORDER, { text: "mixing the batter" });
    // The list shows it by itself.
    await page.getByRole("link", { name: "order-1" }).click();
    await page.getByRole("heading", { level: 1, name: "order" }).waitFor();
    const mix = page.locator(".node", { hasText: "mix" });
    const bake = page.locator(".node", { hasText: "bake" });
    await page.locator(".node.waiting", { hasText: "start" }).waitFor();
    await world.server.api("POST", "/v1/runs/order-1/notify", { task: "start" });
    await page.locator(".node.running", { hasText: "mix" }).waitFor();
    await page.locator(".node.success", { hasText: "mix" }).waitFor();
    await page.locator(".node.running", { hasText: "bake" }).waitFor();
    await page.locator(".link-group.active").waitFor({ state: "attached" });
    await page.locator(".node.success", { hasText: "bake" }).waitFor();
    await page.locator(".run-title .state.success").waitFor();
    assert.equal(await page.getByRole("button", { name: "Cancel…" }).count(), 0);
    const [left, right] = [await mix.boundingBox(), await bake.boundingBox()];
    assert.ok(left && right && left.x + left.width < right.x, "links lead to the right");
    // A task shows what it did.
    await bake.click();
    const panel = page.getByRole("complementary", { name: "Task bake" });
    await panel.getByText("baked_ms").waitFor();
    await panel.getByText("2500", { exact: true }).waitFor();
    // Each view has it.
    await page.getByRole("link", { name: "Timeline", exact: true }).click();
    await page.locator(".gantt-bar.outcome-success").first().waitFor();
    assert.equal(await page.locator(".gantt-rows .row").count(), 3);
    await page.getByRole("link", { name: "Events", exact: true }).click();
    await page.locator(".event-line", { hasText: "bake" }).first().waitFor();
    await page.getByRole("link", { name: "Logs", exact: true }).click();
    await page.locator(".log-line", { hasText: "mixing the batter" }).first().waitFor();
    await page.getByRole("link", { name: "Values", exact: true }).click();
    await page.locator(".value", { hasText: "mixed" }).getByText("mixing the batter").waitFor();
    await looker.close();
  });

  test("a run that fails is watched while it is rolled back", async () => {
    await world.server.submit("provision-1", PROVISION);
    const looker = await world.open("/ui/runs/provision-1");
    const { page } = looker;
    await page.locator(".node.waiting", { hasText: "start" }).waitFor();
    await world.server.api("POST", "/v1/runs/provision-1/notify", { task: "start" });
    // The rollback runs backwards. That of the server has to be tried again, and the network waits for it.
    await page.locator(".node.rolling-back", { hasText: "server" }).waitFor();
    await page.locator(".link-group.undoing").first().waitFor({ state: "attached" });
    await looker.picture("rollback");
    await page.locator(".node.success", { hasText: "network" }).waitFor();
    await page.locator(".node.rolled-back", { hasText: "server" }).waitFor();
    await page.locator(".node.rolling-back", { hasText: "network" }).waitFor();
    await page.locator(".node.rolled-back", { hasText: "network" }).waitFor();
    await page.locator(".run-title .state.rolled-back").waitFor();
    const notice = page.getByRole("region", { name: "How the run ended" });
    await notice.getByText("failed and was rolled back").waitFor();
    await notice.getByText("the name example is taken").waitFor();
    await page.getByRole("link", { name: "Timeline", exact: true }).click();
    await page.locator(".gantt-bar.rollback").first().waitFor();
    await page.locator(".gantt-bar.pause").first().waitFor();
    await looker.picture("timeline");
    await looker.close();
  });

  test("a run is suspended, resumed, cancelled and started anew by buttons", async () => {
    await world.server.submit("approval-1", APPROVAL);
    const looker = await world.open("/ui/runs/approval-1");
    const { page } = looker;
    await looker.command("Suspend…", "Suspend the run");
    await page.locator(".run-title .state.suspended").waitFor();
    await looker.command("Resume…", "Resume the run");
    await page.locator(".run-title .state.running").waitFor();
    // A dialog that is closed does nothing.
    await page.getByRole("button", { name: "Cancel…" }).click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await world.server.state("approval-1"), "running");
    await looker.command("Cancel…", "Cancel the run");
    await page.locator(".run-title .state.rolled-back").waitFor();
    assert.equal(await world.server.state("approval-1"), "rolled-back");
    await looker.command("Retry…", "Start it anew");
    await page.locator(".run-title .state.running").waitFor();
    await page.locator(".node.waiting", { hasText: "approve" }).waitFor();
    await looker.close();
  });

  test("a waiting task is notified by a form for its values", async () => {
    await world.server.submit("approval-2", APPROVAL);
    const looker = await world.open("/ui/runs/approval-2");
    const { page } = looker;
    await page.getByText("waits for a manager's approval").waitFor();
    await page.getByRole("button", { name: "Notify…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("by").fill("eve");
    await dialog.getByText("sent as text").waitFor();
    await dialog.getByLabel("limit").fill("12345678901234567890");
    await dialog.getByText("sent as JSON").waitFor();
    await dialog.getByRole("button", { name: "Notify" }).click();
    await page.locator(".run-title .state.success").waitFor();
    await page.getByRole("link", { name: "Values", exact: true }).click();
    // No digit is lost on the way there and back.
    await page.locator(".value", { hasText: "limit" }).getByText("12345678901234567890").waitFor();
    const shown = await fetch(`${world.server.address}/v1/runs/approval-2/values/by`);
    assert.equal(await shown.text(), '"eve"');
    // A refusal stays in the form.
    await world.server.submit("approval-3", APPROVAL);
    await looker.goto("/ui/runs/approval-3");
    await page.getByRole("button", { name: "Notify…" }).click();
    await world.server.api("POST", "/v1/runs/approval-3/cancel");
    await page.getByRole("dialog").getByLabel("Let the task fail instead").check();
    await page.getByRole("dialog").getByLabel("Why it fails").fill("no");
    await page.getByRole("dialog").getByRole("button", { name: "Let it fail" }).click();
    await page.getByRole("dialog").getByRole("alert").waitFor();
    assert.equal(await page.getByLabel("Why it fails").inputValue(), "no");
    await looker.close();
  });

  test("a failed rollback is skipped with a reason", async () => {
    await world.server.submit("stuck-1", STUCK);
    const looker = await world.open("/ui/runs/stuck-1");
    const { page } = looker;
    const notice = page.getByRole("region", { name: "How the run ended" });
    await notice.getByText("failed and needs a person").waitFor();
    await notice.getByText("could not be rolled back").waitFor();
    await notice.getByText("the card was refused", { exact: true }).waitFor();
    await notice.getByRole("button", { name: /Skip reserve/ }).click();
    await page.getByLabel("Reason").fill("released by phone");
    await page.getByRole("dialog").getByRole("button", { name: "Skip the rollback" }).click();
    await page.locator(".run-title .state.rolled-back").waitFor();
    await page.locator(".node", { hasText: "reserve" }).click();
    await page.getByRole("complementary").getByText("released by phone").waitFor();
    await looker.close();
  });

  test("the filters of the list are in the address", async () => {
    const looker = await world.open("/ui/runs");
    const { page } = looker;
    await page.getByRole("link", { name: "order-1" }).waitFor();
    await page.getByRole("group", { name: "State" }).getByRole("button", { name: "success" }).click();
    await page.waitForURL("**/ui/runs?state=success");
    await page.getByRole("link", { name: "provision-1" }).waitFor({ state: "detached" });
    await page.getByLabel("Flow").fill("order");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/ui/runs?state=success&flow=order");
    await looker.shows(RUN_LINKS, ["order-1"]);
    await page.getByLabel("Started").selectOption("1h");
    await page.waitForURL("**since=1h");
    await page.goBack();
    await page.goBack();
    await page.waitForURL("**/ui/runs?state=success");
    await page.getByRole("link", { name: "approval-2" }).waitFor();
    // The address alone says it all.
    await looker.goto("/ui/runs?namespace=shop&state=running,success");
    await page.getByRole("link", { name: "approval-2" }).waitFor();
    assert.equal(await page.getByRole("link", { name: "order-1" }).count(), 0);
    assert.equal(await page.getByLabel("Namespace").inputValue(), "shop");
    await page.getByRole("link", { name: "Clear" }).click();
    await page.waitForURL("**/ui/runs");
    await looker.goto("/ui/runs?flow=nothing");
    await page.getByText("No run matches").waitFor();
    await looker.close();
  });

  test("runs are found by their labels and by texts", async () => {
    await world.server.submit("labelled-1", APPROVAL, {}, { team: "shop", note: "a <b>label</b> with spaces" });
    await world.server.submit("labelled-2", APPROVAL, {}, { team: "shop" });
    const looker = await world.open("/ui/runs");
    const { page } = looker;
    await page.getByRole("link", { name: "order-1" }).waitFor();
    await page.locator(".runs-table .labels").getByText("note=a <b>label</b> with spaces").waitFor();
    const field = page.getByLabel("Label", { exact: true });
    await field.fill("team=shop");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/ui/runs?label=team=shop");
    await looker.shows(RUN_LINKS, ["labelled-2", "labelled-1"]);
    assert.equal(await field.inputValue(), "");
    await field.fill("note");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/ui/runs?label=team=shop&label=note");
    await looker.shows(RUN_LINKS, ["labelled-1"]);
    await looker.checkAccess("labels");
    await page.getByRole("button", { name: "Remove the label team=shop" }).click();
    await page.waitForURL("**/ui/runs?label=note");
    // The label of a run leads to all runs with it.
    await page.getByRole("link", { name: "labelled-1" }).click();
    await page.getByRole("link", { name: "team=shop" }).click();
    await page.waitForURL("**/ui/runs?label=team=shop");
    await page.getByRole("link", { name: "labelled-2" }).waitFor();
    await looker.goto("/ui/runs?text=labelled-1");
    await looker.shows(RUN_LINKS, ["labelled-1"]);
    await looker.goto("/ui/runs?label=No+label");
    await page.getByRole("alert").waitFor();
    await looker.close();
  });

  test("the list has pages", async () => {
    for (let number = 0; number < 52; number += 1) await world.server.submit(`many-${number}`, 'name = "many"\n[[task]]\nname = "w"\nwait = "a word"\n');
    const looker = await world.open("/ui/runs?flow=many");
    const { page } = looker;
    await page.getByRole("link", { name: "Older" }).click();
    await page.getByRole("link", { name: "many-1", exact: true }).waitFor();
    assert.equal(await page.locator(".runs-table tbody tr").count(), 2);
    await page.getByRole("link", { name: "Newest" }).click();
    await page.getByRole("link", { name: "many-51" }).waitFor();
    await looker.close();
  });

  test("a server that starts again heals the page by itself", async () => {
    await world.server.submit("approval-4", APPROVAL);
    const looker = await world.open("/ui/runs/approval-4");
    const { page } = looker;
    await page.locator(".node.waiting").waitFor();
    await world.server.end();
    await page.locator(".connection-lost").waitFor();
    await page.locator(".node.waiting").waitFor();
    await world.server.startAgain();
    await page.locator(".connection-lost").waitFor({ state: "detached" });
    await world.server.api("POST", "/v1/runs/approval-4/notify", { task: "approve", values: { by: "bob", limit: 1 } });
    await page.locator(".run-title .state.success").waitFor();
    await page.getByRole("link", { name: "Events", exact: true }).click();
    // No event is missing, and none came twice.
    await looker.shows(".event-line .state", ["success", "success", "running", "running"]);
    await looker.close();
  });

  test("texts from outside are texts", async () => {
    await world.server.submit("hostile-1", HOSTILE, { text: HOSTILE_TEXT, message: HOSTILE_TEXT });
    await world.server.waitFor("hostile-1", "rolled-back");
    const looker = await world.open("/ui/runs/hostile-1");
    const { page } = looker;
    const checkTexts = (place: string) => looker.checkTexts(page.locator("main"), place);
    await checkTexts("the failure");
    for (const view of ["Events", "Logs", "Values"]) {
      await page.getByRole("link", { name: view, exact: true }).click();
      await page.locator(`.views a[aria-current]`, { hasText: view }).waitFor();
      await page.locator(".run-view").getByText("<script>alert(2)</script>").first().waitFor();
      await checkTexts(view);
    }
    // An address is a text from outside, too.
    await looker.goto(`/ui/runs/${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByRole("alert").waitFor();
    await looker.goto(`/ui/runs?flow=${encodeURIComponent(HOSTILE_TEXT)}`);
    await page.getByRole("alert").waitFor();
    await looker.checkNoMarkup(page.url());
    await looker.goto("/ui/runs/%E0%A4%A");
    await page.getByText("This page has no such screen").waitFor();
    await looker.close();
  });

  test("a long text is cut, and can be seen whole", async () => {
    const text = `${"x".repeat(50_000)} the end`;
    await world.server.submit("long-1", HOSTILE, { text, message: text });
    await world.server.waitFor("long-1", "rolled-back");
    const looker = await world.open("/ui/runs/long-1");
    const { page } = looker;
    const failure = page.getByRole("region", { name: "How the run ended" });
    const length = async () => ((await failure.locator("pre").first().textContent()) ?? "").length;
    await failure.getByRole("button", { name: "Show more" }).waitFor();
    assert.equal(await length(), 1500);
    await failure.getByRole("button", { name: "Show more" }).click();
    await failure.getByRole("button", { name: "Show more" }).waitFor({ state: "detached" });
    assert.ok((await length()) > 1500);
    await page.getByRole("link", { name: "Values", exact: true }).click();
    const value = page.locator(".value", { hasText: "text" }).first();
    assert.equal(await value.getByText("the end").count(), 0);
    for (let tries = 0; tries < 3 && !(await value.getByText("the end").count()); tries += 1) {
      await value.getByRole("button", { name: /Show more of/ }).click();
    }
    await value.getByText("the end").waitFor();
    await looker.close();
  });

  test("large graphs are a list first, and are drawn on request", async () => {
    await world.server.submit("wide-1", wide(2100));
    const looker = await world.open("/ui/runs/wide-1");
    const { page } = looker;
    await page.getByText("This flow has 2,100 nodes").waitFor();
    await page.locator(".outline-task", { hasText: "t0" }).first().waitFor();
    assert.ok((await page.locator(".outline-task").count()) < 100, "only what is seen is drawn");
    await page.getByRole("button", { name: "Draw the graph" }).click();
    await page.locator(".node").first().waitFor();
    await page.getByRole("button", { name: "Zoom in" }).click();
    await looker.close();
  });

  test("workers, modules and health are shown", async () => {
    const looker = await world.open("/ui/workers");
    const { page } = looker;
    await page.locator("td", { hasText: /of 4/ }).waitFor();
    await page.getByRole("link", { name: "Modules" }).click();
    await page.getByRole("button", { name: "Show hostile" }).click();
    await page.locator(".module-details").getByText("stubborn").waitFor();
    assert.match(page.url(), /open=sha256/);
    await page.getByRole("link", { name: "Health" }).click();
    await page.getByRole("button", { name: "Check now" }).click();
    await page.locator(".check-name", { hasText: "logbook" }).first().waitFor();
    await page.getByRole("button", { name: "Check again" }).waitFor();
    await looker.picture("health");
    await looker.goto("/ui/nothing");
    await page.getByText("This page has no such screen").waitFor();
    await looker.close();
  });

  test("everything can be done with keys alone", async () => {
    await world.server.submit("approval-5", APPROVAL);
    const looker = await world.open("/ui/runs");
    const { page } = looker;
    await page.getByRole("link", { name: "approval-5" }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await looker.focused(), "Skip to the content");
    await page.keyboard.press("Enter");
    await looker.tabTo("approval-5");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/ui/runs/approval-5");
    await until(async () => (await looker.focused()) === "shop/approval", "the heading has the focus");
    // The graph by its keys.
    await page.locator(".node").waitFor();
    await page.locator(".graph-window").focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("+");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Task approve" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "detached" });
    await page.locator("main").focus();
    await looker.tabTo("Notify…");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.getByRole("dialog").getByLabel("by").focus();
    await page.keyboard.type("kim");
    await page.keyboard.press("Tab");
    await page.keyboard.type("3");
    await looker.tabTo("Notify");
    await page.keyboard.press("Enter");
    await page.locator(".run-title .state.success").waitFor();
    await looker.close();
  });

  test("readers with special needs can use each screen, in both themes", async () => {
    await world.server.submit("report-1", SHOWCASE);
    for (const colorScheme of ["light", "dark"] as const) {
      const looker = await world.open("/ui/runs", { colorScheme });
      const { page } = looker;
      await page.locator(".runs-table").waitFor();
      await looker.checkAccess(`runs, ${colorScheme}`);
      await looker.picture(`runs-${colorScheme}`);
      await looker.goto("/ui/runs/report-1?task=per-region");
      await page.locator(".node.waiting", { hasText: "review" }).waitFor();
      await looker.checkAccess(`graph, ${colorScheme}`);
      await looker.picture(`graph-${colorScheme}`);
      await page.getByRole("button", { name: "Notify…" }).first().click();
      await looker.checkAccess(`form, ${colorScheme}`);
      await page.keyboard.press("Escape");
      for (const view of ["list", "timeline", "events", "logs", "values"]) {
        await looker.goto(`/ui/runs/report-1?view=${view}`);
        await page.locator(".run-view .row, .run-view .value").first().waitFor();
        await looker.checkAccess(`${view}, ${colorScheme}`);
        await looker.picture(`${view}-${colorScheme}`);
      }
      await looker.goto("/ui/runs/stuck-1");
      await page.getByRole("region", { name: "How the run ended" }).waitFor();
      await looker.checkAccess(`failure, ${colorScheme}`);
      await looker.goto("/ui/runs/provision-1");
      await page.locator(".node.rolled-back").first().waitFor();
      await looker.checkAccess(`rolled back, ${colorScheme}`);
      await looker.picture(`failure-${colorScheme}`);
      for (const screen of ["workers", "modules"]) {
        await looker.goto(`/ui/${screen}`);
        await page.locator(".table").first().waitFor();
        await looker.checkAccess(`${screen}, ${colorScheme}`);
        await looker.picture(`${screen}-${colorScheme}`);
      }
      await looker.goto("/ui/health");
      await page.getByRole("button", { name: "Check now" }).click();
      await page.locator(".check-name").first().waitFor();
      await looker.checkAccess(`health, ${colorScheme}`);
      await looker.close();
    }
  });

  test("the theme follows the system, and the switch after a choice", async () => {
    const looker = await world.open("/ui/workers", { colorScheme: "light" });
    const { page } = looker;
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await ground();
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await ground();
    assert.notEqual(light, dark);
    await page.getByRole("button", { name: /Theme of the system/ }).click();
    assert.equal(await ground(), light);
    await page.reload();
    await page.getByRole("button", { name: /Light theme/ }).click();
    await page.emulateMedia({ colorScheme: "light" });
    assert.equal(await ground(), dark);
    await page.getByRole("button", { name: /Dark theme/ }).click();
    assert.equal(await ground(), light);
    await looker.close();
  });

  test("a narrow screen shows everything without scrolling sideways", async () => {
    const looker = await world.open("/ui/runs", { viewport: { width: 375, height: 720 }, hasTouch: true });
    const { page } = looker;
    const places = [
      ["runs", ".runs-table"],
      ["runs/report-1", ".node"],
      ["runs/report-1?task=review", ".panel .facts"],
      ["runs/report-1?view=list", ".outline-task"],
      ["runs/report-1?view=timeline", ".gantt-bar"],
      ["runs/report-1?view=logs", ".log-line"],
      ["runs/report-1?view=events", ".event-line"],
      ["runs/report-1?view=values", ".value"],
      ["runs/stuck-1", ".failure-chain"],
      ["workers", ".table"],
      ["modules", ".table"],
      ["health", ".empty"],
    ] as const;
    for (const [place, part] of places) {
      await looker.goto(`/ui/${place}`);
      await page.locator(part).first().waitFor();
      await looker.checkWidth(place);
      await looker.picture(`narrow-${place.replace(/[^a-z]+/g, "-")}`);
    }
    await looker.checkAccess("narrow");
    await looker.close();
  });

  test("the first view is there at once, and little is loaded", async () => {
    const looker = await world.open("/ui/runs");
    const { page } = looker;
    await page.locator(".runs-table").waitFor();
    const loaded = await page.evaluate(() =>
      performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/assets/")).map((entry) => (entry as PerformanceResourceTiming).encodedBodySize),
    );
    assert.ok(loaded.length >= 3 && loaded.reduce((sum, size) => sum + size, 0) < 100_000, `${loaded}`);
    await looker.close();
  });
});

describe("the dashboard of a server with a token", { timeout: 300_000 }, () => {
  const world = World.start({ token: OWNER_TOKEN });

  test("a token is asked for, taken and revoked, and the page stays where it is", async () => {
    await world.server.submit("approval-1", APPROVAL);
    const secret = await world.server.makeToken("reader", "read");
    const looker = await world.open("/ui/runs/approval-1?view=list");
    const { page } = looker;
    const prompt = looker.tokenPrompt;
    await prompt.waitFor();
    await looker.checkAccess("token");
    // Nobody gets past it.
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await prompt.waitFor();
    assert.equal(await page.locator(".outline-task").count(), 0);
    await looker.enterToken("a-wrong-token");
    await prompt.getByText("The token is wrong, revoked or expired.").waitFor();
    await looker.enterToken(secret);
    await prompt.waitFor({ state: "detached" });
    await page.locator(".outline-task", { hasText: "approve" }).waitFor();
    // It is kept in this tab, and in no other place.
    await page.reload();
    await page.locator(".outline-task", { hasText: "approve" }).waitFor();
    assert.deepEqual(await page.evaluate(() => [Object.keys(localStorage), document.cookie]), [[], ""]);
    const other = await looker.context.newPage();
    await other.goto(`${world.server.address}/ui/runs`);
    await other.getByRole("dialog", { name: "This server needs a token" }).waitFor();
    await other.close();
    // A token that may only read: the command is refused in its dialog.
    await page.getByRole("button", { name: "Cancel…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel the run" }).click();
    await page.getByRole("dialog").getByText("this needs operate").waitFor();
    await page.keyboard.press("Escape");
    // Revoked while the page is open.
    await world.server.api("DELETE", "/v1/tokens/reader");
    await prompt.waitFor();
    assert.match(page.url(), /approval-1\?view=list$/);
    assert.ok((await page.locator(".outline-task").count()) > 0, "what was shown stays");
    await looker.enterToken(OWNER_TOKEN);
    await prompt.waitFor({ state: "detached" });
    await world.server.api("POST", "/v1/runs/approval-1/notify", { task: "approve", values: { by: "eve", limit: 1 } });
    await page.locator(".run-title .state.success").waitFor({ timeout: PATIENCE });
    await Promise.all([page.waitForEvent("load"), page.getByRole("button", { name: "Forget the token of this tab" }).click()]);
    await prompt.waitFor();
    assert.equal(await page.locator(".outline-task").count(), 0, "what the token could read is gone");
    assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), []);
    await looker.close();
  });
});
