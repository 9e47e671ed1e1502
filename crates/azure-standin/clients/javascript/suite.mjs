// The main paths of @azure/identity and @azure/keyvault-keys, unmodified, against a running stand-in.
//
// Takes the variables that `azure-standin env` prints; says one JSON object a line for each operation. Ends with 1 if
// one of them failed.
import assert from "node:assert/strict";
import { constants, createHash, createPublicKey, generateKeyPairSync, randomBytes, randomUUID, verify } from "node:crypto";
import { readFile } from "node:fs/promises";
import {
  bearerTokenAuthenticationPolicy,
  createDefaultHttpClient,
  createPipelineFromOptions,
  createPipelineRequest,
} from "@azure/core-rest-pipeline";
import { ClientCertificateCredential, ClientSecretCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";

const { AZURE_TENANT_ID: tenant, AZURE_CLIENT_ID: client, AZURE_CLIENT_SECRET: secret } = process.env;
const subscription = `/subscriptions/${process.env.AZURE_SUBSCRIPTION_ID}`;
const CRYPTO_OFFICER = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
const vault = `js-${randomBytes(6).toString("hex")}`;
// Deletions end at once here; a real Azure would be asked every two seconds.
const patience = { intervalInMs: 50 };

const packages = await Promise.all(
  ["identity", "keyvault-keys"].map(async (name) => {
    const file = new URL(`node_modules/@azure/${name}/package.json`, import.meta.url);
    return `@azure/${name} ${JSON.parse(await readFile(file, "utf8")).version}`;
  }),
);
let failures = 0;

function say(operation, result, note = "") {
  console.log(JSON.stringify({ client: `JavaScript: ${packages.join(", ")}`, operation, result, note }));
}

/** Tries one operation; `work` may return a note for the reader of the table. */
async function attempt(operation, work) {
  await judge(operation, async () => ["ok", (await work()) ?? ""]);
}

/** Tries one that the stand-in may refuse, if it does so with an error that the client reads as Azure's. */
async function attemptUncovered(operation, work) {
  await judge(operation, async () => {
    try {
      await work();
      return ["ok", ""];
    } catch (error) {
      if (error.statusCode >= 400 && error.statusCode < 500 && error.code) return ["azure_error", error.code];
      throw error;
    }
  });
}

async function judge(operation, work) {
  try {
    say(operation, ...(await work()));
  } catch (error) {
    failures += 1;
    console.error(`${operation}: ${error.stack}`);
    say(operation, "failed", String(error.message));
  }
}

/** A request to Resource Manager or Graph, on the pipeline that the SDK's own clients are made of. */
async function azure(credential, method, url, body) {
  const scope = `${new URL(url).origin}/.default`;
  const pipeline = createPipelineFromOptions({});
  pipeline.addPolicy(bearerTokenAuthenticationPolicy({ credential, scopes: scope }));
  const request = createPipelineRequest({ url, method, body: body && JSON.stringify(body) });
  request.headers.set("content-type", "application/json");
  const response = await pipeline.sendRequest(createDefaultHttpClient(), request);
  assert.ok(response.status < 300, `${method} ${url}: ${response.status} ${response.bodyAsText}`);
  return response.bodyAsText ? JSON.parse(response.bodyAsText) : undefined;
}

const arm = (credential, method, path, api, body) =>
  azure(credential, method, `https://management.azure.com${path}?api-version=${api}`, body);
const graph = (credential, method, path, body) =>
  azure(credential, method, `https://graph.microsoft.com/v1.0${path}`, body);

const credential = new ClientSecretCredential(tenant, client, secret);
await attempt("sign in with a secret", async () => {
  const { token } = await credential.getToken("https://vault.azure.net/.default");
  assert.equal(JSON.parse(Buffer.from(token.split(".")[1], "base64url")).aud, "https://vault.azure.net");
  const wrong = new ClientSecretCredential(tenant, client, "not-the-secret");
  await assert.rejects(wrong.getToken("https://vault.azure.net/.default"), /AADSTS7000215/);
});

await attempt("sign in with a certificate", async () => {
  // Made for this suite only, and public, key and all.
  const certificate = await readFile(new URL("certificate.pem", import.meta.url), "utf8");
  const [{ id }] = (await graph(credential, "GET", `/applications?$filter=appId eq '${client}'`)).value;
  const signedIn = new ClientCertificateCredential(tenant, client, { certificate });
  await assert.rejects(signedIn.getToken("https://vault.azure.net/.default"), /AADSTS700027/, "not registered yet");
  const key = /BEGIN CERTIFICATE-+([^-]+)/.exec(certificate)[1].replaceAll(/\s/g, "");
  const keyCredentials = [{ type: "AsymmetricX509Cert", usage: "Verify", key, displayName: "suite" }];
  await graph(credential, "PATCH", `/applications/${id}`, { keyCredentials });
  assert.ok((await signedIn.getToken("https://vault.azure.net/.default")).token);
});

await makeKeyVault();
const keys = new KeyClient(`https://${vault}.vault.azure.net`, credential);
const crypto = (key) => new CryptographyClient(key.id, credential);
const secretBytes = randomBytes(32);
const base64url = (bytes) => Buffer.from(bytes).toString("base64url");
const digest = createHash("sha256").update("message").digest();

for (const size of [2048, 3072, 4096]) {
  await attempt(`create RSA-${size}`, async () => {
    const key = await keys.createRsaKey(`rsa-${size}`, { keySize: size, tags: { made: "by the suite" } });
    assert.equal(key.key.n.length * 8, size);
    assert.equal(key.properties.tags.made, "by the suite");
  });
}

await attempt("get", async () => {
  const key = await keys.getKey("rsa-4096");
  const same = await keys.getKey("rsa-4096", { version: key.properties.version });
  assert.equal(key.id, same.id);
  await assert.rejects(keys.getKey("absent"), { code: "KeyNotFound", statusCode: 404 });
});

const main = await keys.getKey("rsa-4096");
const sealed = {};
await attempt("wrap", async () => {
  sealed.wrap = await crypto(main).wrapKey("RSA-OAEP-256", secretBytes);
  assert.equal(sealed.wrap.keyID, main.id);
});
await attempt("unwrap", async () => {
  const { result } = await crypto(main).unwrapKey("RSA-OAEP-256", sealed.wrap.result);
  assert.deepEqual(Buffer.from(result), secretBytes);
  // This one the client wraps itself, with the public key that it was given.
  const { result: own } = await crypto(main).wrapKey("RSA-OAEP", secretBytes);
  const { result: opened } = await crypto(main).unwrapKey("RSA-OAEP", own);
  assert.deepEqual(Buffer.from(opened), secretBytes);
});
await attempt("encrypt", async () => {
  sealed.encrypt = await crypto(main).encrypt({ algorithm: "RSA-OAEP-256", plaintext: secretBytes });
});
await attempt("decrypt", async () => {
  const { result } = await crypto(main).decrypt({ algorithm: "RSA-OAEP-256", ciphertext: sealed.encrypt.result });
  assert.deepEqual(Buffer.from(result), secretBytes);
});
await attempt("sign", async () => {
  sealed.RS256 = await crypto(main).sign("RS256", digest);
  sealed.PS256 = await crypto(main).sign("PS256", digest);
});
await attempt("verify", async () => {
  for (const algorithm of ["RS256", "PS256"]) {
    assert.equal((await crypto(main).verify(algorithm, digest, sealed[algorithm].result)).result, true);
    assert.equal((await crypto(main).verify(algorithm, randomBytes(32), sealed[algorithm].result)).result, false);
  }
  // Where it has the public key, this one is checked by the client itself. Not PS256: it takes that for RS256.
  assert.equal((await crypto(main).verifyData("RS256", Buffer.from("message"), sealed.RS256.result)).result, true);
  const jwk = { kty: "RSA", n: base64url(main.key.n), e: base64url(main.key.e) };
  const publicKey = createPublicKey({ key: jwk, format: "jwk" });
  const pss = { key: publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  assert.ok(verify("sha256", Buffer.from("message"), pss, sealed.PS256.result), "by Node itself");
});

await attempt("rotate", async () => {
  const newer = await keys.rotateKey("rsa-4096");
  assert.notEqual(newer.properties.version, main.properties.version);
  const { result } = await crypto(main).unwrapKey("RSA-OAEP-256", sealed.wrap.result);
  assert.deepEqual(Buffer.from(result), secretBytes, "the older key version still unwraps");
  const wrong = crypto(newer).unwrapKey("RSA-OAEP-256", sealed.wrap.result);
  await assert.rejects(wrong, { code: "BadParameter", statusCode: 400 });
});

await attempt("list versions", async () => {
  await keys.rotateKey("rsa-2048");
  await keys.rotateKey("rsa-2048");
  assert.equal(await counted(keys.listPropertiesOfKeyVersions("rsa-2048"), 2), 3);
});
await attempt("list keys", async () => assert.equal(await counted(keys.listPropertiesOfKeys(), 2), 3));

await attempt("update", async () => {
  // This client sends dates from 2038-01-19 on as negative numbers: it cuts them to 32 bits.
  const expiresOn = new Date("2035-01-01T00:00:00Z");
  const key = await keys.updateKeyProperties("rsa-3072", { expiresOn, tags: { changed: "yes" } });
  assert.deepEqual([key.properties.expiresOn, key.properties.tags], [expiresOn, { changed: "yes" }]);
});

await attempt("disabled key is refused", async () => {
  const { properties } = await keys.getKey("rsa-3072");
  const { result } = await new CryptographyClient(properties.id, credential).wrapKey("RSA-OAEP-256", secretBytes);
  await keys.updateKeyProperties("rsa-3072", properties.version, { enabled: false });
  const unwrap = () => new CryptographyClient(properties.id, credential).unwrapKey("RSA-OAEP-256", result);
  await assert.rejects(unwrap, (error) => error.statusCode === 403 && error.code === "Forbidden");
  await keys.updateKeyProperties("rsa-3072", properties.version, { enabled: true });
  assert.deepEqual(Buffer.from((await unwrap()).result), secretBytes);
});

await attempt("rotation policy", async () => {
  const lifetimeActions = [{ action: "Rotate", timeAfterCreate: "P90D" }];
  await keys.updateKeyRotationPolicy("rsa-4096", { lifetimeActions, expiresIn: "P2Y" });
  const policy = await keys.getKeyRotationPolicy("rsa-4096");
  assert.equal(policy.expiresIn, "P2Y");
  assert.ok(policy.lifetimeActions.some((a) => a.action === "Rotate" && a.timeAfterCreate === "P90D"));
});

await attempt("import", async () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const members = Object.entries(privateKey.export({ format: "jwk" }));
  const jwk = Object.fromEntries(members.map(([k, v]) => [k, k === "kty" ? v : Buffer.from(v, "base64url")]));
  const key = await keys.importKey("imported", { ...jwk, keyOps: ["wrapKey", "unwrapKey"] });
  const { result } = await crypto(key).wrapKey("RSA-OAEP-256", secretBytes);
  assert.deepEqual(Buffer.from((await crypto(key).unwrapKey("RSA-OAEP-256", result)).result), secretBytes);
});

await attempt("delete", async () => {
  const poller = await keys.beginDeleteKey("rsa-2048", patience);
  assert.ok((await poller.pollUntilDone()).properties.recoveryId);
  await assert.rejects(keys.createRsaKey("rsa-2048"), { code: "Conflict", statusCode: 409 });
});
await attempt("recover", async () => {
  await (await keys.beginRecoverDeletedKey("rsa-2048", patience)).pollUntilDone();
  assert.equal((await keys.getKey("rsa-2048")).name, "rsa-2048");
});
await attempt("purge", async () => {
  await (await keys.beginDeleteKey("rsa-2048", patience)).pollUntilDone();
  await keys.purgeDeletedKey("rsa-2048");
  await assert.rejects(keys.getDeletedKey("rsa-2048"), { statusCode: 404 });
});

await attempt("create EC", async () => {
  assert.equal((await keys.createEcKey("ec", { curve: "P-256" })).key.crv, "P-256");
});
await attemptUncovered("back up", async () => keys.backupKey("rsa-4096"));

process.exitCode = failures === 0 ? 0 : 1;

/** A Key Vault of its own under RBAC, in which the administrator holds Crypto Officer. */
async function makeKeyVault() {
  const group = `${subscription}/resourceGroups/javascript`;
  await arm(credential, "PUT", group, "2021-04-01", { location: "westeurope" });
  const scope = `${group}/providers/Microsoft.KeyVault/vaults/${vault}`;
  const properties = { tenantId: tenant, sku: { family: "A", name: "standard" }, accessPolicies: [], enableRbacAuthorization: true };
  await arm(credential, "PUT", scope, "2023-07-01", { location: "westeurope", properties });
  const [{ id }] = (await graph(credential, "GET", `/servicePrincipals?$filter=appId eq '${client}'`)).value;
  const roleDefinitionId = `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${CRYPTO_OFFICER}`;
  const assignment = `${scope}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
  const assigned = { roleDefinitionId, principalId: id, principalType: "ServicePrincipal" };
  await arm(credential, "PUT", assignment, "2022-04-01", { properties: assigned });
}

/** How many there are in all, when asked for in pages of `size`; there must be more than one page. */
async function counted(list, size) {
  const sizes = [];
  for await (const page of list.byPage({ maxPageSize: size })) sizes.push(page.length);
  assert.ok(sizes.length > 1 && sizes.every((each) => each <= size), `pages of ${sizes}`);
  return sizes.reduce((sum, each) => sum + each, 0);
}
