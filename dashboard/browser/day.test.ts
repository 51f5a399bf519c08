// An operator's day: one page, one step after the other, and nothing that the page does not offer.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { RELEASE, REVIEW, SETTLE, waiting } from "./flows.ts";
import { RUN_LINKS, until, World, type Looker } from "./world.ts";

describe("an operator's day", { timeout: 600_000 }, () => {
  const world = World.start({
    signal: "SIGKILL",
    // The night: a settlement failed, a worker was lost with its call, and others go on.
    setUp: async (server) => {
      await server.quarantine("deadly-1");
      for (const run of ["noise-1", "noise-2"]) await server.submit(run, waiting("noise"));
      await server.submit("settle-1", SETTLE, {}, { team: "shop" });
      await server.waitFor("settle-1", "rolled-back");
      await server.submit("release-1", RELEASE);
    },
  });
  let looker: Looker;
  before(async () => {
    looker = await world.open("/");
  });

  test("last night's failed run is found by filters", async () => {
    const { page } = looker;
    await page.waitForURL("**/ui/runs");
    await page.getByRole("link", { name: "noise-1" }).waitFor();
    await page.getByLabel("Started").selectOption("24h");
    await page.getByRole("group", { name: "State" }).getByRole("button", { name: "rolled-back" }).click();
    await page.getByRole("link", { name: "noise-1" }).waitFor({ state: "detached" });
    await page.getByLabel("Flow").fill("settle");
    await page.keyboard.press("Enter");
    await looker.shows(RUN_LINKS, ["settle-1"]);
    await page.getByRole("link", { name: "settle-1" }).click();
    await page.waitForURL("**/ui/runs/settle-1");
    await page.locator(".run-title .state.rolled-back").waitFor();
  });

  test("the run says why it failed, and what to do", async () => {
    const { page } = looker;
    const notice = page.getByRole("region", { name: "How the run ended" });
    await notice.getByText("failed and was rolled back").waitFor();
    await notice.getByText("the account is closed: give another account").waitFor();
    await notice.getByText("starts it anew, with the same inputs").waitFor();
    await notice.getByText("starts another run of the flow").waitFor();
    // The failure names its task, and the task has the whole of it.
    await notice.getByRole("button", { name: "refuse" }).click();
    const panel = page.getByRole("complementary", { name: "Task refuse" });
    await panel.getByText("permanent", { exact: true }).first().waitFor();
    await panel.getByText("the account is closed: give another account").first().waitFor();
    await panel.getByRole("button", { name: "Close the task" }).click();
    await panel.waitFor({ state: "detached" });
    await looker.checkAccess("a failed run");
  });

  test("what was rolled back is seen", async () => {
    const { page } = looker;
    await page.locator(".node.rolled-back", { hasText: "reserve" }).waitFor();
    await page.getByRole("link", { name: "Timeline", exact: true }).click();
    await page.locator(".gantt-bar.rollback").first().waitFor();
    await page.getByRole("link", { name: "Events", exact: true }).click();
    await page.locator(".event-line", { hasText: "reserve" }).locator(".state.rolled-back").waitFor();
    await page.getByRole("link", { name: "Values", exact: true }).click();
    await page.locator(".value", { hasText: "account" }).getByText("closed").waitFor();
  });

  test("the input is mended, and the run starts with it", async () => {
    const { page } = looker;
    await page.getByRole("button", { name: "Start with other inputs…" }).click();
    const dialog = page.getByRole("dialog", { name: "Start with other inputs" });
    const field = dialog.getByLabel("account");
    assert.equal(await field.inputValue(), '"closed"');
    await field.fill("4711-open");
    await dialog.getByText("changed, sent as text").waitFor();
    assert.equal(await dialog.getByLabel("Id of the new run").inputValue(), "settle-1-again");
    await looker.checkAccess("the inputs of another run");
    // The id of a run that is there already is refused, and what was entered stays.
    await dialog.getByLabel("Id of the new run").fill("settle-1");
    await dialog.getByRole("button", { name: "Start the run" }).click();
    await dialog.getByRole("alert").getByText("there is a run settle-1 already").waitFor();
    assert.equal(await field.inputValue(), "4711-open");
    await dialog.getByLabel("Id of the new run").fill("settle-1-again");
    await dialog.getByRole("button", { name: "Start the run" }).click();
    await page.waitForURL("**/ui/runs/settle-1-again");
    await page.getByRole("link", { name: "team=shop" }).waitFor();
    await until(async () => (await looker.focused()) === "settle", "the heading of the new run has the focus");
  });

  test("the new run passes the task that failed, and waits", async () => {
    const { page } = looker;
    await page.locator(".node.ignored", { hasText: "refuse" }).waitFor();
    await page.locator(".node.success", { hasText: "reserve" }).waitFor();
    await page.locator(".node.waiting", { hasText: "approve" }).waitFor();
  });

  test("the waiting task is approved by its form", async () => {
    const { page } = looker;
    await page.getByText("waits for a manager's approval").waitFor();
    await page.getByRole("button", { name: "Notify…" }).click();
    const dialog = page.getByRole("dialog", { name: "Notify approve" });
    await dialog.getByLabel("by").fill("eve");
    await dialog.getByLabel("limit").fill("1200");
    await dialog.getByRole("button", { name: "Notify" }).click();
    await page.locator(".run-title .state.success").waitFor();
    await page.locator(".node.success", { hasText: "archive" }).waitFor();
  });

  test("a worker is drained, and takes jobs again", async () => {
    const { page } = looker;
    await page.getByRole("link", { name: "Workers" }).click();
    await looker.shows(".workers-table .state", ["active"]);
    await page.locator(".workers-table .opener").click();
    await looker.command("Drain…", "Drain the worker");
    await looker.shows(".workers-table .state", ["draining"]);
    await looker.command("Resume…", "Resume the worker");
    await looker.shows(".workers-table .state", ["active"]);
  });

  test("the job that is in quarantine is looked at, and its run", async () => {
    const { page } = looker;
    await page.getByRole("link", { name: "Quarantine" }).click();
    await page.locator(".quarantine-table .opener", { hasText: "deadly-1" }).click();
    await page.locator(".quarantine-table").getByText("the job came back").first().waitFor();
    await page.getByRole("link", { name: "Open the run that it names" }).click();
    await page.waitForURL("**/ui/runs/deadly-1?task=kill");
    await page.getByRole("complementary", { name: "Task kill" }).getByText("poison", { exact: true }).first().waitFor();
  });

  test("a running flow is found, and its edit is checked", async () => {
    const { page } = looker;
    await page.getByRole("link", { name: "Flows" }).click();
    await page.getByRole("link", { name: "1 run of release" }).click();
    await page.getByRole("link", { name: "release-1" }).click();
    await page.waitForURL("**/ui/runs/release-1");
    await page.getByRole("link", { name: "Revisions", exact: true }).click();
    await page.getByText("The flow is as it was submitted").waitFor();
    await page.getByRole("button", { name: "Edit the flow…" }).click();
    await page.getByRole("textbox", { name: /^Edits/ }).fill(REVIEW.replace('["build", "review"]', '["build"]'));
    await page.getByRole("button", { name: "Show what it would do" }).click();
    // The error is shown at its line, and the line is selected.
    const alert = page.getByRole("alert");
    await alert.getByText("does not have two elements").first().waitFor();
    await alert.getByRole("button", { name: "Line 8" }).waitFor();
    await until(async () => (await looker.selection()) === 'link = ["build"]', "the line with the error is selected");
  });

  test("the edit shows what it would do before it does it", async () => {
    const { page } = looker;
    await page.getByRole("textbox", { name: /^Edits/ }).fill(REVIEW);
    await page.getByRole("button", { name: "Show what it would do" }).click();
    await until(async () => (await looker.focused()) === "This would make revision 2", "the result has the focus");
    await looker.shows(".differences li .line-text", ["review", "build → review"]);
    await page.locator(".node.mark-added", { hasText: "review" }).waitFor();
    await page.locator(".diff-line.mark-added", { hasText: "a look at the release" }).waitFor();
    await page.getByRole("button", { name: "Apply: make revision 2" }).click();
    await until(async () => (await looker.focused()) === "The flow is at revision 2", "the heading says what was done, and has the focus");
    await page.waitForURL("**/ui/runs/release-1?view=revisions&from=1&to=2");
  });

  test("the graph of the running flow has the new task", async () => {
    const { page } = looker;
    await page.getByRole("link", { name: "Graph", exact: true }).click();
    await page.locator(".node.pending", { hasText: "review" }).waitFor();
    await page.locator(".node.waiting", { hasText: "build" }).waitFor();
    await page.getByRole("link", { name: "2, with 1 change" }).waitFor();
  });

  test("nothing went wrong on the page all day", async () => {
    await looker.close();
  });
});
