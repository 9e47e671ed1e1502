// Does the harness itself see what it is for: a rendered page, an accessibility fault, a violation of
// the content security policy? Served by Node, so that a failure here is not the product's.

import assert from "node:assert/strict";
import http from "node:http";
import { stat } from "node:fs/promises";
import { after, before, test } from "node:test";
import { axe, cspViolations, eventually, launchBrowser, newPage, screenshot } from "./harness.mjs";

const SOUND = "<main><h1>Strongroom</h1><p>A page.</p></main>";
const FAULTY = '<main><h1 style="color: red">Strongroom</h1><img src="/none.png"></main>';

let server;
let browser;
let origin;

before(async () => {
  server = http.createServer((request, response) => {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.setHeader("content-security-policy", "default-src 'self'");
    const body = request.url === "/faulty" ? FAULTY : SOUND;
    response.end(`<!doctype html><html lang="en"><head><title>Harness</title></head><body>${body}</body></html>`);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  origin = `http://127.0.0.1:${server.address().port}`;
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
});

test("Chromium renders a sound page and finds no fault in it", async () => {
  const page = await newPage(browser);
  const refused = cspViolations(page);
  await page.goto(origin);
  assert.equal(await page.getByRole("heading").textContent(), "Strongroom");
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(refused, []);
  assert.ok((await stat(await screenshot(page, "harness"))).size > 1000);
});

test("a faulty page is noticed", async () => {
  const page = await newPage(browser);
  const refused = cspViolations(page);
  await page.goto(`${origin}/faulty`);
  await eventually("the refused style is reported", () => refused.length > 0);
  assert.deepEqual((await axe(page)).map(({ id }) => id), ["image-alt"]);
});

test("a refused style is noticed without JavaScript too", async () => {
  const page = await newPage(browser, { javaScriptEnabled: false });
  const refused = cspViolations(page);
  await page.goto(`${origin}/faulty`);
  await eventually("the refused style is reported", () => refused.length > 0);
});
