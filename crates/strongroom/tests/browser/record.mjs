// Records docs/samples/vault-check.md and the pictures of the wizard in docs/img, from a demo of its own:
//
//   cargo build -p strongroom && (cd crates/strongroom/tests/browser && npm run record)
//
// Ids, times and request ids differ from run to run; the rest is what the program says.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { launchBrowser, newPage, signIn, startDemo, strongroom } from "./harness.mjs";

const DOCS = fileURLToPath(new URL("../../../../docs/", import.meta.url));
const PAGE = path.join(DOCS, "samples/vault-check.md");

const demo = await startDemo({ STRONGROOM_VAULTS__MAX_PER_PROVIDER: "2" });
try {
  await recordCommands();
  const browser = await launchBrowser();
  try {
    await recordWizard(browser);
  } finally {
    await browser.close();
  }
} finally {
  await demo.stop();
}

async function recordCommands() {
  const [vault] = demo.info.vaults.filter(({ strategy }) => strategy === "azure_external_keys");
  await demo.run("key", "disable");
  const failing = await check(vault);
  await demo.run("key", "enable");
  const mended = await check(vault);
  let text = await readFile(PAGE, "utf8");
  for (const [name, recorded] of Object.entries({ failing, mended })) {
    const block = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
    if (!block.test(text)) throw new Error(`${PAGE} has no place for “${name}”`);
    text = text.replace(block, (_, begin, end) => `${begin}\`\`\`console\n${recorded}\n\`\`\`\n${end}`);
  }
  await writeFile(PAGE, text);
}

/** What a shell would show. */
async function check(vault) {
  const owner = demo.info.members.find(({ role }) => role === "owner");
  const env = { STRONGROOM_URL: demo.info.url, STRONGROOM_WORKSPACE: demo.info.workspace, STRONGROOM_TOKEN: owner.token };
  const { code, printed } = await strongroom(["vault", "check", vault.name], env);
  return `$ strongroom vault check ${vault.name}\n${printed.trimEnd()}\n$ echo $?\n${code}`;
}

async function recordWizard(browser) {
  const page = await newPage(browser);
  await signIn(page, demo, "owner");
  await page.goto(`${demo.info.url}/settings/privacy-and-security`);
  await page.getByRole("link", { name: "Create new vault", exact: true }).click();
  await page.getByLabel("Vault name", { exact: true }).fill("Contoso");
  await page.getByLabel("Strategy", { exact: true }).selectOption("Azure External Keys");
  await page.getByRole("button", { name: "Next", exact: true }).click();
  const { azure, standin } = demo.info;
  const values = { "Client ID": azure.client_id, "Tenant ID": azure.tenant_id, "Client Secret": azure.client_secret, "Vault URL": azure.vault_url, "Vault Key Name": azure.vault_key_name };
  for (const [label, value] of Object.entries(values)) await page.getByLabel(label, { exact: true }).fill(value);
  await page.locator(".asked").evaluate((column) => { column.scrollTop = 0; });
  const button = page.getByRole("button", { name: "Check", exact: true });

  const fault = { match: { operation: "wrapkey" }, effect: { delay_ms: 3000 }, times: 1 };
  await fetch(`${standin.control}/faults`, { method: "POST", body: JSON.stringify(fault) });
  await button.click();
  await page.locator('ol.checks li[data-code="key.readable"]').waitFor();
  await page.locator(".waiting .ms").filter({ hasText: "1 s" }).waitFor();
  await picture(page, "wizard-running");
  await page.locator("#checks-told").waitFor();

  await demo.run("key", "disable");
  await button.click();
  await page.locator("#checks-told.bad").waitFor();
  await picture(page, "wizard-failed");
  await demo.run("key", "enable");
  await button.click();
  await page.locator("#checks-told:is(.ok, .warn)").waitFor();
  await picture(page, "wizard");
}

async function picture(page, name) {
  await mkdir(path.join(DOCS, "img"), { recursive: true });
  await page.screenshot({ path: path.join(DOCS, "img", `${name}.png`), animations: "disabled" });
}
