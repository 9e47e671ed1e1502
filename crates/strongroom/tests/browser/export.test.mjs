// An export by the page: refused with what to mend, downloaded, and opened with nothing of ours, as Bitwarden's help
// describes its format.

import assert from "node:assert/strict";
import { createDecipheriv, createHmac, pbkdf2Sync, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { axe, cspViolations, launchBrowser, newPage, screenshot, signIn, startDemo } from "./harness.mjs";

const PASSPHRASE = "tide and lamp and six";
let demo, browser;

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** HKDF-Expand-SHA-256 of one block (RFC 5869, section 2.3); Node's own HKDF would extract first. */
const expand = (key, info) => createHmac("sha256", key).update(info).update(Buffer.from([1])).digest();

/** What a password-protected export holds. */
function opened(file, passphrase) {
  const master = pbkdf2Sync(passphrase, file.salt, file.kdfIterations, 32, "sha256");
  const [iv, body, mac] = file.data.slice(2).split("|").map((part) => Buffer.from(part, "base64"));
  const found = createHmac("sha256", expand(master, "mac")).update(iv).update(body).digest();
  assert.ok(timingSafeEqual(found, mac), "the MAC is another one");
  const cipher = createDecipheriv("aes-256-cbc", expand(master, "enc"), iv);
  return JSON.parse(Buffer.concat([cipher.update(body), cipher.final()]).toString());
}

async function download(page) {
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: /^Export \d+ item/ }).click()]);
  assert.equal(await saved.failure(), null);
  return { name: saved.suggestedFilename(), text: await readFile(await saved.path(), "utf8") };
}

for (const javaScriptEnabled of [true, false]) {
  test(`a file is exported, encrypted and readable, ${javaScriptEnabled ? "with" : "without"} JavaScript`, async () => {
    const page = await newPage(browser, { javaScriptEnabled });
    const refused = cspViolations(page);
    await signIn(page, demo, "owner");
    await page.goto(`${demo.info.url}/items`);
    await page.getByRole("link", { name: "Export", exact: true }).click();
    await page.getByRole("heading", { name: "Export", exact: true }).waitFor();
    const count = Number((await page.locator("#plan strong").innerText()).split(" ")[0]);
    assert.ok(count > 1);
    await page.locator("#left-out").getByText("earlier revisions of items").waitFor();

    await page.getByLabel("Passphrase", { exact: true }).fill(PASSPHRASE);
    await page.getByLabel("The same again", { exact: true }).fill("another");
    await page.getByRole("button", { name: /^Export \d+ item/ }).click();
    await page.getByText("The two are not the same.").waitFor();
    if (javaScriptEnabled) {
      assert.deepEqual(await axe(page), []);
      await screenshot(page, "export");
    }
    await page.getByLabel("Passphrase", { exact: true }).fill(PASSPHRASE);
    await page.getByLabel("The same again", { exact: true }).fill(PASSPHRASE);
    const sealed = await download(page);
    assert.match(sealed.name, /^strongroom_demo_\d{8}\.json$/);
    const inside = opened(JSON.parse(sealed.text), PASSPHRASE);
    assert.equal(inside.items.length, count);
    assert.equal(inside.strongroom.items, count);
    const login = inside.items.find((item) => item.type === 1 && item.login.password);
    assert.ok(login && !sealed.text.includes(login.name));

    await page.goto(`${demo.info.url}/export`);
    await page.getByLabel("Readable, as CSV").check();
    await page.getByRole("button", { name: /^Export \d+ item/ }).click();
    await page.getByText("To get a readable file, tick").waitFor();
    await page.getByLabel("I take these items out unencrypted").check();
    const table = await download(page);
    assert.match(table.name, /^strongroom_readable_demo_\d{8}\.csv$/);
    assert.ok(table.text.startsWith("folder,favorite,type,name,notes,fields,") && table.text.includes(login.name));
    await page.goto(`${demo.info.url}/notices`);
    await page.getByText(/items were exported as readable CSV/).first().waitFor();
    await page.goto(`${demo.info.url}/activity?action=export.`);
    await page.getByText(/began to export \d+ items? as csv from/).first().waitFor();
    assert.deepEqual(refused, []);
    await page.context().close();
  });
}
