// Revisions of a running flow, edits by hand, and runs that start once more with other inputs.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Page } from "playwright-core";

import { RELEASE, REVIEW } from "./flows.ts";
import { until, World } from "./world.ts";

const field = (page: Page) => page.getByRole("textbox", { name: /^Edits/ });
const check = (page: Page) => page.getByRole("button", { name: "Show what it would do" }).click();

/** An edit that adds a task which waits for something. */
function adds(name: string, word: string): string {
  return `[[edit]]\nadd_text = '''\n[[task]]\nname = "${name}"\nwait = "${word}"\n'''\n`;
}

describe("the revisions of a run", { timeout: 600_000 }, () => {
  const world = World.start();
  const edit = (run: string, text: string) => world.server.api("POST", `/v1/runs/${run}/edits`, { text });

  test("two revisions are compared, and the address says which", async () => {
    await world.server.submit("release-1", RELEASE);
    await edit("release-1", REVIEW);
    await edit("release-1", '[[edit]]\nremove = "publish"\n[[edit]]\nlink = ["build", "review"]\nwhen = "version == \'6.9\'"\n');
    const looker = await world.open("/ui/runs/release-1");
    const { page } = looker;
    await page.getByRole("link", { name: "3, with 2 changes" }).click();
    await page.waitForURL("**/ui/runs/release-1?view=revisions");
    // The last change is shown first.
    await page.getByRole("heading", { name: "From revision 2 to 3" }).waitFor();
    await looker.shows(".difference-mark", ["− removed", "~ changed", "− removed"]);
    await page.locator(".node.mark-removed", { hasText: "publish" }).waitFor();
    await page.locator(".link-group.mark-changed").waitFor({ state: "attached" });
    await page.locator(".diff-line.mark-removed", { hasText: "publish" }).first().waitFor();
    await page.getByRole("link", { name: "What revision 2 changed" }).click();
    await page.waitForURL("**/ui/runs/release-1?view=revisions&from=1&to=2");
    await looker.shows(".difference-mark", ["+ added", "+ added"]);
    // The comment of the submitted text is no difference, since no later text has one.
    await page.locator(".diff-line.mark-added", { hasText: "a look at the release" }).waitFor();
    assert.equal(await page.locator(".diff-line", { hasText: "A comment" }).count(), 0);
    await page.getByLabel("To", { exact: true }).fill("3");
    await page.keyboard.press("Enter");
    await page.waitForURL("**from=1&to=3");
    await page.getByRole("heading", { name: "From revision 1 to 3" }).waitFor();
    // A task of the graph opens as everywhere.
    await page.locator(".node", { hasText: "build" }).click();
    await page.getByRole("complementary", { name: "Task build" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "detached" });
    // The address alone says it all, whatever it says.
    await looker.goto("/ui/runs/release-1?view=revisions&from=3&to=1");
    await page.getByRole("heading", { name: "From revision 1 to 3" }).waitFor();
    await looker.goto("/ui/runs/release-1?view=revisions&from=%3Cimg%3E&to=99");
    await page.getByRole("heading", { name: "From revision 2 to 3" }).waitFor();
    await page.getByRole("link", { name: "audit log of the run" }).click();
    await page.waitForURL("**/ui/audit?subject=release-1");
    await page.locator(".audit-table").getByText("edit", { exact: true }).first().waitFor();
    await looker.close();
  });

  test("an edit that is refused says why, and changes nothing", async () => {
    await world.server.submit("release-2", RELEASE);
    const looker = await world.open("/ui/runs/release-2?view=revisions&edit=yes");
    const { page } = looker;
    const alert = page.getByRole("alert");
    await until(async () => page.evaluate(() => document.activeElement instanceof HTMLTextAreaElement), "the field has the focus");
    // A file is on no server.
    await field(page).fill('[[edit]]\nadd = "more.toml"\n');
    await check(page);
    await alert.getByText("the server reads no files").waitFor();
    await alert.getByText("add_text").waitFor();
    assert.equal(await looker.selection(), 'add = "more.toml"');
    await looker.checkAccess("an error of an edit");
    // Several errors, each with its line.
    await field(page).fill('[[edit]]\nremove = 7\n\n[[edit]]\nunlink = ["build"]\n');
    await check(page);
    await alert.getByText("the file of edits has 2 errors").waitFor();
    await alert.getByRole("button", { name: "Line 5" }).click();
    assert.equal(await looker.selection(), 'unlink = ["build"]');
    // What the flow does not allow.
    await field(page).fill('[[edit]]\nremove = "nobody"\n');
    await check(page);
    await alert.getByText("nobody").first().waitFor();
    await field(page).fill('[[edit]]\nlink = ["publish", "build"]\n');
    await check(page);
    await alert.getByText("nodes wait for one another").first().waitFor();
    assert.equal(await page.getByRole("button", { name: /^Apply/ }).count(), 0);
    assert.equal((await world.server.api<{ revision: number }>("GET", "/v1/runs/release-2")).revision, 1);
    // What was entered is there again after a look at something else.
    await page.getByRole("link", { name: "Graph", exact: true }).click();
    await page.locator(".node").first().waitFor();
    await page.goBack();
    await until(async () => (await field(page).inputValue()).includes('["publish", "build"]'), "the edits are there again");
    await looker.close();
  });

  test("only what was shown is applied", async () => {
    await world.server.submit("release-3", RELEASE);
    const looker = await world.open("/ui/runs/release-3?view=revisions");
    const { page } = looker;
    await page.getByRole("button", { name: "Edit the flow…" }).click();
    await page.waitForURL("**edit=yes");
    await field(page).fill(REVIEW);
    await check(page);
    await page.getByRole("heading", { name: "This would make revision 2" }).waitFor();
    // Another text has to be shown first.
    await field(page).fill(adds("other", "a word"));
    await page.getByRole("heading", { name: "The edits have changed since" }).waitFor();
    assert.equal(await page.getByRole("button", { name: /^Apply/ }).count(), 0);
    await check(page);
    await looker.shows(".differences li .line-text", ["other"]);
    // Somebody else was faster.
    await edit("release-3", REVIEW);
    await page.getByRole("button", { name: "Apply: make revision 2" }).click();
    await page.getByRole("alert").getByText("is at revision 2").waitFor();
    await check(page);
    await page.getByRole("button", { name: "Apply: make revision 3" }).click();
    await page.getByRole("heading", { name: "The flow is at revision 3" }).waitFor();
    await page.waitForURL("**from=2&to=3");
    await looker.shows(".differences li .line-text", ["other"]);
    // A run that has ended has no more revisions.
    await world.server.api("POST", "/v1/runs/release-3/cancel");
    await page.getByText("The run has ended: its flow cannot be edited any more.").waitFor();
    assert.equal(await page.getByRole("button", { name: "Edit the flow…" }).count(), 0);
    await looker.goto("/ui/runs/release-3?view=revisions&edit=yes");
    await page.getByText("The run has ended: its flow cannot be edited any more.").waitFor();
    await looker.close();
  });

  test("an edit is made with keys alone", async () => {
    await world.server.submit("release-4", RELEASE);
    const looker = await world.open("/ui/runs/release-4?view=revisions");
    const { page } = looker;
    await page.getByRole("button", { name: "Edit the flow…" }).waitFor();
    await page.locator("main").focus();
    await looker.tabTo("Edit the flow…");
    await page.keyboard.press("Enter");
    await until(async () => page.evaluate(() => document.activeElement instanceof HTMLTextAreaElement), "the field has the focus");
    await looker.tabTo("Close");
    await page.keyboard.press("Enter");
    await until(async () => (await looker.focused()) === "Edit the flow…", "the button has the focus again");
    await page.keyboard.press("Enter");
    await until(async () => page.evaluate(() => document.activeElement instanceof HTMLTextAreaElement), "the field has the focus");
    await page.keyboard.insertText(REVIEW);
    await page.keyboard.press("Control+Enter");
    await until(async () => (await looker.focused()) === "This would make revision 2", "the result has the focus");
    await looker.tabTo("Apply: make revision 2");
    await page.keyboard.press("Enter");
    await until(async () => (await looker.focused()) === "The flow is at revision 2", "the heading has the focus");
    await looker.close();
  });

  test("the texts of a flow are texts", async () => {
    const word = "<img src=x onerror='alert(1)'><script>alert(2)</script>";
    await world.server.submit("release-5", RELEASE);
    const looker = await world.open("/ui/runs/release-5?view=revisions&edit=yes");
    const { page } = looker;
    const shown = async (place: string) => {
      await page.locator(".diff-line.mark-added", { hasText: "<script>alert(2)</script>" }).first().waitFor();
      await looker.checkNoMarkup(place);
    };
    await field(page).fill(`${adds("hostile", word)}[[edit]]\nlink = ["build", "hostile"]\nwhen = "version != '<script>alert(2)</script>'"\n`);
    await check(page);
    await page.locator(".differences li", { hasText: "<script>alert(2)</script>" }).first().waitFor();
    await shown("the preview");
    await page.getByRole("button", { name: "Apply: make revision 2" }).click();
    await page.getByRole("heading", { name: "The flow is at revision 2" }).waitFor();
    await page.locator(".revisions", { hasText: "<script>alert(2)</script>" }).waitFor();
    await shown("the revisions");
    // An error repeats what was entered.
    await page.getByRole("button", { name: "Edit the flow…" }).click();
    await field(page).fill(`[[edit]]\nremove = "${word.replaceAll('"', "")}"\n`);
    await check(page);
    await page.getByRole("alert").getByText("<script>alert(2)</script>").first().waitFor();
    await looker.checkNoMarkup("an error");
    await looker.close();
  });

  test("readers with special needs can use it, in both themes and on narrow screens", async () => {
    const sizes = [
      { colorScheme: "light", viewport: { width: 1280, height: 860 } },
      { colorScheme: "dark", viewport: { width: 1280, height: 860 } },
      { colorScheme: "light", viewport: { width: 375, height: 720 }, hasTouch: true },
      { colorScheme: "dark", viewport: { width: 375, height: 720 }, hasTouch: true },
    ] as const;
    await world.server.submit("release-6", RELEASE);
    for (const options of sizes) {
      const what = `${options.colorScheme}, ${options.viewport.width} wide`;
      const looker = await world.open("/ui/runs/release-1?view=revisions", options);
      const { page } = looker;
      await page.locator(".diff-line.mark-removed").first().waitFor();
      await page.locator(".node.mark-removed").first().waitFor();
      await looker.checkWidth(`revisions, ${what}`);
      await looker.checkAccess(`revisions, ${what}`);
      await looker.picture(`revisions-${options.colorScheme}-${options.viewport.width}`);
      await looker.goto("/ui/runs/release-6?view=revisions&edit=yes");
      await page.getByText("An example").click();
      await field(page).fill(REVIEW.replace("review", "re view"));
      await check(page);
      await page.locator(".diagnostics li").first().waitFor();
      await looker.checkWidth(`an error of an edit, ${what}`);
      await looker.checkAccess(`an error of an edit, ${what}`);
      await field(page).fill(REVIEW);
      await check(page);
      await page.locator(".diff-line.mark-added").first().waitFor();
      await page.locator(".node.mark-added").first().waitFor();
      await looker.checkWidth(`a preview, ${what}`);
      await looker.checkAccess(`a preview, ${what}`);
      await looker.picture(`edit-${options.colorScheme}-${options.viewport.width}`);
      await looker.close();
    }
  });

  test("another run keeps the inputs that nobody changes, to the digit and the byte", async () => {
    const long = "x".repeat(300_000);
    const inputs = { page: long, $bytes: { photo: "/wA=" } };
    // JavaScript would write the number in another way.
    const body = JSON.stringify({ run: "release-7", flow: RELEASE, inputs }).replace('"inputs":{', '"inputs":{"big":12345678901234567890,');
    const response = await fetch(`${world.server.address}/v1/runs`, { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.equal(response.status, 201);
    await world.server.api("POST", "/v1/runs/release-7/cancel");
    await world.server.waitFor("release-7", "rolled-back");
    const looker = await world.open("/ui/runs/release-7");
    const { page } = looker;
    await page.getByRole("button", { name: "Start with other inputs…" }).click();
    const dialog = page.getByRole("dialog", { name: "Start with other inputs" });
    await dialog.getByText("kept as they are").first().waitFor();
    await dialog.getByLabel("version").fill('["7.0", 1.50]');
    await dialog.getByText("changed, sent as JSON").waitFor();
    await dialog.getByRole("button", { name: "Start the run" }).click();
    await page.waitForURL("**/ui/runs/release-7-again");
    await page.locator(".node.waiting", { hasText: "build" }).waitFor();
    const value = async (name: string) => fetch(`${world.server.address}/v1/runs/release-7-again/values/${name}`);
    assert.equal(await (await value("big")).text(), "12345678901234567890");
    assert.match(await (await value("version")).text(), /^\["7\.0", ?1\.50\]$/);
    assert.equal(await (await value("page")).text(), JSON.stringify(long));
    assert.deepEqual([...new Uint8Array(await (await value("photo")).arrayBuffer())], [255, 0]);
    await looker.close();
  });
});
