// The main job, by keyboard alone: step 5 of the article to the letter, an account in the new vault, the key switched
// off and on again. Its screenshots are the ones of the README.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, cspViolations, launchBrowser, newPage, screenshot, startDemo } from "./harness.mjs";
import { choose, press, tabTo, tick, type } from "./keyboard.mjs";

/** Within this many milliseconds of the first refusal nothing of the vault is shown. */
const PROMISE_MS = 15_000;
const VAULT = "Contoso";
const TITLE = "Payroll portal";
const PASSWORD = "correct horse battery staple";

let demo, browser, page, refused;

before(async () => {
  demo = await startDemo({ STRONGROOM_VAULTS__MAX_PER_PROVIDER: "2" });
  browser = await launchBrowser();
  page = await newPage(browser);
  refused = cspViolations(page);
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

const heading = (name) => page.getByRole("heading", { level: 1, name, exact: true });
const onPage = async (name) => heading(name).waitFor();

test("an Owner signs in", async () => {
  const owner = demo.info.members.find((member) => member.role === "owner");
  await page.goto(demo.info.url);
  await onPage("Sign in");
  await type(page, "E-mail address", owner.email);
  await type(page, "Password", owner.password);
  await page.keyboard.press("Enter");
  await onPage("Dashboard");
});

test("step 5: Settings, Privacy and Security, Vault management, Create new vault", async () => {
  await press(page, "link", "Settings");
  await onPage("Workspace Configuration");
  await press(page, "link", "Privacy and Security");
  await page.getByRole("heading", { name: "Vault management", exact: true }).waitFor();
  await screenshot(page, "vaults-before");
  await press(page, "link", "Create new vault");
  await onPage("Create new vault");
  await type(page, "Vault name", VAULT);
  await choose(page, "Strategy", "Azure External Keys");
  await tick(page, /Set as default vault/);
  await press(page, "button", "Next");
  await onPage("Configure the Azure vault");
  const lines = (await page.getByRole("dialog").innerText()).split("\n").map((line) => line.trim());
  const wanted = ["Configure the Azure vault", "Client ID", "Tenant ID", "Client Secret", "Vault URL", "Vault Key Name", "Create vault"];
  assert.deepEqual(lines.filter((line) => wanted.includes(line)), wanted);
});

test("what cannot work is named before anything is saved", async () => {
  const azure = demo.info.azure;
  await type(page, "Client ID", azure.client_id);
  await type(page, "Tenant ID", azure.tenant_id);
  await type(page, "Client Secret", "not-the-secret");
  await type(page, "Vault URL", azure.vault_url);
  await type(page, "Vault Key Name", azure.vault_key_name);
  await press(page, "button", "Check");
  const checks = page.getByRole("list", { name: "Checks" });
  await checks.waitFor();
  await checks.locator('[data-code="sign_in"].bad').waitFor();
  await page.locator("#checks-told").waitFor();
});

test("step 5: live checks, Create vault, success message", async () => {
  // The secret is the one value that never comes back from the server.
  await type(page, "Client Secret", demo.info.azure.client_secret);
  await press(page, "button", "Check");
  const checks = page.getByRole("list", { name: "Checks" });
  await checks.locator('[data-code="key.unwrap"].ok').waitFor();
  assert.equal(await checks.locator("li.bad").count(), 0);
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "wizard");
  await page.locator("#checks-told").waitFor();
  const warnings = page.getByRole("checkbox", { name: /I have read the warning/ });
  if (await warnings.count()) await tick(page, /I have read the warning/);
  await press(page, "button", "Create vault");
  await page.getByRole("status").filter({ hasText: "The vault was created." }).waitFor();
  const row = page.getByRole("row", { name: new RegExp(VAULT) });
  assert.match(await row.innerText(), /Default[\s\S]*Azure External Keys[\s\S]*Healthy/);
  await screenshot(page, "vaults");
});

test("one more vault of the provider is refused by the limit, and says what to do", async () => {
  await press(page, "link", "Create new vault");
  await type(page, "Vault name", "One too many");
  await choose(page, "Strategy", "Azure External Keys");
  await press(page, "button", "Next");
  const told = await page.getByRole("dialog").getByRole("alert").innerText();
  assert.match(told, /at most 2/);
  assert.match(told, /vaults\.max_per_provider/);
  await page.keyboard.press("Escape");
});

test("an account is created in the new vault and revealed", async () => {
  await press(page, "link", "New item");
  await onPage("New account");
  await type(page, "Title", TITLE);
  await type(page, "Usernames", "olivia");
  await type(page, "Password", PASSWORD);
  await press(page, "button", "Create account");
  await onPage(TITLE);
  assert.equal(await page.getByText(PASSWORD).count(), 0);
  await press(page, "button", "Reveal");
  await page.getByText(PASSWORD).waitFor();
  await screenshot(page, "open");
});

test("with the key disabled all of it goes dark, with the cause named, and comes back", async () => {
  await demo.run("key", "disable");
  const began = Date.now();
  await onPage("This item is dark");
  assert.ok(Date.now() - began < PROMISE_MS, `dark only after ${Date.now() - began} ms`);
  for (const secret of [PASSWORD, TITLE]) assert.equal((await page.content()).includes(secret), false, secret);
  await page.getByText("Key disabled").first().waitFor();
  await page.getByText("az keyvault key set-attributes").first().waitFor();
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "dark");

  await press(page, "link", "Items");
  await onPage("Items");
  assert.equal((await page.content()).includes(TITLE), false);
  await page.getByText(/items? (is|are) dark/).first().waitFor();
  await screenshot(page, "dark-list");
  await press(page, "link", "Dashboard");
  await onPage("Dashboard");
  assert.equal((await page.content()).includes(TITLE), false);

  await demo.run("key", "enable");
  await page.getByRole("link", { name: new RegExp(TITLE) }).first().waitFor();
  await tabTo(page, new RegExp(`^.*${TITLE}.*$`), "link");
  await page.keyboard.press("Enter");
  await onPage(TITLE);
  await press(page, "button", "Reveal");
  await page.getByText(PASSWORD).waitFor();
});

test("nothing of it asked the browser for more than the policy allows", () => assert.deepEqual(refused, []));
