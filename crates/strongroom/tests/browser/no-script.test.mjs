// Everything without JavaScript: forms, dialogs as pages of their own, dark by refresh.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cspViolations, launchBrowser, newPage, signIn, startDemo } from "./harness.mjs";

const TITLE = "Made without a script";
const PASSWORD = "plain-forms-are-enough";

let demo, browser, page, refused;

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
  page = await newPage(browser, { javaScriptEnabled: false });
  refused = cspViolations(page);
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

const button = (name) => page.getByRole("button", { name, exact: true });

test("an account is created, field by field, and revealed", async () => {
  await signIn(page, demo, "user");
  await page.getByRole("link", { name: "New item" }).click();
  await page.getByLabel("Title", { exact: true }).fill(TITLE);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await button("Add a field").click();
  assert.equal(await page.getByLabel("Title", { exact: true }).inputValue(), TITLE, "what was typed stays");
  await page.getByLabel("Name of field 1").fill("Customer number");
  await page.getByLabel("Value of field 1").fill("4711");
  await button("Create account").click();
  await page.getByRole("heading", { level: 1, name: TITLE }).waitFor();
  await button("Reveal").click();
  await page.getByText(PASSWORD).waitFor();
  await page.getByText("4711").waitFor();
});

test("it is edited, and the revision before comes back", async () => {
  await button("Edit").click();
  assert.equal(await page.getByLabel("Password", { exact: true }).inputValue(), PASSWORD);
  await page.getByLabel("Title", { exact: true }).fill(`${TITLE}, twice`);
  await button("Save").last().click();
  await page.getByRole("heading", { level: 1, name: `${TITLE}, twice` }).waitFor();
  await page.getByRole("link", { name: /^History/ }).click();
  await page.getByRole("button", { name: /Restore revision 1/ }).click();
  await page.getByRole("heading", { level: 1, name: TITLE, exact: true }).waitFor();
});

test("a search is found and stands in no address", async () => {
  await page.getByLabel("Search items").fill("without a SCRIPT");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: new RegExp(TITLE) }).waitFor();
  assert.equal(new URL(page.url()).search, "");
});

test("into the trash and back", async () => {
  await page.getByRole("link", { name: new RegExp(TITLE) }).click();
  await button("Move to trash").click();
  await page.getByText("Moved to the trash.").waitFor();
  await page.getByRole("button", { name: /^Restore/ }).click();
  await page.getByText("Restored from the trash.").waitFor();
});

test("the page of an item turns dark by itself and comes back by itself", async () => {
  await demo.run("key", "disable");
  await page.getByRole("heading", { level: 1, name: "This item is dark" }).waitFor();
  assert.equal((await page.content()).includes(TITLE), false);
  await demo.run("key", "enable");
  await page.getByRole("heading", { level: 1, name: TITLE, exact: true }).waitFor();
});

test("the policy refused nothing", () => assert.deepEqual(refused, []));
