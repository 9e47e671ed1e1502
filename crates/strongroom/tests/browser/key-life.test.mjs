// The life of a key, on its pages: a new key version is seen and the vault keys go to it, a credential is replaced,
// items move to another vault, the trash deletes forever. Every dialog is looked at by axe, in the theme of its test.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { axe, cspViolations, launchBrowser, newPage, screenshot, signIn, startDemo, strongroom } from "./harness.mjs";

let demo, browser, azure, cloud;

before(async () => {
  demo = await startDemo({ STRONGROOM_VAULTS__MAX_PER_PROVIDER: "3" });
  browser = await launchBrowser();
  azure = demo.info.vaults.find(({ strategy }) => strategy === "azure_external_keys");
  cloud = demo.info.vaults.find(({ strategy }) => strategy === "cloud");
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

afterEach(() => fetch(`${demo.info.standin.control}/faults`, { method: "DELETE" }));

/** The Owner, at a path. What the policy refuses is collected in `refused`. */
async function owner(path, options) {
  const page = await newPage(browser, options);
  const refused = cspViolations(page);
  await signIn(page, demo, "owner");
  await page.goto(demo.info.url + path);
  return { page, refused, ...parts(page) };
}

const parts = (page) => ({
  button: (name) => page.getByRole("button", { name, exact: true }),
  link: (name) => page.getByRole("link", { name, exact: true }),
  heading: (name) => page.getByRole("heading", { level: 1, name }),
  job: (name) => page.locator("article.job").filter({ hasText: name }),
});

async function fine(page, name) {
  assert.deepEqual(await axe(page), [], name);
  await screenshot(page, `key-life-${name}`);
}

test("a new key version is seen; a rewrap takes the vault keys to it, and the older one is safe to disable", async () => {
  await demo.run("key", "rotate");
  const { page, refused, button, link, heading, job } = await owner(`/settings/vaults/${azure.id}`);
  const version = page.locator("tr[data-key-version]");
  assert.equal(await version.count(), 2);
  const older = await version.filter({ hasText: "In use" }).getAttribute("data-key-version");
  assert.match(await version.filter({ hasText: "Newest" }).innerText(), /New wraps go under it/);
  assert.match(await version.filter({ hasText: "In use" }).innerText(), /Needed by 1 vault key, \d+ items/);
  await fine(page, "behind");

  await link("Change the key…").click();
  await heading(/^Change the key of/).waitFor();
  assert.equal(await page.getByRole("radio", { name: /^Rewrap/ }).isChecked(), true, "what most come for is chosen");
  const told = await page.getByRole("dialog").innerText();
  for (const words of ["3 key operations at Key Vault", "no item opened", "Hygiene, not a cure for a compromise"]) {
    assert.ok(told.includes(words), `${words} in ${told}`);
  }
  await fine(page, "change");
  await button("Start").click();
  await job("Rewrap").filter({ hasText: "Done" }).waitFor();
  const gone = page.locator(`tr[data-key-version="${older}"]`);
  await gone.getByText("Safe to disable: nothing that this instance knows of needs it. 1 superseded wrap is under it").waitFor();
  assert.equal(await page.locator("#kill-switch .command").count(), 2, "superseded wraps still open by it");
  await fine(page, "rewrapped");
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("a job that goes on can be paused and resumed; its page shows it by itself", async () => {
  await demo.run("key", "rotate");
  const { page, button, link, job } = await owner(`/settings/vaults/${azure.id}`, { colorScheme: "dark" });
  await fetch(`${demo.info.standin.control}/faults`, { method: "POST", body: JSON.stringify({ match: { operation: "wrapkey" }, effect: { delay_ms: 2500 }, times: 1 }) });
  await link("Change the key…").click();
  await page.getByRole("radio", { name: /^Rewrap/ }).check();
  await button("Start").click();
  await page.getByRole("button", { name: /^Pause/ }).click();
  await job("Rewrap").filter({ hasText: "Paused" }).waitFor();
  await fine(page, "paused");
  await page.getByRole("button", { name: /^Resume/ }).click();
  await job("Rewrap").filter({ hasText: "Done" }).waitFor();
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Jobs", exact: true }).click();
  await page.getByRole("list", { name: /^Jobs/ }).getByText("Rewrap").first().waitFor();
  await fine(page, "jobs");
  await page.context().close();
});

test("rotation and re-encryption say what earlier copies still expose, and run", async () => {
  const { page, button, link, job } = await owner(`/settings/vaults/${azure.id}`);
  for (const [choice, name, words] of [
    [/^Rotate/, "Rotation", /Whoever has learned the vault key before/],
    [/^Re-encrypt/, "Re-encryption", /change the passwords themselves/],
  ]) {
    await link("Change the key…").click();
    await page.getByRole("radio", { name: choice }).check();
    await page.getByText(words).waitFor();
    await button("Start").click();
    await job(name).filter({ hasText: "Done" }).waitFor();
  }
  await page.locator("#generations").getByText("Current").waitFor();
  await page.getByRole("button", { name: "Retire generation 1", exact: true }).click();
  await page.getByText("The generation was retired").waitFor();
  await fine(page, "generations");
  await page.goto(`${demo.info.url}/jobs`);
  await page.getByRole("link", { name: /^Re-encryption/ }).click();
  assert.match(await page.locator("#account").innerText(), /(\d+) there \+ 0 came = \1 re-encrypted \+ 0 kept \+ 0 gone\./);
  await page.context().close();
});

test("a credential is checked before it replaces the one that is held", async () => {
  const { page, refused, button, link, heading } = await owner(`/settings/vaults/${azure.id}`);
  await link("Replace…").click();
  await heading(/^Replace the credential of/).waitFor();
  const box = page.getByRole("dialog"), secret = page.getByLabel("Client Secret", { exact: true });
  assert.equal(await page.getByLabel("Client ID", { exact: true }).inputValue(), demo.info.azure.client_id);
  await secret.fill("not-the-secret");
  await button("Check").click();
  await box.locator("#checks-told.bad").waitFor();
  assert.equal(await box.locator("#check-cause").getAttribute("data-code"), "sign_in");
  assert.equal(await page.locator("main #checks-told").count(), 0, "the panel of the page below is left alone");
  await fine(page, "credential-refused");
  await button("Replace").click();
  await box.getByText("This does not work yet. Nothing was changed.").waitFor();

  await secret.fill(demo.info.azure.client_secret);
  await button("Check").click();
  await box.locator("#checks-told:is(.ok, .warn)").waitFor();
  const warned = box.getByRole("checkbox", { name: /I have read the warning/ });
  if (await warned.count()) await warned.check();
  await fine(page, "credential");
  await button("Replace").click();
  await page.getByText("The credential was replaced.").waitFor();
  await page.locator("h1").getByText("Healthy").waitFor();

  await link("Replace…").click();
  await page.getByRole("radio", { name: "Its date only" }).check();
  await page.getByRole("dialog").getByLabel("Expires", { exact: true }).last().fill("2031-05-01");
  await button("Replace").click();
  await page.getByText("1 May 2031").waitFor();
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("an item moves to another vault, and the account adds up", async () => {
  const { page, refused, button, link, heading } = await owner(`/items?vault=${cloud.id}`);
  await page.locator("a.item").first().click();
  const item = new URL(page.url()).pathname;
  await page.getByTitle("Move to another vault").click();
  await heading("Move 1 item to another vault").waitFor();
  await fine(page, "move-where");
  await button("Next").click();
  await heading(`Move 1 item to ${azure.name}`).waitFor();
  await button("Move 1 item").click();
  await heading(/^Move of items from/).waitFor();
  await page.locator("article.job").filter({ hasText: "Done" }).waitFor();
  await page.getByText("1 there + 0 came = 1 moved + 0 kept + 0 gone.").waitFor();
  await fine(page, "account");
  await page.goto(demo.info.url + item);
  await page.getByRole("navigation", { name: "Breadcrumb" }).getByRole("link", { name: azure.name, exact: true }).waitFor();
  await button("Reveal").click();
  await page.locator("[data-revealed]").waitFor();
  assert.equal(await link("Move…").count() > 0, true);
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("a selection does not leave the key in Azure, and says who can allow it", async () => {
  const { page, heading, button } = await owner(`/items?vault=${azure.id}`);
  const boxes = page.getByRole("checkbox", { name: /^Select / });
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByText("2 selected").waitFor();
  await button("Move to another vault…").click();
  await heading("Move 2 items to another vault").waitFor();
  await page.getByLabel("To the vault").selectOption({ label: `${cloud.name} (Cloud vault)` });
  await button("Next").click();
  await page.getByRole("alert").filter({ hasText: "its policy forbids it" }).waitFor();
  await fine(page, "move-refused");
  await page.context().close();
});

test("a vault is disabled: nobody reads its items; active again, all is back", async () => {
  const { page, button, heading } = await owner(`/settings/vaults/${azure.id}/settings`);
  await page.getByRole("radio", { name: /^Disabled/ }).check();
  await button("Save").click();
  await page.getByRole("alert").filter({ hasText: "the default vault has to take new items" }).waitFor();
  await page.goto(`${demo.info.url}/settings/vaults/${cloud.id}`);
  await button("Set as default vault").click();
  await page.getByText("This is the default vault now").waitFor();

  await page.goto(`${demo.info.url}/settings/vaults/${azure.id}/settings`);
  await page.getByRole("radio", { name: /^Disabled/ }).check();
  await button("Save").click();
  await page.getByText("The vault was saved.").waitFor();
  await page.locator("h1").getByText("Vault disabled").waitFor();
  await fine(page, "disabled");
  await page.goto(`${demo.info.url}/items?vault=${azure.id}`);
  await page.getByText(/are in a disabled vault/).first().waitFor();
  assert.equal(await page.locator("a.item").count(), 0);
  await page.goto(`${demo.info.url}/items/new`);
  const offered = await page.getByLabel("Vault", { exact: true }).locator("option").allInnerTexts();
  assert.deepEqual(offered, [`${cloud.name} (Cloud vault)`]);

  await page.goto(`${demo.info.url}/settings/vaults/${azure.id}/settings`);
  await page.getByRole("radio", { name: /^Active/ }).check();
  await button("Save").click();
  await page.getByText("The vault was saved.").waitFor();
  await page.goto(`${demo.info.url}/items?vault=${azure.id}`);
  await page.locator("a.item").first().waitFor();
  await heading("Items").waitFor();
  await page.context().close();
});

test("once the Owner allows it, items leave the key in Azure, loudly", async () => {
  const { page, refused, button, heading, job } = await owner(`/settings/vaults/${azure.id}/settings`, { colorScheme: "dark" });
  await page.getByRole("checkbox", { name: /Items may move from here to a Cloud vault/ }).check();
  await button("Save").click();
  await page.getByText("The vault was saved.").waitFor();
  await page.goto(`${demo.info.url}/items?vault=${azure.id}`);
  const boxes = page.getByRole("checkbox", { name: /^Select / });
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await button("Move to another vault…").click();
  await page.getByLabel("To the vault").selectOption({ label: `${cloud.name} (Cloud vault)` });
  await button("Next").click();
  await page.getByRole("alert").filter({ hasText: "out of reach of your key in Azure" }).waitFor();
  await fine(page, "move-weakens");
  await page.getByRole("checkbox", { name: /I take them out of reach/ }).check();
  await button("Move 2 items").click();
  await heading(/^Move of items from/).waitFor();
  await job("Done").waitFor();
  await page.getByText("2 there + 0 came = 2 moved + 0 kept + 0 gone.").waitFor();
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("another Key Vault is checked before anything changes; the key of now is no change", async () => {
  const { page, button, link, heading } = await owner(`/settings/vaults/${azure.id}`);
  await link("Change the Key Vault…").click();
  await heading(/^Change the Key Vault of/).waitFor();
  const box = page.getByRole("dialog");
  await page.getByLabel("Vault URL", { exact: true }).fill("https://no-such-key-vault.vault.azure.net");
  await button("Check").click();
  await box.locator("#checks-told.bad").waitFor();
  await fine(page, "key-vault-refused");
  await page.getByLabel("Vault URL", { exact: true }).fill(demo.info.azure.vault_url);
  await button("Check").click();
  await box.locator("#checks-told:is(.ok, .warn)").waitFor();
  const warned = box.getByRole("checkbox", { name: /I have read the warning/ });
  if (await warned.count()) await warned.check();
  await button("Change").click();
  await box.getByRole("alert").filter({ hasText: "This is the key that the vault uses already" }).waitFor();
  await page.context().close();
});

test("an empty vault is deleted once its name is typed", async () => {
  const { page, button, link, heading } = await owner("/settings/vaults/new");
  await page.getByLabel("Vault name", { exact: true }).fill("Short-lived");
  await page.getByLabel("Strategy", { exact: true }).selectOption("Cloud vault");
  await button("Next").click();
  await button("Create vault").click();
  await page.getByRole("row", { name: /Short-lived/ }).getByRole("link", { name: "Short-lived", exact: true }).click();
  await page.getByRole("navigation", { name: "Parts of this vault" }).getByRole("link", { name: "Settings" }).click();
  await link("Delete…").click();
  await heading("Delete Short-lived").waitFor();
  const typed = page.getByRole("dialog").getByRole("textbox");
  await typed.fill("short");
  await button("Delete this vault").click();
  await page.getByText("exactly as it is shown").waitFor();
  await fine(page, "delete-vault");
  await typed.fill("Short-lived");
  await button("Delete this vault").click();
  await page.getByText("The vault was deleted.").waitFor();
  assert.equal(await page.getByRole("row", { name: /Short-lived/ }).count(), 0);
  await page.context().close();
});

test("the trash says until when it keeps an item, and deletes it forever only when asked twice", async () => {
  const { page, button, heading } = await owner(`/items?vault=${cloud.id}`, { colorScheme: "dark" });
  await page.locator("a.item").first().click();
  await button("Move to trash").click();
  await page.getByText(/deleted forever/).first().waitFor();
  await page.getByRole("button", { name: /^Delete .* forever$/ }).click();
  await heading("Delete forever").waitFor();
  await fine(page, "delete-forever");
  await page.getByRole("dialog").getByRole("button", { name: "Delete forever" }).click();
  await page.getByRole("status").filter({ hasText: "Deleted forever." }).waitFor();
  assert.equal(await page.getByRole("list", { name: "Items in the trash" }).count(), 0);
  await page.context().close();
});

test("without JavaScript a key is changed, and the page looks again by itself", async () => {
  await demo.run("key", "rotate");
  const { page, button, link, heading, job } = await owner(`/settings/vaults/${azure.id}`, { javaScriptEnabled: false });
  await link("Change the key…").click();
  await heading(/^Change the key of/).waitFor();
  await page.getByRole("radio", { name: /^Rewrap/ }).check();
  await button("Start").click();
  await job("Rewrap").filter({ hasText: "Done" }).waitFor();
  await page.goto(`${demo.info.url}/items?vault=${cloud.id}`);
  await page.getByRole("checkbox", { name: /^Select / }).first().check();
  await button("Move to another vault…").click();
  await button("Next").click();
  await button("Move 1 item").click();
  await job("Move").filter({ hasText: "Done" }).waitFor();
  await page.context().close();
});

test("a vault goes to another Key Vault: healthy on its key, the vault keys rewrapped, an item reveals", async () => {
  const url = await secondKeyVault("strongroom-second");
  const { page, refused, button, link, heading, job } = await owner(`/settings/vaults/${azure.id}`);
  await link("Change the Key Vault…").click();
  await heading(/^Change the Key Vault of/).waitFor();
  const box = page.getByRole("dialog");
  assert.equal(await page.getByRole("radio", { name: "The same", exact: true }).isChecked(), true);
  await page.getByLabel("Vault URL", { exact: true }).fill(url);
  await button("Check").click();
  await box.locator("#checks-told:is(.ok, .warn)").waitFor();
  const warned = box.getByRole("checkbox", { name: /I have read the warning/ });
  if (await warned.count()) await warned.check();
  await fine(page, "key-vault");
  await button("Change").click();
  await page.getByRole("status").filter({ hasText: "Key Vault" }).waitFor();
  await job("Rewrap").filter({ hasText: "Done" }).waitFor();
  await page.locator("h1").getByText("Healthy").waitFor();
  await page.locator("main").getByText(url).first().waitFor();
  const before = page.locator("tr[data-key-version]").filter({ hasNotText: "In use" }).first();
  const demos = `of ${new URL(demo.info.azure.vault_url).host}/keys/${demo.info.azure.vault_key_name}`;
  await before.getByText(demos, { exact: true }).waitFor();
  await fine(page, "key-vault-changed");

  await page.goto(`${demo.info.url}/items?vault=${azure.id}`);
  await page.locator("a.item").first().click();
  await button("Reveal").click();
  await page.locator("[data-revealed]").waitFor();
  assert.deepEqual(refused, []);
  await page.context().close();
});

/** Steps 2 to 4 once more, as the customer's administrator: a Key Vault of this name, where the demo's application may use a key. */
async function secondKeyVault(name) {
  const { azure: values, standin } = demo.info;
  const made = ["--resource-group", name, "--key-vault", name, "--location", "westeurope", "--key", values.vault_key_name];
  const { code, printed } = await strongroom(
    ["azure", "setup", "--yes", "--sign-in", "service-principal", "--client-id", values.client_id, ...made],
    {
      HTTPS_PROXY: standin.proxy,
      SSL_CERT_FILE: standin.ca,
      AZURE_TENANT_ID: standin.admin.tenant_id,
      AZURE_CLIENT_ID: standin.admin.client_id,
      AZURE_CLIENT_SECRET: standin.admin.client_secret,
      AZURE_SUBSCRIPTION_ID: standin.admin.subscription_id,
    },
  );
  assert.equal(code, 0, printed);
  return `https://${name}.vault.azure.net`;
}
