// The wizard's second dialog: checks that appear line by line, a cause that is named and mended, warnings that need a
// tick, three kinds of credential, and the same without JavaScript.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import { axe, cspViolations, eventually, launchBrowser, newPage, screenshot, signIn, startDemo } from "./harness.mjs";

const DAY_MS = 86_400_000;

let demo, browser;

before(async () => {
  demo = await startDemo({ STRONGROOM_VAULTS__MAX_PER_PROVIDER: "9" });
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

afterEach(() => standin("DELETE", "/faults"));

async function standin(method, path, body) {
  const answer = await fetch(demo.info.standin.control + path, { method, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
}

/** Opens *Configure the Azure vault* and fills in the demo's values, the secret last. */
async function wizard(name, options, at = demo) {
  const page = await newPage(browser, options);
  const refused = cspViolations(page);
  await signIn(page, at, "owner");
  await page.goto(`${at.info.url}/settings/privacy-and-security`);
  await page.getByRole("link", { name: "Create new vault", exact: true }).click();
  await page.getByLabel("Vault name", { exact: true }).fill(name);
  await page.getByLabel("Strategy", { exact: true }).selectOption("Azure External Keys");
  await page.getByRole("button", { name: "Next", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Configure the Azure vault" }).waitFor();
  const { azure } = at.info;
  const values = [["Client ID", azure.client_id], ["Tenant ID", azure.tenant_id], ["Vault URL", azure.vault_url], ["Vault Key Name", azure.vault_key_name], ["Client Secret", azure.client_secret]];
  for (const [label, value] of values) await page.getByLabel(label, { exact: true }).fill(value);
  return { page, refused, parts: parts(page) };
}

const parts = (page) => ({
  check: page.getByRole("button", { name: "Check", exact: true }),
  create: page.getByRole("button", { name: "Create vault", exact: true }),
  panel: page.getByRole("region", { name: "Checks" }),
  row: (code) => page.locator(`ol.checks li[data-code="${code}"]`),
  cause: page.locator("#check-cause"),
  verdict: page.locator("#checks-told"),
  tick: page.getByRole("checkbox", { name: /I have read the warning/ }),
});

/** With its key, as PEM. */
async function certificateNobodyKnows() {
  const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", "-subj", "/CN=strongroom", "-keyout", "-", "-out", "-"];
  return (await promisify(execFile)("openssl", words)).stdout;
}

const created = (page, name) => page.getByRole("row", { name: new RegExp(name) }).waitFor();

test("lines appear one after the other while the check runs, and the focus stays", async () => {
  const { page, parts, refused } = await wizard("Live");
  await standin("POST", "/faults", { match: { operation: "wrapkey" }, effect: { delay_ms: 2500 } });
  await page.evaluate(() => {
    window.seen = [];
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) for (const node of addedNodes) if (node.dataset?.code) window.seen.push([node.dataset.code, performance.now()]);
    }).observe(document.querySelector("ol.checks"), { childList: true });
  });
  await parts.check.focus();
  await page.keyboard.press("Enter");
  await parts.row("key.readable").and(page.locator(".ok")).waitFor();
  assert.equal(await parts.row("key.wrap").count(), 0, "the wrap is still being asked for");
  assert.match(await parts.panel.innerText(), /Checked \d+ of \d+…/);
  assert.match(await page.locator("ol.checks .waiting").innerText(), /wrap/i);
  assert.equal(await parts.check.evaluate((button) => button === document.activeElement), true);
  await screenshot(page, "wizard-running");

  await parts.verdict.waitFor();
  const seen = await page.evaluate(() => window.seen);
  const at = (code) => seen.find(([found]) => found === code)[1];
  assert.ok(at("key.wrap") - at("form.client_id") > 2000, "the first line was there long before the last");
  const shown = await page.locator("ol.checks > li").evaluateAll((rows) => rows.map((row) => row.dataset.code));
  assert.deepEqual(seen.map(([code]) => code), shown, "the page holds them in the order in which they came");
  assert.equal(await page.locator("ol.checks .waiting").count(), 0);
  assert.equal(await parts.check.evaluate((button) => button === document.activeElement), true);
  assert.match(await page.locator("#checks-said").innerText(), /\d+ passed/);
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("a failing check names the cause and its command; mended, it turns green and the vault is made", async () => {
  const { page, parts, refused } = await wizard("Mended");
  await demo.run("key", "disable");
  await parts.check.click();
  await parts.verdict.waitFor();
  assert.equal(await parts.cause.getAttribute("data-code"), "key.enabled");
  const told = await parts.cause.innerText();
  assert.match(told, /The cause/);
  assert.match(told, /Failed/);
  assert.match(told, new RegExp(`az keyvault key set-attributes --vault-name ${demo.info.azure.vault_url.match(/\/\/([^.]+)/)[1]}`));
  assert.equal(await page.locator("ol.checks li.bad").count(), 1);
  assert.match(await page.locator(".skipped summary").innerText(), /^\d+ not tried/);
  assert.match(await page.locator("#checks-said").textContent(), /cannot be used yet/);
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "wizard-failed");

  await parts.create.click();
  await page.getByRole("heading", { level: 1, name: "Configure the Azure vault" }).waitFor();
  await parts.cause.waitFor();
  assert.equal(await parts.cause.getAttribute("data-code"), "key.enabled", "the server checks again and refuses");

  await demo.run("key", "enable");
  await parts.check.click();
  await page.locator("#checks-told.ok, #checks-told.warn").waitFor();
  assert.equal(await page.locator("ol.checks li.bad").count(), 0);
  await screenshot(page, "wizard");
  if (await parts.tick.count()) await parts.tick.check();
  await parts.create.click();
  await created(page, "Mended");
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("values that cannot be right are named beside their fields, all at once", async () => {
  const { page, parts } = await wizard("Typing errors");
  await page.getByLabel("Client ID", { exact: true }).fill("not-a-guid");
  await page.getByLabel("Vault URL", { exact: true }).fill("https://example.com");
  await parts.check.click();
  await parts.verdict.waitFor();
  for (const label of ["Client ID", "Vault URL"]) {
    const field = page.getByLabel(label, { exact: true });
    assert.equal(await field.getAttribute("aria-invalid"), "true", label);
    const error = await field.getAttribute("aria-describedby");
    assert.ok((await page.locator(`#${error}`).innerText()).length > 10, label);
  }
  assert.equal(await page.locator("#check-cause").count(), 1, "one line is the cause");
  await page.getByLabel("Client ID", { exact: true }).fill(demo.info.azure.client_id);
  await page.locator(".stale-note").filter({ visible: true }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.context().close();
});

test("a warning is named and needs its tick", async () => {
  const { page, parts } = await wizard("Warned");
  const soon = new Date(Date.now() + 9 * DAY_MS).toISOString().slice(0, 10);
  await page.getByLabel("Expires", { exact: true }).fill(soon);
  await parts.check.click();
  await page.locator("#checks-told.warn").waitFor();
  assert.deepEqual(await axe(page), []);
  assert.match(await parts.panel.locator(".tick").innerText(), /secret/i);
  await screenshot(page, "wizard-warned");
  await parts.create.click();
  assert.equal(await parts.tick.evaluate((box) => box.validity.valueMissing), true);
  assert.equal(await page.getByRole("dialog").getByRole("heading", { level: 1 }).innerText(), "Configure the Azure vault");
  await parts.tick.check();
  await parts.create.click();
  await created(page, "Warned");
  await page.getByRole("row", { name: /Warned/ }).getByText("Credential: 8 days left").waitFor();
  await page.getByRole("link", { name: "Warned", exact: true }).click();
  await page.getByText("8 days left").waitFor();
  await page.context().close();
});

test("the credential is chosen by keyboard, and only its fields are shown and read", async () => {
  const { page, parts } = await wizard("By certificate");
  const pem = await certificateNobodyKnows();
  const secret = page.getByLabel("Client Secret", { exact: true }), certificate = page.getByLabel("Client certificate with its private key");
  assert.equal(await secret.isVisible(), true);
  assert.equal(await certificate.isVisible(), false);
  assert.equal(await page.getByRole("radio", { name: "Workload identity" }).isDisabled(), true);
  await page.getByText("azure.federated_token_file").waitFor();

  await page.getByRole("radio", { name: "Client secret" }).focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await secret.isVisible(), false);
  await certificate.fill("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----");
  await parts.check.click();
  await parts.cause.waitFor();
  assert.match(await parts.cause.getAttribute("data-code"), /^form\./);
  assert.equal(await certificate.getAttribute("aria-invalid"), "true");

  // A good one that nobody registered at the application: Entra says so, and how to do it.
  await certificate.fill(pem);
  await parts.check.click();
  await page.locator("#check-cause[data-code^=sign_in]").waitFor();
  assert.match(await parts.cause.innerText(), /az ad app credential reset --id \S+ --cert/);
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "wizard-certificate");
  assert.equal((await page.content()).includes("PRIVATE KEY-----\nMII"), false);
  await page.getByRole("radio", { name: "Client secret" }).check();
  await parts.check.click();
  await page.locator("#checks-told.ok, #checks-told.warn").waitFor();
  await page.context().close();
});

test("nothing secret stays in the page, whatever went wrong", async () => {
  const { page, parts } = await wizard("Secretive");
  const wrong = "wr0ng~but.looks-like-a_secret";
  await page.getByLabel("Client Secret", { exact: true }).fill(wrong);
  await parts.check.click();
  await parts.cause.waitFor();
  assert.equal((await page.content()).includes(wrong), false, "after a check");
  await parts.create.click();
  await eventually("the answer to Create vault", async () => (await page.locator("#checks-told").innerText()).includes("cannot be used") && (await page.locator("[aria-busy]").count()) === 0);
  assert.equal((await page.content()).includes(wrong), false, "after a refusal");
  await page.keyboard.press("Escape");
  await eventually("the dialog's end", async () => (await page.locator("dialog.modal").count()) === 0);
  const left = await page.locator("input, textarea").evaluateAll((fields) => fields.map((field) => field.value));
  assert.equal(left.includes(wrong), false, "after closing");
  await page.context().close();
});

test("the set-up command is there to copy", async () => {
  const { page } = await wizard("Fiona's vault", { permissions: ["clipboard-read", "clipboard-write"] });
  await page.getByText("No Key Vault yet?").click();
  await page.locator(".setup").getByRole("button", { name: "Copy" }).first().click();
  const copied = await eventually("a copy", () => page.evaluate(() => navigator.clipboard.readText()));
  assert.match(copied, /strongroom azure setup/);
  assert.ok(copied.includes(demo.info.url), copied);
  await page.context().close();
});

test("without JavaScript the same form brings the same lines, whole", async () => {
  const { page, parts } = await wizard("Plain", { javaScriptEnabled: false });
  const secret = page.getByLabel("Client Secret", { exact: true });
  await secret.fill("wr0ng~but.looks-like-a_secret");
  await parts.check.click();
  await parts.cause.waitFor();
  assert.match(await parts.cause.innerText(), /The cause/);
  assert.equal(await secret.inputValue(), "", "the secret never comes back");
  assert.equal((await page.content()).includes("wr0ng~"), false);
  await page.getByRole("radio", { name: "Client certificate" }).check();
  assert.equal(await secret.isVisible(), false);
  await page.getByLabel("Client certificate with its private key").fill(await certificateNobodyKnows());
  await parts.check.click();
  await page.locator("#check-cause[data-code=sign_in]").waitFor();
  assert.match(await parts.cause.innerText(), /AADSTS700027/);
  assert.equal(await page.getByLabel("Client certificate with its private key").inputValue(), "");
  await page.getByRole("radio", { name: "Client secret" }).check();
  await secret.fill(demo.info.azure.client_secret);
  await page.getByLabel("Expires", { exact: true }).fill(new Date(Date.now() + 9 * DAY_MS).toISOString().slice(0, 10));
  await parts.check.click();
  await parts.tick.waitFor();
  await secret.fill(demo.info.azure.client_secret);
  await parts.tick.check();
  await parts.create.click();
  await created(page, "Plain");
  await page.context().close();
});

test("the page of a vault runs its checks the same way", async () => {
  const page = await newPage(browser);
  const refused = cspViolations(page);
  await signIn(page, demo, "owner");
  await page.goto(`${demo.info.url}/settings/vaults/${demo.info.vaults[0].id}`);
  await standin("POST", "/faults", { match: { operation: "wrapkey" }, effect: { delay_ms: 1500 } });
  const { row, panel, verdict } = parts(page);
  await page.getByRole("button", { name: "Check now" }).click();
  await row("key.readable").waitFor();
  assert.equal(await row("key.wrap").count(), 0);
  assert.match(await panel.innerText(), /Checked \d+ of \d+…/);
  await verdict.waitFor();
  assert.equal(await page.locator("ol.checks li.bad").count(), 0);
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(refused, []);
  await screenshot(page, "vault-checked");

  // Turning dark loads the page again; what was just found out stays on it.
  await demo.run("key", "disable");
  await page.getByRole("button", { name: "Check now" }).click();
  await page.locator("#check-cause[data-code=\"key.enabled\"]").waitFor();
  await page.locator("main .dark").waitFor();
  assert.equal(await page.locator("#check-cause").count(), 1);
  const { y } = await page.locator("#check-cause").boundingBox();
  assert.ok(y > 0 && y < 800, `the cause is in sight: ${y}`);
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "vault-checked-dark");
  await demo.run("key", "enable");
  await page.locator("main .dark").waitFor({ state: "detached" });
  await page.context().close();
});

test("workload identity is offered where the server has a token file, and a token that Entra does not know is named", async () => {
  const subject = "system:serviceaccount:vaults:strongroom";
  const folder = await mkdtemp(path.join(os.tmpdir(), "strongroom-token-"));
  const file = path.join(folder, "token");
  const other = await startDemo({ STRONGROOM_VAULTS__MAX_PER_PROVIDER: "2", STRONGROOM_AZURE__FEDERATED_TOKEN_FILE: file });
  const issuer = "https://oidc.standin.example/cluster";
  try {
    const answer = await fetch(`${other.info.standin.control}/oidc-token`, { method: "POST", body: JSON.stringify({ issuer, subject, audience: "api://AzureADTokenExchange" }) });
    assert.equal(answer.status, 200, await answer.clone().text());
    await writeFile(file, (await answer.json()).token);
    const { page, parts } = await wizard("Federated", {}, other);
    await page.getByRole("radio", { name: "Workload identity" }).check();
    assert.equal(await page.getByLabel("Client Secret", { exact: true }).isVisible(), false);
    await parts.check.click();
    await page.locator("#check-cause[data-code=sign_in]").waitFor();
    const told = await parts.cause.innerText();
    assert.match(told, /az ad app federated-credential create/);
    assert.ok(told.includes(subject), told);
    assert.deepEqual(await axe(page), []);
    await screenshot(page, "wizard-workload-identity");
    await page.context().close();
  } finally {
    await other.stop();
    await rm(folder, { recursive: true });
  }
});

test("a server that goes away in the middle, or a session that ended, is said", async () => {
  const { page, parts } = await wizard("Interrupted");
  const told = (text) => page.locator(".running").filter({ hasText: text }).waitFor();
  await page.route("**/settings/vaults/check", (route) => route.abort());
  await parts.check.click();
  await told("The server could not be reached.");
  await page.unroute("**/settings/vaults/check");
  await page.route("**/settings/vaults/check", (route) => route.fulfill({ contentType: "application/x-ndjson", body: "" }));
  await parts.check.click();
  await told("The connection to the server broke off.");
  await page.unroute("**/settings/vaults/check");
  assert.equal(await page.locator("ol.checks .waiting").count(), 0);
  await page.context().clearCookies();
  await parts.check.click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  await page.context().close();
});

for (const colorScheme of ["light", "dark"]) {
  for (const [kind, viewport] of Object.entries({ wide: { width: 1280, height: 800 }, narrow: { width: 380, height: 800 }, zoomed: { width: 640, height: 400 } })) {
    test(`the dialog in ${colorScheme}, ${kind}: no fault for axe, nothing cut off`, async () => {
      const { page, parts } = await wizard(`${colorScheme} ${kind}`, { colorScheme, viewport });
      const look = async (name) => {
        assert.deepEqual(await axe(page), [], name);
        const wide = await page.locator("dialog.modal").evaluate((dialog) => dialog.scrollWidth - dialog.clientWidth);
        assert.ok(wide <= 0, `${name} is ${wide} px too wide`);
        await screenshot(page, `${colorScheme}-${kind}-wizard-${name}`);
      };
      await look("blank");
      await page.getByLabel("Client Secret", { exact: true }).fill("wr0ng~but.looks-like-a_secret");
      await parts.check.click();
      await parts.cause.waitFor();
      await parts.verdict.waitFor();
      await look("failed");
      const box = await parts.cause.boundingBox();
      assert.ok(box.y >= 0 && box.y < viewport.height, `the cause is in sight: ${JSON.stringify(box)}`);
      await page.context().close();
    });
  }
}
