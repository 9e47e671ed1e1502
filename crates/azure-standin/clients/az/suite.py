"""The Azure CLI, unmodified, against the stand-in: each command is a process of its own, as in a shell.

Surroundings: the variables that `azure-standin env` prints, STANDIN_CONTROL (its control port's URL), and `az` in PATH.
Says one JSON object a line for each operation; ends with 0 if none failed. It judges what a command prints, not only
how it ends.
"""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = f"az {version('azure-cli')}"
TENANT = os.environ["AZURE_TENANT_ID"]
SUBSCRIPTION = os.environ["AZURE_SUBSCRIPTION_ID"]
ADMIN = os.environ["AZURE_CLIENT_ID"]
CONTROL = os.environ["STANDIN_CONTROL"]
OFFICER = "Key Vault Crypto Officer"
ENCRYPTION_USER = "Key Vault Crypto Service Encryption User"
# So that a second run finds nothing of the first.
UNIQUE = uuid.uuid4().hex[:8]


def main():
    with tempfile.TemporaryDirectory() as folder:
        parts = [(part, Az(Path(folder) / part.__name__)) for part in (identities, key_vault)]
        with ThreadPoolExecutor(len(parts)) as pool:
            troubles = [done.exception() for done in [pool.submit(part, az) for part, az in parts]]
    # One part after the other, so that each run says the same in the same order.
    lines = [line for _, az in parts for line in az.lines]
    for line in lines:
        print(json.dumps(line), flush=True)
    for trouble in filter(None, troubles):
        raise trouble
    sys.exit(any(line["result"] == "failed" for line in lines))


def identities(az):
    """Applications, what proves them, and roles; as the built-in service principal."""
    with az.step("login --service-principal, wrong secret: refused"):
        az.refused("AADSTS7000215", "login", "--service-principal", "-u", ADMIN, "-p", "wrong", "--tenant", TENANT)
    with az.step("login --service-principal"):
        secret = os.environ["AZURE_CLIENT_SECRET"]
        [account] = az("login", "--service-principal", "-u", ADMIN, "-p", secret, "--tenant", TENANT)
        same(account["user"], {"name": ADMIN, "type": "servicePrincipal"})
    with az.step("account show"):
        account = az("account", "show")
        same((account["id"], account["tenantId"], account["state"]), (SUBSCRIPTION, TENANT, "Enabled"))
    with az.step("account get-access-token"):
        token = az("account", "get-access-token", "--resource", "https://graph.microsoft.com")
        same((claims(token["accessToken"])["appid"], token["tokenType"]), (ADMIN, "Bearer"))

    with az.step("ad app create"):
        app = az("ad", "app", "create", "--display-name", f"one-{UNIQUE}")
        same(app["displayName"], f"one-{UNIQUE}")
    with az.step("ad app show"):
        same(az("ad", "app", "show", "--id", app["appId"])["id"], app["id"])
    with az.step("ad app list, in pages"):
        graph, headers = "https://graph.microsoft.com/v1.0", {"Authorization": f"Bearer {token['accessToken']}"}
        for number in range(12):
            body = {"displayName": f"many-{UNIQUE}-{number}"}
            same(requests.post(f"{graph}/applications", json=body, headers=headers, timeout=20).status_code, 201)
        same(len(az("ad", "app", "list", "--display-name", f"many-{UNIQUE}")), 12)
    with az.step("ad sp create"):
        principal = az("ad", "sp", "create", "--id", app["appId"])
        same((principal["appId"], principal["accountEnabled"]), (app["appId"], True))
    credentials(az, app)
    roles(az, principal)

    with az.step("ad app delete"):
        az("ad", "app", "delete", "--id", app["appId"])
        az.refused("does not exist", "ad", "app", "show", "--id", app["appId"])
    with az.step("logout"):
        az("logout")
        az.refused("az login", "account", "show")


def credentials(az, app):
    """Secret, certificate and federated token of one application, each proved by a sign-in with it."""
    sign_in = ("login", "--service-principal", "-u", app["appId"], "--tenant", TENANT, "--allow-no-subscriptions")
    with az.step("ad app credential reset"):
        made = az("ad", "app", "credential", "reset", "--id", app["appId"], "--years", "1")
        same((made["appId"], made["tenant"]), (app["appId"], TENANT))
        [account] = az.other()(*sign_in, "-p", made["password"])
        same(account["user"]["name"], app["appId"])
    with az.step("ad app credential reset --create-cert"):
        made = az("ad", "app", "credential", "reset", "--id", app["appId"], "--create-cert", "--append")
        certificate = made["fileWithCertAndPrivateKey"]
    with az.step("login --service-principal --certificate"):
        [account] = az.other()(*sign_in, "--certificate", certificate)
        same(account["user"]["name"], app["appId"])
    with az.step("ad app credential list"):
        same(len(az("ad", "app", "credential", "list", "--id", app["appId"])), 1)
        [listed] = az("ad", "app", "credential", "list", "--id", app["appId"], "--cert")
        same(listed["type"], "AsymmetricX509Cert")
    with az.step("ad app federated-credential create"):
        federated = control("oidc-token", {"subject": "system:serviceaccount:one:server"})
        wanted = {"name": "one", "issuer": federated["issuer"], "subject": "system:serviceaccount:one:server",
                  "audiences": ["api://AzureADTokenExchange"]}
        made = az("ad", "app", "federated-credential", "create", "--id", app["appId"],
                  "--parameters", json.dumps(wanted))
        same({name: made[name] for name in wanted}, wanted)
    with az.step("ad app federated-credential list"):
        [listed] = az("ad", "app", "federated-credential", "list", "--id", app["appId"])
        same(listed["id"], made["id"])
    with az.step("login --service-principal --federated-token"):
        [account] = az.other()(*sign_in, "--federated-token", federated["token"])
        same(account["user"]["name"], app["appId"])


def roles(az, principal):
    scope = f"/subscriptions/{SUBSCRIPTION}"
    with az.step("role definition list, in pages"):
        found = {role["roleName"]: role for role in az("role", "definition", "list")}
        assert len(found) > 10, f"{len(found)} roles, which is one page"
        same(found[ENCRYPTION_USER]["name"], "e147488a-f6f5-4113-8e2d-b22465e65bf6")
    with az.step("role assignment create"):
        made = az("role", "assignment", "create", "--assignee", principal["appId"], "--role", ENCRYPTION_USER,
                  "--scope", scope)
        same((made["principalId"], made["principalType"]), (principal["id"], "ServicePrincipal"))
    with az.step("role assignment list"):
        [listed] = az("role", "assignment", "list", "--assignee", principal["appId"], "--scope", scope)
        same((listed["name"], listed["roleDefinitionName"]), (made["name"], ENCRYPTION_USER))
        same(listed["principalName"], principal["appId"])
    with az.step("role assignment delete"):
        az("role", "assignment", "delete", "--assignee", principal["appId"], "--scope", scope)
        same(az("role", "assignment", "list", "--assignee", principal["appId"], "--scope", scope), [])
    with az.step("role definition create", lacks="InvalidResourceType"):
        definition = {"Name": "own", "AssignableScopes": [scope], "Actions": ["*/read"]}
        az.refused("InvalidResourceType", "role", "definition", "create", "--role-definition", json.dumps(definition))
    with az.step("ad sp create-for-rbac"):
        made = az("ad", "sp", "create-for-rbac", "--name", f"rbac-{UNIQUE}", "--role", ENCRYPTION_USER,
                  "--scopes", scope)
        same((made["displayName"], made["tenant"]), (f"rbac-{UNIQUE}", TENANT))
        [account] = az.other()("login", "--service-principal", "-u", made["appId"], "-p", made["password"],
                               "--tenant", TENANT, "--allow-no-subscriptions")
        same(account["user"]["name"], made["appId"])


def key_vault(az):
    """Resource group, Key Vault and keys; as the human administrator."""
    with az.step("login --use-device-code"):
        [account] = device_login(az)
        same((account["id"], account["user"]["type"]), (SUBSCRIPTION, "user"))
    with az.step("ad signed-in-user show"):
        me = az("ad", "signed-in-user", "show")
        same(me["userPrincipalName"], account["user"]["name"])

    group, name = f"group-{UNIQUE}", f"kv-{UNIQUE}"
    with az.step("group exists"):
        same(az("group", "exists", "-n", group), False)
    with az.step("group create"):
        same(az("group", "create", "-n", group, "-l", "westeurope")["properties"]["provisioningState"], "Succeeded")
    with az.step("group show"):
        same(az("group", "show", "-n", group)["location"], "westeurope")
    with az.step("keyvault create"):
        vault = az("keyvault", "create", "-n", name, "-g", group, "-l", "westeurope", "--retention-days", "7")
        properties = vault["properties"]
        same(properties["vaultUri"], f"https://{name}.vault.azure.net/")
        same(properties["enableRbacAuthorization"], True)
        same((properties["enableSoftDelete"], properties["softDeleteRetentionInDays"]), (True, 7))
    with az.step("keyvault show"):
        same(az("keyvault", "show", "-n", name)["id"], vault["id"])
    with az.step("keyvault list"):
        same([row["name"] for row in az("keyvault", "list", "-g", group)], [name])
    with az.step("keyvault key create, without a role: refused"):
        az.refused("ForbiddenByRbac", "keyvault", "key", "create", "--vault-name", name, "-n", "none", "--kty", "RSA")
    with az.step("role assignment create, for oneself"):
        made = az("role", "assignment", "create", "--assignee", me["userPrincipalName"], "--role", OFFICER,
                  "--scope", vault["id"])
        same((made["principalId"], made["principalType"]), (me["id"], "User"))
    keys(az, name)
    life_of_key(az, name)

    with az.step("keyvault delete"):
        az("keyvault", "delete", "-n", name, "-g", group)
    with az.step("keyvault list-deleted"):
        [deleted] = [row for row in az("keyvault", "list-deleted") if row["name"] == name]
        same(deleted["properties"]["vaultId"], vault["id"])
    with az.step("keyvault recover"):
        same(az("keyvault", "recover", "-n", name)["properties"]["provisioningState"], "Succeeded")
    with az.step("keyvault purge"):
        az("keyvault", "delete", "-n", name)
        az("keyvault", "purge", "-n", name)
        same([row for row in az("keyvault", "list-deleted") if row["name"] == name], [])
    with az.step("group delete"):
        az("group", "delete", "-n", group, "--yes")
        same(az("group", "exists", "-n", group), False)


def keys(az, vault):
    """One key after the other: create, import, look, change, use."""
    at = ("--vault-name", vault, "-n", "one")
    with az.step("keyvault key create"):
        made = az("keyvault", "key", "create", *at, "--kty", "RSA", "--size", "4096")
        first = made["key"]["kid"]
        same(re.sub("[0-9a-f]{32}$", "", first), f"https://{vault}.vault.azure.net/keys/one/")
        same((made["key"]["kty"], len(unb64(made["key"]["n"])), made["attributes"]["enabled"]), ("RSA", 512, True))
    with az.step("keyvault key show"):
        same(az("keyvault", "key", "show", *at)["key"]["kid"], first)
    with az.step("keyvault key encrypt"):
        sealed = az("keyvault", "key", "encrypt", *at, "--algorithm", "RSA-OAEP-256", "--value", "a word",
                    "--data-type", "plaintext")
        same((sealed["kid"], len(base64.b64decode(sealed["result"]))), (first, 512))
    with az.step("keyvault key decrypt"):
        opened = az("keyvault", "key", "decrypt", *at, "--algorithm", "RSA-OAEP-256", "--value", sealed["result"],
                    "--data-type", "plaintext")
        same((opened["kid"], opened["result"]), (first, "a word"))
    with az.step("keyvault key rotate"):
        rotated = az("keyvault", "key", "rotate", *at)["key"]["kid"]
        assert rotated != first and rotated.startswith(first[:-32]), f"{first} became {rotated}"
    with az.step("keyvault key list-versions"):
        same({row["kid"] for row in az("keyvault", "key", "list-versions", *at)}, {first, rotated})
    with az.step("keyvault key set-attributes"):
        changed = az("keyvault", "key", "set-attributes", "--id", first, "--enabled", "false")
        same((changed["key"]["kid"], changed["attributes"]["enabled"]), (first, False))
    with az.step("keyvault key decrypt, disabled: refused"):
        az.refused("KeyDisabled", "keyvault", "key", "decrypt", "--id", first, "--algorithm", "RSA-OAEP-256",
                   "--value", sealed["result"])
    with az.step("keyvault key rotation-policy update"):
        wanted = {"lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Rotate"}}],
                  "attributes": {"expiryTime": "P2Y"}}
        policy = az("keyvault", "key", "rotation-policy", "update", *at, "--value", json.dumps(wanted))
        same(policy["expiresIn"], "P2Y")
    with az.step("keyvault key rotation-policy show"):
        policy = az("keyvault", "key", "rotation-policy", "show", *at)
        same((policy["expiresIn"], policy["lifetimeActions"][0]["timeBeforeExpiry"]), ("P2Y", "P30D"))
    with az.step("keyvault key rotate, under the policy"):
        made = az("keyvault", "key", "rotate", *at)["attributes"]
        created, expires = (datetime.fromisoformat(made[name]) for name in ("created", "expires"))
        same(expires.year - created.year, 2)
    with az.step("keyvault key import"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        file = az.folder / "key.pem"
        file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))
        made = az("keyvault", "key", "import", "--vault-name", vault, "-n", "two", "--pem-file", str(file))
        same(int.from_bytes(unb64(made["key"]["n"])), key.public_key().public_numbers().n)
    with az.step("keyvault key backup", lacks="BadParameter"):
        az.refused("BadParameter", "keyvault", "key", "backup", *at, "--file", str(az.folder / "backup"))
    with az.step("keyvault key list"):
        same({row["name"] for row in az("keyvault", "key", "list", "--vault-name", vault)}, {"one", "two"})


def life_of_key(az, vault):
    at = ("--vault-name", vault, "-n", "two")
    with az.step("keyvault key delete"):
        deleted = az("keyvault", "key", "delete", *at)
        same(deleted["recoveryId"], f"https://{vault}.vault.azure.net/deletedkeys/two")
        az.refused("KeyNotFound", "keyvault", "key", "show", *at)
    with az.step("keyvault key list-deleted"):
        same([row["name"] for row in az("keyvault", "key", "list-deleted", "--vault-name", vault)], ["two"])
    with az.step("keyvault key recover"):
        same(az("keyvault", "key", "recover", *at)["key"]["kid"], deleted["key"]["kid"])
    with az.step("keyvault key purge"):
        az("keyvault", "key", "delete", *at)
        az("keyvault", "key", "purge", *at)
        same(az("keyvault", "key", "list-deleted", "--vault-name", vault), [])


class Az:
    """`az` with a configuration folder, hence a sign-in, of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.lines = []
        folder.mkdir()
        self.environment = dict(
            os.environ, AZURE_CONFIG_DIR=str(folder / "config"), HOME=str(folder), AZURE_CORE_NO_COLOR="true",
            AZURE_CORE_COLLECT_TELEMETRY="false", AZURE_CORE_ONLY_SHOW_ERRORS="true",
            AZURE_CORE_SURVEY_MESSAGE="false",
        )

    @contextmanager
    def step(self, operation, lacks=""):
        """Keeps what came of an operation. Where the stand-in lacks it, `lacks` is Azure's error that `az` has to show.
        What a failed operation should have given is missing in later ones, which fail then too."""
        line = {"client": CLIENT, "operation": operation, "result": "azure_error" if lacks else "ok", "note": lacks}
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it was, it goes into the table
            line["result"] = "failed"
            line["note"] = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        self.lines.append(line)

    def other(self):
        """One that is signed in as nobody."""
        return Az(self.folder / uuid.uuid4().hex[:8])

    def start(self, *words, **more):
        command = ["az", *words, "--output", "json"]
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def finish(self, process):
        try:
            return process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def __call__(self, *words):
        """What it prints, as a value."""
        process = self.start(*words)
        said, complaint = self.finish(process)
        assert process.returncode == 0, complaint.strip() or said
        return json.loads(said) if said.strip() else None

    def refused(self, reason, *words):
        process = self.start(*words)
        said, complaint = self.finish(process)
        assert process.returncode != 0, "it was not refused"
        assert reason in complaint, f"it was refused, but not for {reason}: {complaint}"


def device_login(az):
    """Approves the code that `az` shows, as the human at another device would."""
    environment = dict(az.environment)
    # The code is shown as a warning.
    del az.environment["AZURE_CORE_ONLY_SHOW_ERRORS"]
    process = az.start("login", "--use-device-code")
    az.environment = environment
    shown = ""
    while not (code := re.search(r"enter the code (\w+) to", shown)):
        line = process.stderr.readline()
        assert line, f"az showed no code: {shown}"
        shown += line
    control("device", {"user_code": code[1]})
    said, complaint = az.finish(process)
    assert process.returncode == 0, complaint
    return json.loads(said)


def control(path, body):
    """A call of the stand-in's control port, which no proxy stands before."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{CONTROL}/{path}", json.dumps(body).encode(), timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def same(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def claims(token):
    return json.loads(unb64(token.split(".")[1]))


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


if __name__ == "__main__":
    main()
