// What holds on every page, on the real ones: nothing serious for axe in light and dark, nothing that the policy
// refuses, and the words of the article's step 5 to the letter.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, cspViolations, launchBrowser, newPage, screenshot, signIn, startDemo } from "./harness.mjs";

const PAGES = {
  dashboard: "/",
  items: "/items",
  export: "/export",
  trash: "/trash",
  "new-account": "/items/new",
  "new-secret": "/items/new?type=secret&kind=ssh_key",
  settings: "/settings",
  "privacy-and-security": "/settings/privacy-and-security",
  "new-vault": "/settings/vaults/new",
  "rewrap-all": "/settings/vaults/rewrap",
  jobs: "/jobs",
  "empty-trash": "/trash/purge",
  health: "/health",
  notices: "/notices",
  "notice-settings": "/settings/notices",
  "new-webhook": "/settings/webhooks/new",
  members: "/members",
  invite: "/members/invite",
  transfer: "/members/transfer",
  activity: "/activity",
  profile: "/profile",
  "new-token": "/profile/tokens/new",
  "not-found": "/nowhere",
};

let demo, browser;

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

async function look(page, name, refused) {
  // What axe looks at does not depend on the width.
  if (page.viewportSize().width > 400) assert.deepEqual(await axe(page), [], name);
  assert.equal(await page.locator("h1").count(), 1, `${name} has one heading of the first rank`);
  const ids = await page.locator("[id]").evaluateAll((found) => found.map((one) => one.id));
  assert.deepEqual(ids.filter((id, index) => ids.indexOf(id) !== index), [], `${name} has ids twice`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${name} is ${wide} px wider than the window`);
  assert.deepEqual(refused, [], name);
  await screenshot(page, name);
}

for (const colorScheme of ["light", "dark"]) {
  for (const [kind, viewport] of Object.entries({ wide: { width: 1280, height: 800 }, narrow: { width: 380, height: 800 } })) {
    test(`every page in ${colorScheme}, ${kind}`, async () => {
      const page = await newPage(browser, { colorScheme, viewport });
      const refused = cspViolations(page);
      await page.goto(`${demo.info.url}/signin`);
      await look(page, `${colorScheme}-${kind}-sign-in`, refused);
      await signIn(page, demo, "owner");
      for (const [name, path] of Object.entries(PAGES)) {
        const answer = await page.goto(demo.info.url + path);
        assert.equal(answer.status(), name === "not-found" ? 404 : 200, name);
        await look(page, `${colorScheme}-${kind}-${name}`, refused);
      }
      await page.goto(`${demo.info.url}/items`);
      await page.locator("a.item").first().click();
      await page.locator(".item-page").waitFor();
      await look(page, `${colorScheme}-${kind}-item`, refused);
      for (const tab of [/^History/, /^Sharing/]) {
        await page.getByRole("link", { name: tab }).click();
        await page.locator('.tabs a[aria-current="page"]').filter({ hasText: tab }).waitFor();
        await look(page, `${colorScheme}-${kind}-item-${tab.source.slice(1).toLowerCase()}`, refused);
      }
      await page.goto(`${demo.info.url}/settings/vaults/${demo.info.vaults[0].id}`);
      await page.getByRole("button", { name: "Check now" }).click();
      await page.locator("#checks-told").waitFor();
      await look(page, `${colorScheme}-${kind}-vault`, refused);
      for (const part of ["health", "settings", "key", "credential", "key-vault", "move", "delete"]) {
        const answer = await page.goto(`${demo.info.url}/settings/vaults/${demo.info.vaults[0].id}/${part}`);
        assert.equal(answer.status(), 200, part);
        await look(page, `${colorScheme}-${kind}-vault-${part}`, refused);
      }
      await page.context().close();
    });
  }
}

test("dark pages in light and dark, wide and narrow", async () => {
  await demo.run("key", "disable");
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 380]) {
      const page = await newPage(browser, { colorScheme, viewport: { width, height: 800 } });
      const refused = cspViolations(page);
      await signIn(page, demo, "owner");
      await page.getByText(/items are dark/).first().waitFor();
      await look(page, `${colorScheme}-${width}-dark-dashboard`, refused);
      await page.goto(`${demo.info.url}/settings/vaults/${demo.info.vaults[0].id}`);
      await page.locator("main").getByText("Key disabled").first().waitFor();
      await look(page, `${colorScheme}-${width}-dark-vault`, refused);
      await page.context().close();
    }
  }
  await demo.run("key", "enable");
});

// "Set up an Azure Key Vault integration", step 5.
test("step 5 reads as the article does, in its order", async () => {
  const page = await newPage(browser, { javaScriptEnabled: false });
  await signIn(page, demo, "owner");
  const inOrder = async (...strings) => {
    const shown = (await page.locator("body").innerText()).split("\n").map((line) => line.trim());
    let at = -1;
    for (const string of strings) {
      const next = shown.indexOf(string, at + 1);
      assert.ok(next > at, `${page.url()} lacks “${string}” here:\n${shown.slice(at + 1).join("\n")}`);
      at = next;
    }
  };
  await inOrder("Settings");
  await page.getByRole("link", { name: "Settings", exact: true }).click();
  await inOrder("Workspace Configuration", "General", "Privacy and Security");
  await page.getByRole("link", { name: "Privacy and Security", exact: true }).click();
  await inOrder("Workspace Configuration", "Privacy and Security", "Vault management", "Create new vault");
  await page.getByRole("link", { name: "Create new vault", exact: true }).click();
  await inOrder("Create new vault", "Vault name", "Strategy", "Set as default vault", "Next");
  const strategies = await page.getByLabel("Strategy", { exact: true }).locator("option").allInnerTexts();
  assert.deepEqual(strategies, ["Cloud vault", "Azure External Keys"]);
  // One Azure vault is there already: its second dialog is behind the limit, which a Cloud vault does not meet.
  await page.getByLabel("Vault name", { exact: true }).fill("Second");
  await page.getByLabel("Strategy", { exact: true }).selectOption("Azure External Keys");
  await page.getByRole("button", { name: "Next", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: "at most 1" }).waitFor();
});
