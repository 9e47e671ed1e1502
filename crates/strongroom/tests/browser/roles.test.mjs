// What each role sees: no dead buttons for those who may not, and a refusal that says so where they type the address.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, launchBrowser, newPage, signIn, startDemo } from "./harness.mjs";

const TITLE = "Shared by a test";
const PASSWORD = "only-for-whom-it-is-shared-with";

let demo, browser;

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

async function as(role) {
  const page = await newPage(browser);
  await signIn(page, demo, role);
  return page;
}

const link = (page, name) => page.getByRole("link", { name, exact: true });
const status = async (page, path) => (await page.goto(demo.info.url + path)).status();

test("Owner, Super Admin and Admin manage vaults; only the Owner hands the workspace over", async () => {
  for (const role of ["owner", "super_admin", "admin"]) {
    const page = await as(role);
    for (const name of ["Members", "Activity", "Settings"]) assert.equal(await link(page, name).count(), 1, `${role} ${name}`);
    assert.equal(await status(page, "/settings/privacy-and-security"), 200);
    assert.equal(await link(page, "Create new vault").count(), 1, role);
    await page.goto(`${demo.info.url}/members`);
    assert.equal(await link(page, "Transfer ownership").count(), role === "owner" ? 1 : 0, role);
    await page.context().close();
  }
});

test("an Admin gets no buttons for the Owner and Super Admins", async () => {
  const page = await as("admin");
  await page.goto(`${demo.info.url}/members`);
  const manage = (role) => page.getByRole("row").filter({ hasText: role }).getByRole("link", { name: /^Manage/ });
  assert.equal(await manage("Owner").count(), 0);
  assert.equal(await manage("Super Admin").count(), 0);
  assert.equal(await manage("Guest").count(), 1);
});

test("a User shares an item with a Guest, who reveals it and changes nothing", async () => {
  const user = await as("user");
  for (const name of ["Members", "Activity", "Settings"]) assert.equal(await link(user, name).count(), 0, name);
  await link(user, "New item").click();
  await user.getByLabel("Title", { exact: true }).fill(TITLE);
  await user.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await user.getByRole("button", { name: "Create account" }).click();
  await user.getByRole("heading", { name: TITLE }).waitFor();
  const item = new URL(user.url()).pathname;

  const guest = await as("guest");
  assert.equal(await link(guest, "New item").count(), 0);
  assert.equal(await status(guest, item), 404, "an item that is not shared looks like none");
  assert.equal(await status(guest, "/items/new"), 403);

  await link(user, /^Sharing/).click();
  const choice = user.getByLabel("Share with");
  const grace = await choice.locator("option").filter({ hasText: "(Guest)" }).getAttribute("value");
  await choice.selectOption(grace);
  await user.getByRole("button", { name: "Share", exact: true }).click();
  await user.getByRole("status").filter({ hasText: "Shared." }).waitFor();

  assert.equal(await status(guest, item), 200);
  await guest.getByRole("heading", { name: TITLE }).waitFor();
  for (const name of ["Edit", "Move to trash"]) assert.equal(await guest.getByRole("button", { name }).count(), 0, name);
  await guest.getByRole("button", { name: "Reveal" }).click();
  await guest.getByText(PASSWORD).waitFor();
});

test("whoever may not is told so, in words", async () => {
  for (const [role, paths] of [
    ["user", ["/settings", "/settings/privacy-and-security", "/activity", "/members"]],
    ["guest", ["/settings", "/activity", "/members", "/items/new"]],
  ]) {
    const page = await as(role);
    for (const path of paths) {
      assert.equal(await status(page, path), 403, `${role} ${path}`);
      await page.getByRole("heading", { name: "Not allowed" }).waitFor();
    }
    await page.context().close();
  }
});

test("a page that nobody signed in asks for leads to sign-in and back", async () => {
  const page = await newPage(browser);
  await page.goto(`${demo.info.url}/members`);
  assert.equal(new URL(page.url()).pathname, "/signin");
  const owner = demo.info.members.find((member) => member.role === "owner");
  await page.getByLabel("E-mail address").fill(owner.email);
  await page.getByLabel("Password", { exact: true }).fill("wrong password, twice");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The e-mail address or the password is wrong").waitFor();
  await page.getByLabel("Password", { exact: true }).fill(owner.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await eventually("the page that was asked for", () => new URL(page.url()).pathname === "/members");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("You are signed out.").waitFor();
  assert.equal(await status(page, "/items"), 200);
  assert.equal(new URL(page.url()).pathname, "/signin");
});

test("a form from elsewhere changes nothing", async () => {
  const owner = await as("owner");
  const [session] = await owner.context().cookies();
  const send = (headers) =>
    fetch(`${demo.info.url}/signout`, { method: "POST", redirect: "manual", headers: { cookie: `${session.name}=${session.value}`, ...headers } });
  for (const headers of [{}, { origin: "https://evil.example.com" }, { origin: "null" }]) {
    const answer = await send(headers);
    assert.equal(answer.status, 403, JSON.stringify(headers));
    assert.match(await answer.text(), /did not come from a page of Strongroom/);
  }
  assert.equal(await status(owner, "/items"), 200);
  assert.equal(new URL(owner.url()).pathname, "/items", "still signed in");
});
