// A withdrawn key is told: by the bell, on the page of notices, and to a webhook; all of it without JavaScript too.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { axe, cspViolations, launchBrowser, newPage, screenshot, signIn, startDemo } from "./harness.mjs";

let demo, browser, receiver;
const got = [];

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
  receiver = createServer((request, answer) => {
    let body = "";
    request.on("data", (text) => (body += text));
    request.on("end", () => {
      got.push({ headers: request.headers, body });
      answer.writeHead(204).end();
    });
  });
  await new Promise((ready) => receiver.listen(0, "127.0.0.1", ready));
});

after(async () => {
  receiver?.close();
  await browser?.close();
  await demo?.stop();
});

test("a webhook is added, tried, and gets the notice of a withdrawn key", async () => {
  const page = await newPage(browser);
  const refused = cspViolations(page);
  await signIn(page, demo, "owner");
  await page.goto(`${demo.info.url}/settings/notices`);
  await page.getByRole("link", { name: "Add webhook" }).click();
  const url = `http://127.0.0.1:${receiver.address().port}/hook`;
  await page.getByLabel("Address", { exact: true }).fill(url);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  const secret = await page.locator(".command code").filter({ hasText: "whsec_" }).innerText();
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "webhook-secret");
  await page.getByRole("link", { name: "Done", exact: true }).click();
  await page.getByRole("button", { name: "Send a trial" }).click();
  await page.getByText(/The trial was taken: status 204/).waitFor();
  await screenshot(page, "webhook-tried");

  await demo.run("key", "disable");
  await page.goto(`${demo.info.url}/notices`);
  // The page of notices does not load itself again: the bell is looked at by who comes back to it.
  for (let tries = 0; (await page.locator(".told").count()) === 0; tries += 1) {
    assert.ok(tries < 60, "nobody was told within 15 s");
    await page.waitForTimeout(250);
    await page.reload();
  }
  await page.getByRole("link", { name: "Notices: 1 unread" }).waitFor();
  await page.getByText("Azure: Key disabled").or(page.getByText(/: Key disabled/)).first().waitFor();
  assert.deepEqual(await axe(page), []);
  await screenshot(page, "notice-of-a-disabled-key");

  const signed = ({ headers, body }) => {
    const key = Buffer.from(secret.trim().slice("whsec_".length), "base64");
    const text = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    return `v1,${createHmac("sha256", key).update(text).digest("base64")}`;
  };
  for (let tries = 0; got.length < 2; tries += 1) {
    assert.ok(tries < 80, "the webhook got nothing within 20 s");
    await page.waitForTimeout(250);
  }
  assert.deepEqual(got.map(({ body }) => JSON.parse(body).type), ["test", "key.unhealthy"]);
  for (const one of got) assert.equal(one.headers["webhook-signature"], signed(one));

  await page.getByRole("button", { name: "Mark all as read" }).click();
  await page.getByRole("link", { name: "Notices: 0 unread" }).waitFor();
  await demo.run("key", "enable");
  assert.deepEqual(refused, []);
  await page.context().close();
});

test("health shows every vault, and members are not led there", async () => {
  const page = await newPage(browser, { javaScriptEnabled: false });
  await signIn(page, demo, "owner");
  await page.getByRole("link", { name: "Health", exact: true }).click();
  for (const vault of demo.info.vaults) await page.getByRole("rowheader", { name: vault.name, exact: true }).waitFor();
  await page.context().close();
  const member = await newPage(browser);
  await signIn(member, demo, "user");
  assert.equal(await member.getByRole("link", { name: "Health", exact: true }).count(), 0);
  assert.equal(await member.locator(".bell").count(), 0);
  await member.context().close();
});
