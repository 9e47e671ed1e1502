// What every browser test starts from: a demo of its own, a Chromium, and the checks that hold on
// every page (no serious accessibility fault, no violation of the content security policy).
//
// Environment, set by `cargo xtask test`:
//   STRONGROOM_BIN          the strongroom binary; by default the one in target/debug
//   STRONGROOM_CHROMIUM     the browser; by default /usr/bin/chromium
//   STRONGROOM_SCREENSHOTS  where screenshots go; by default target/screenshots

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import axeCore from "axe-core";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BINARY = process.env.STRONGROOM_BIN ?? path.join(ROOT, "target/debug/strongroom");
const CHROMIUM = process.env.STRONGROOM_CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.STRONGROOM_SCREENSHOTS ?? path.join(ROOT, "target/screenshots");

const DEMO_START_MS = 60_000;
const DEMO_STOP_MS = 20_000;
const PAGE_WAIT_MS = 20_000;

/**
 * Starts `strongroom demo` on free ports in a fresh folder and waits until it has written its
 * `demo.json`.
 *
 * @param {object} env over the environment of the demo, for example `STRONGROOM_VAULTS__MAX_PER_PROVIDER`
 * @returns {Promise<{info: object, dir: string, run: Function, stop: Function}>} `info` is the parsed
 *   `demo.json`; `run("key", "disable")` runs `strongroom demo key disable` on the same folder and
 *   resolves to what it printed; `stop()` ends the demo and removes the folder.
 */
export async function startDemo(env = {}) {
  const dir = await mkdtemp(path.join(os.tmpdir(), "strongroom-demo-"));
  const port = await freePorts(3);
  const child = spawn(BINARY, ["demo", "--dir", dir, "--port", String(port), "--fresh"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => output.push(text));
  const ended = new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(`exit code ${code}, signal ${signal}`));
  });
  // The last resort, should a test end this process without stopping its demo.
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);

  const stop = async () => {
    child.kill("SIGINT");
    const stopped = await Promise.race([ended, sleep(DEMO_STOP_MS, null, { ref: false })]);
    if (stopped === null) {
      kill();
      await ended;
    }
    process.removeListener("exit", kill);
    await rm(dir, { recursive: true, force: true });
    if (stopped === null) throw new Error(`the demo did not end within ${DEMO_STOP_MS} ms of Ctrl-C`);
  };
  try {
    const info = await waitForDemoFile(path.join(dir, "demo.json"), ended);
    return { info, dir, stop, run: (...words) => runDemoCommand(dir, words) };
  } catch (error) {
    const printed = Buffer.concat(output).toString();
    await stop().catch(() => {});
    throw new Error(`the demo did not start: ${error.message}\nIt printed:\n${printed}`);
  }
}

/** Starts Chromium. The caller closes it. */
export function launchBrowser() {
  return chromium.launch({
    executablePath: CHROMIUM,
    timeout: 30_000,
    // Without a sandbox, because Chromium has none as root. The rest keeps it from calling home.
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/**
 * Opens a page in a context of its own, every wait on it bounded.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {import("playwright-core").BrowserContextOptions} options for example
 *   `{ javaScriptEnabled: false }` or `{ colorScheme: "dark" }`
 */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PAGE_WAIT_MS);
  page.setDefaultNavigationTimeout(PAGE_WAIT_MS);
  return page;
}

/** Signs in as the demo's member with this role ("owner", "super_admin", …), through the form. */
export async function signIn(page, demo, role) {
  const member = demo.info.members.find((candidate) => candidate.role === role);
  if (!member) throw new Error(`the demo has no member with the role ${role}`);
  await page.goto(demo.info.url);
  const form = page.url();
  await page.getByLabel("E-mail address", { exact: true }).fill(member.email);
  await page.getByLabel("Password", { exact: true }).fill(member.password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.waitForURL((url) => url.href !== form);
  return member;
}

/**
 * Runs axe on the page as it stands.
 *
 * @returns {Promise<Array<{id: string, impact: string, targets: string[]}>>} what it found that is
 *   serious or critical; a test asserts that this is empty
 */
export async function axe(page) {
  await page.evaluate(axeCore.source);
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, impact, nodes }) => ({ id, impact, targets: nodes.flatMap((node) => node.target) }));
}

/**
 * Collects what the page's content security policy refuses from here on. Chromium reports it on the
 * console, with JavaScript or without.
 *
 * @returns {string[]} grows while the page lives
 */
export function cspViolations(page) {
  const violations = [];
  page.on("console", (message) => {
    if (/content security policy/i.test(message.text())) violations.push(message.text());
  });
  return violations;
}

/** Saves the page as it stands as NAME.png. @returns {Promise<string>} the file */
export async function screenshot(page, name) {
  await mkdir(SCREENSHOTS, { recursive: true });
  const file = path.join(SCREENSHOTS, `${name}.png`);
  await page.screenshot({ path: file, animations: "disabled" });
  return file;
}

/** Asks `check` again and again until it answers with something true, at most `limit` milliseconds. */
export async function eventually(what, check, limit = PAGE_WAIT_MS) {
  const deadline = Date.now() + limit;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limit} ms`);
    await sleep(50);
  }
}

async function waitForDemoFile(file, ended) {
  let exit = null;
  ended.then((how) => (exit = how));
  return eventually(
    "demo.json",
    async () => {
      if (exit !== null) throw new Error(`it ended at once (${exit})`);
      try {
        return JSON.parse(await readFile(file, "utf8"));
      } catch (error) {
        // Not there yet, or only half written.
        if (error.code === "ENOENT" || error instanceof SyntaxError) return null;
        throw error;
      }
    },
    DEMO_START_MS,
  );
}

async function runDemoCommand(dir, words) {
  const { code, printed } = await strongroom(["demo", ...words, "--dir", dir]);
  if (code !== 0) throw new Error(`strongroom demo ${words.join(" ")} ended with ${code}:\n${printed}`);
  return printed;
}

/** Runs the binary. @returns {Promise<{code: number, printed: string}>} both of its streams, as they came */
export function strongroom(words, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(BINARY, words, {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: PAGE_WAIT_MS,
      env: { ...process.env, ...env },
    });
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (printed += text));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, printed }));
  });
}

/** The first of `count` neighbouring loopback ports that were all free a moment ago. */
async function freePorts(count) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const servers = [];
    try {
      servers.push(await listen(0));
      const first = servers[0].address().port;
      for (let next = 1; next < count; next += 1) servers.push(await listen(first + next));
      return first;
    } catch (error) {
      if (error.code !== "EADDRINUSE" && error.code !== "ERR_SOCKET_BAD_PORT") throw error;
    } finally {
      await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
    }
  }
  throw new Error(`found no ${count} neighbouring free ports`);
}

function listen(port) {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}
