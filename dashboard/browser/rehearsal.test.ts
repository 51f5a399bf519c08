// What somebody sees of a run who asks what would happen if a task of it failed.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { GUARDED, HOSTILE_TEXT, PROVISION, STUCK } from "./flows.ts";
import { until, World } from "./world.ts";

const TITLE = ".rehearsal-words h2";
const END = ".rehearsal-words .state";

/** A rehearsal as the API gives it. */
type Answer = { cases: { failing: { node: string; action: string }[]; rolled_back?: string[] }[] };

describe("the rehearsal of a run", { timeout: 600_000 }, () => {
  let answer: Answer;
  const world = World.start({
    async setUp(server) {
      await server.submit("provision-1", PROVISION);
      await server.waitFor("provision-1", "running");
      answer = await server.api<Answer>("GET", "/v1/runs/provision-1/rehearsal");
    },
  });

  test("a slider goes through the tasks, also with keys, and is heard", async () => {
    const looker = await world.open("/ui/runs/provision-1");
    const { page } = looker;
    await page.getByRole("link", { name: "Rehearsal", exact: true }).click();
    await page.waitForURL("**/ui/runs/provision-1?view=rehearsal");
    await looker.shows(TITLE, ["no failure"]);
    await looker.shows(END, ["succeeds"]);
    await page.locator('.node[aria-label="server, untouched"]').waitFor();
    await looker.checkAccess("a rehearsal without a failure");
    const names = [...new Set(answer.cases.flatMap(({ failing }) => failing.at(-1)?.node ?? []))];
    assert.deepEqual([...names].sort(), ["announce", "disk", "network", "server", "start"]);
    const slider = page.getByRole("slider", { name: "Task that fails" });
    const isHeard = (text: string) => until(async () => (await slider.getAttribute("aria-valuetext")) === text, `the slider says ${text}`);
    await isHeard("no failure: the run succeeds");
    await slider.focus();
    for (const [index, name] of names.entries()) {
      await page.keyboard.press("ArrowRight");
      await looker.shows(TITLE, [`${name} fails`]);
      await isHeard(`${name} fails, ${index + 1} of ${names.length}: the run is rolled back`);
    }
    await page.keyboard.press("Home");
    await looker.shows(TITLE, ["no failure"]);
    await page.keyboard.press("End");
    // The address follows.
    await page.waitForURL(`**/ui/runs/provision-1?view=rehearsal&node=${names.at(-1)}`);
    assert.equal(await world.server.state("provision-1"), "running", "a rehearsal changes nothing");
    await looker.close();
  });

  test("the graph and the words say what is rolled back in which order, and what needs a person", async () => {
    const looker = await world.open("/ui/runs/provision-1?view=rehearsal&node=announce");
    const { page } = looker;
    await looker.shows(TITLE, ["announce fails"]);
    await looker.shows(END, ["is rolled back"]);
    const announce = answer.cases.find(({ failing }) => failing.length === 1 && failing[0]?.node === "announce" && failing[0]?.action === "apply");
    const order = announce?.rolled_back ?? [];
    assert.ok(["disk", "network", "server"].every((name) => order.includes(name)), `it rolls back ${order.join(", ")}`);
    await looker.shows(".rehearsal-part ol li", order);
    for (const [index, name] of order.entries()) {
      await page.locator(`.node[aria-label^="${name}, "][aria-label$="rolled back as number ${index + 1}"]`).waitFor();
    }
    await page.locator(".node.failure", { hasText: "announce" }).waitFor();
    await page.locator(".link-group.undone").first().waitFor({ state: "attached" });
    await looker.checkAccess("a rehearsed rollback");
    await looker.picture("rehearsal");
    // A click on a task chooses it.
    await page.locator(".node", { hasText: "server" }).click();
    await looker.shows(TITLE, ["server fails"]);
    await page.waitForURL("**view=rehearsal&node=server");
    await page.getByRole("button", { name: "its rollback fails" }).click();
    await page.waitForURL("**view=rehearsal&node=server&case=rollback");
    // The address alone says it all.
    await page.reload();
    await looker.shows(TITLE, ["the rollback of server fails, after announce has failed"]);
    await looker.shows(END, ["needs a person"]);
    await looker.shows(".rehearsal-part.needs-person li", ["server"]);
    await page.locator(".node.rollback-failure", { hasText: "server" }).waitFor();
    await page.locator('.node[aria-label="network, stays applied"]').waitFor();
    await looker.checkAccess("a rehearsed rollback that needs a person");
    await looker.close();
  });

  test("a run that has ended is rehearsed from its start", async () => {
    await world.server.submit("stuck-1", STUCK);
    await world.server.waitFor("stuck-1", "failure");
    const looker = await world.open("/ui/runs/stuck-1?view=rehearsal&node=pay");
    const { page } = looker;
    await page.getByText("each case is a new run of its flow").waitFor();
    await looker.shows(TITLE, ["pay fails"]);
    assert.equal(await page.getByLabel("Each case").count(), 0);
    await looker.goto("/ui/runs/provision-1?view=rehearsal");
    await page.getByLabel("Each case").selectOption("start");
    await page.waitForURL("**/ui/runs/provision-1?view=rehearsal&from=start");
    await looker.shows(TITLE, ["no failure"]);
    await looker.close();
  });

  test("a refusal says why, and is not asked for again and again", async () => {
    const looker = await world.open("/ui/runs");
    const { page } = looker;
    let requests = 0;
    await looker.context.route("**/v1/runs/provision-1/rehearsal", (route) => {
      requests += 1;
      const problem = { type: "urn:waft:problem:too-large", title: "the run is too large to be rehearsed by the server", status: 422, detail: HOSTILE_TEXT, hint: HOSTILE_TEXT };
      return route.fulfill({ status: 422, contentType: "application/problem+json", json: problem });
    });
    await looker.goto("/ui/runs/provision-1?view=rehearsal");
    const alert = page.getByRole("alert");
    await alert.getByText("the run is too large").waitFor();
    assert.equal(requests, 1);
    await looker.checkAccess("a refused rehearsal");
    await alert.getByRole("button", { name: "Try again" }).click();
    await until(async () => requests === 2, "it is asked for again");
    assert.equal(await page.locator("main script, main img").count(), 0);
    await looker.close();
  });

  test("conditions and names from the address are texts", async () => {
    await world.server.submit("guarded-1", GUARDED);
    const looker = await world.open(`/ui/runs/guarded-1?view=rehearsal&node=${encodeURIComponent(HOSTILE_TEXT)}`);
    const { page } = looker;
    await page.locator(".rehearsal .notice").getByText("<script>alert(2)</script>").waitFor();
    await looker.shows(TITLE, ["no failure"]);
    await page.locator(".rehearsal-part").getByText("<script>alert(2)</script>").waitFor();
    await looker.checkAccess("hostile texts in a rehearsal");
    await looker.goto("/ui/runs/guarded-1?view=rehearsal&node=rarely");
    await looker.shows(END, ["is not called"]);
    assert.equal(await page.locator("main script, main img").count(), 0);
    await looker.close();
  });

  test("readers with special needs can use it, in both themes and on narrow screens", async () => {
    const sizes = [
      { colorScheme: "light", viewport: { width: 1280, height: 860 } },
      { colorScheme: "dark", viewport: { width: 1280, height: 860 } },
      { colorScheme: "light", viewport: { width: 375, height: 720 }, hasTouch: true },
      { colorScheme: "dark", viewport: { width: 375, height: 720 }, hasTouch: true },
    ] as const;
    for (const options of sizes) {
      const { width } = options.viewport;
      const what = `a rehearsal, ${options.colorScheme}, ${width} wide`;
      const looker = await world.open("/ui/runs/provision-1?view=rehearsal&node=server&case=rollback", options);
      const { page } = looker;
      await looker.shows(END, ["needs a person"]);
      await page.locator(".node.rollback-failure").waitFor({ state: "attached" });
      const needed = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(needed <= width, `${what} needs ${needed}`);
      await looker.checkAccess(what);
      await looker.picture(`rehearsal-${options.colorScheme}-${width}`);
      await looker.close();
    }
  });
});
