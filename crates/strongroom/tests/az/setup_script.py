"""The script that `strongroom azure setup --print az` prints, run by the real Azure CLI against a running stand-in.

For each kind of credential: the script ends well, and the service principal that it made may wrap and unwrap with the key
and nothing else. For the first kind also: running it again changes nothing; nor does the command itself, signed in as
`az` is; and it stops at an application that somebody else owns, too.

Takes the variables that `azure-standin env` prints, STANDIN_CONTROL, and the program in STRONGROOM_BIN; `az` is in
PATH. Says one JSON object a line for each kind. Ends with 1 if one of them failed.
"""

import base64
import json
import os
import re
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

CLIENT = "az 2.91.0"
TENANT = os.environ["AZURE_TENANT_ID"]
SUBSCRIPTION = f"/subscriptions/{os.environ['AZURE_SUBSCRIPTION_ID']}"
ISSUER, SUBJECT = "https://tokens.example.com", "system:serviceaccount:strongroom:strongroom"
# The longest that one run of the script may take: it waits ten minutes for what is refused for good.
SCRIPT_SECONDS = 240
MANAGEMENT, GRAPH, KEY_VAULT = "https://management.azure.com", "https://graph.microsoft.com", "https://vault.azure.net"


def main():
    kinds = [secret, certificate, workload_identity]
    with ThreadPoolExecutor(2) as pool:
        ended_well = list(pool.map(attempt, kinds))
    sys.exit(0 if all(ended_well) else 1)


def attempt(kind):
    line = {"client": CLIENT, "operation": f"azure setup --print az, {kind.__name__}", "result": "ok"}
    try:
        kind(Site(kind.__name__))
    except Exception as error:  # noqa: BLE001 - whatever it was, it is the finding
        traceback.print_exc()
        line |= {"result": "failed", "note": f"{type(error).__name__}: {error}"}
    print(json.dumps(line), flush=True)
    return line["result"] == "ok"


def secret(site):
    values = site.set_up()
    site.nothing_changes(values)
    site.sign_in_as_principal(values, "--password", values["Client Secret"])
    site.key_serves(values)
    site.strangers_get_nothing()


def certificate(site):
    values = site.set_up("--credential", "certificate", "--certificate", "it's mine.pem")
    site.sign_in_as_principal(values, "--certificate", "it's mine.pem")
    site.key_serves(values)


def workload_identity(site):
    options = ["--credential", "workload-identity", "--issuer", ISSUER, "--subject", SUBJECT]
    values = site.set_up(*options)
    site.sign_in_as_principal(values, "--federated-token", platform_token())
    site.key_serves(values)


class Site:
    """Things in Azure with names of their own, and a folder with an administrator's and the principal's sign-in."""

    def __init__(self, kind):
        self.folder = Path.cwd() / kind
        self.folder.mkdir()
        slug = kind.replace("_", "-")
        self.vault = f"kv-{slug}"
        # A quote in the name has to get through the shell, OData and Graph.
        self.application = f"Strongroom's {slug}"
        self.named = ["--key-vault", self.vault, "--location", "westeurope", "--resource-group", f"rg-{slug}",
                      "--application", self.application]
        self.tokens = {}
        self.group = f"{SUBSCRIPTION}/resourceGroups/rg-{slug}"

    def set_up(self, *options):
        """The values that the script prints."""
        strongroom = [os.environ["STRONGROOM_BIN"], "azure", "setup", "--print", "az", *self.named, *options]
        script = self.run(strongroom)
        (self.folder / "script.sh").write_text(script)
        self.run(["az", "login", "--service-principal", "--username", os.environ["AZURE_CLIENT_ID"],
                  "--password", os.environ["AZURE_CLIENT_SECRET"], "--tenant", TENANT])
        return read(self.run(["bash", "script.sh"]))

    def nothing_changes(self, values):
        """By running the script once more, and by the command itself, which goes by az's sign-in."""
        before = self.everything(values)
        again = read(self.run(["bash", "script.sh"]))
        itself = [os.environ["STRONGROOM_BIN"], "azure", "setup", "--sign-in", "az", "--yes", *self.named]
        assert read(self.run(itself))["Client ID"] == values["Client ID"]
        after = self.everything(values)
        assert before == after, f"the second run changed {before} to {after}"
        differing = {name for name in values if values[name] != again.get(name)}
        assert differing <= {"Client Secret"}, f"the second run printed other values: {again}"

    def strangers_get_nothing(self):
        """The script stops at an application that it knows by its name only: somebody else owns it, too."""
        token = self.admin_token(GRAPH)
        [application] = self.applications(token)
        [somebody, *_] = get(token, f"{GRAPH}/v1.0/users")["value"]
        reference = {"@odata.id": f"{GRAPH}/v1.0/directoryObjects/{somebody['id']}"}
        added = requests.post(f"{GRAPH}/v1.0/applications/{application['id']}/owners/$ref", json=reference,
                              headers={"authorization": f"Bearer {token}"}, timeout=20)
        assert added.status_code == 204, added.text
        said = self.run(["bash", "script.sh"], ends_with=1)
        assert f"not yours alone: {application['appId']}" in said, said

    def applications(self, token):
        """Those of the wanted name."""
        found = get(token, f"{GRAPH}/v1.0/applications")["value"]
        return [each for each in found if each["displayName"] == self.application]

    def everything(self, values):
        """All that the script may have made, as Graph, Resource Manager and Key Vault show it to the administrator."""
        graph, management, keys = (self.admin_token(audience) for audience in (GRAPH, MANAGEMENT, KEY_VAULT))
        [application] = self.applications(graph)
        assert application["appId"] == values["Client ID"]
        federated = get(graph, f"{GRAPH}/v1.0/applications/{application['id']}/federatedIdentityCredentials")["value"]
        principals = get(graph, f"{GRAPH}/v1.0/servicePrincipals?$filter=appId eq '{values['Client ID']}'")["value"]
        vault = f"{self.group}/providers/Microsoft.KeyVault/vaults/{self.vault}"
        assigned = f"{vault}/keys/{values['Vault Key Name']}/providers/Microsoft.Authorization/roleAssignments"
        roles = get(management, f"{MANAGEMENT}{assigned}?api-version=2022-04-01")["value"]
        url = f"{values['Vault URL']}keys/{values['Vault Key Name']}/versions?api-version=7.4"
        assert (len(principals), len(application["passwordCredentials"] + application["keyCredentials"] + federated)) \
            == (1, 1), "one service principal with one credential"
        return json.dumps([application, federated, principals, get(management, f"{MANAGEMENT}{vault}?api-version=2023-07-01"),
                           sorted(roles, key=lambda role: role["id"]), get(keys, url)["value"]], sort_keys=True)

    def admin_token(self, audience):
        if audience not in self.tokens:
            self.tokens[audience] = self.run(["az", "account", "get-access-token", "--resource", audience, "--query",
                                              "accessToken", "--output", "tsv"]).strip()
        return self.tokens[audience]

    def sign_in_as_principal(self, values, *proof):
        login = ["az", "login", "--service-principal", "--username", values["Client ID"], "--tenant", values["Tenant ID"],
                 "--allow-no-subscriptions", *proof]
        self.run(login, who="principal")

    def key_serves(self, values):
        token = self.run(["az", "account", "get-access-token", "--resource", KEY_VAULT, "--query", "accessToken", "--output",
                          "tsv"], who="principal").strip()
        assert values["Vault URL"] == f"https://{self.vault}.vault.azure.net/"
        key = f"{values['Vault URL']}keys/{values['Vault Key Name']}"
        plain = base64.urlsafe_b64encode(b"thirty-two bytes of a vault key.").decode().rstrip("=")
        wrapped = ask(token, f"{key}/wrapkey", {"alg": "RSA-OAEP-256", "value": plain})
        assert wrapped.status_code == 200, wrapped.text
        kid, value = wrapped.json()["kid"], wrapped.json()["value"]
        unwrapped = ask(token, f"{kid}/unwrapkey", {"alg": "RSA-OAEP-256", "value": value})
        assert unwrapped.status_code == 200 and unwrapped.json()["value"] == plain, unwrapped.text
        refused = ask(token, f"{kid}/decrypt", {"alg": "RSA-OAEP-256", "value": value})
        assert refused.status_code == 403, f"it may decrypt, too: {refused.status_code} {refused.text}"

    def run(self, command, who="administrator", ends_with=0):
        """What the program prints, or says if it is to fail; each of the two has a sign-in of its own."""
        environment = dict(os.environ, HOME=str(self.folder), AZURE_CONFIG_DIR=str(self.folder / who),
                           AZURE_CORE_ONLY_SHOW_ERRORS="true")
        done = subprocess.run(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=SCRIPT_SECONDS)
        assert done.returncode == ends_with, f"{command[0]} {command[1]} ended with {done.returncode}: {done.stderr}"
        return done.stderr if ends_with else done.stdout


def read(printed):
    """The values that the script prints in the end, by their names."""
    names = "Client ID|Tenant ID|Client Secret|Certificate|Credential|Vault URL|Vault Key Name"
    values = dict(re.findall(rf"^({names}) +(\S.*)$", printed, re.MULTILINE))
    assert len(values) == 5, f"not five values: {printed}"
    return values


def get(token, url):
    answer = requests.get(url, headers={"authorization": f"Bearer {token}"}, timeout=20)
    assert answer.status_code == 200, f"{url}: {answer.status_code} {answer.text}"
    return answer.json()


def ask(token, url, body):
    return requests.post(f"{url}?api-version=7.4", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20)


def platform_token():
    """One of a platform whose issuer the stand-in plays. The control port has no proxy before it."""
    session = requests.Session()
    session.trust_env = False
    wanted = {"issuer": ISSUER, "subject": SUBJECT, "audience": "api://AzureADTokenExchange"}
    answer = session.post(f"{os.environ['STANDIN_CONTROL']}/oidc-token", json=wanted, timeout=20)
    return answer.json()["token"]


if __name__ == "__main__":
    main()
