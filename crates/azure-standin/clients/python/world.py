"""What the suite needs of Azure beside the clients under test: a Key Vault, roles, an application, faults on order."""

import base64
import datetime
import json
import os
import uuid
from contextlib import contextmanager

import requests
from azure.identity import ClientSecretCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TENANT = os.environ["AZURE_TENANT_ID"]
CLIENT = os.environ["AZURE_CLIENT_ID"]
SECRET = os.environ["AZURE_CLIENT_SECRET"]
SUBSCRIPTION = f"/subscriptions/{os.environ['AZURE_SUBSCRIPTION_ID']}"
CONTROL = os.environ["STANDIN_CONTROL"]

ARM = "https://management.azure.com"
GRAPH = "https://graph.microsoft.com"
CRYPTO_OFFICER = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
ENCRYPTION_USER = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

_administrator = ClientSecretCredential(TENANT, CLIENT, SECRET)


def _call(resource, method, path, body=None):
    token = _administrator.get_token(f"{resource}/.default").token
    headers = {"Authorization": f"Bearer {token}"}
    response = requests.request(method, resource + path, json=body, headers=headers, timeout=20)
    assert response.ok, f"{method} {path}: {response.status_code} {response.text}"
    return response.json() if response.content else None


def make_key_vault(name):
    """A Key Vault under RBAC in which the administrator holds Crypto Officer; returns its resource id."""
    group = f"{SUBSCRIPTION}/resourceGroups/python"
    _call(ARM, "PUT", f"{group}?api-version=2021-04-01", {"location": "westeurope"})
    scope = f"{group}/providers/Microsoft.KeyVault/vaults/{name}"
    properties = {"tenantId": TENANT, "sku": {"family": "A", "name": "standard"}, "enableRbacAuthorization": True}
    _call(ARM, "PUT", f"{scope}?api-version=2023-07-01", {"location": "westeurope", "properties": properties})
    (principal,) = _call(GRAPH, "GET", f"/v1.0/servicePrincipals?$filter=appId eq '{CLIENT}'")["value"]
    assign(scope, CRYPTO_OFFICER, principal["id"])
    return scope


def assign(scope, role, principal):
    definition = f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}?api-version=2022-04-01"
    properties = {"roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal"}
    _call(ARM, "PUT", path, {"properties": properties})


class Application:
    """A registered application with a service principal, and no credential yet."""

    def __init__(self):
        made = _call(GRAPH, "POST", "/v1.0/applications", {"displayName": "python suite"})
        self.path, self.client = f"/v1.0/applications/{made['id']}", made["appId"]
        self.principal = _call(GRAPH, "POST", "/v1.0/servicePrincipals", {"appId": self.client})["id"]

    def add_certificate(self):
        """Registers a new certificate; returns it with its private key as PEM."""
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "python suite")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=30))
        certificate = builder.sign(key, hashes.SHA256())
        der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        credential = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": der}
        _call(GRAPH, "PATCH", self.path, {"keyCredentials": [credential]})
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, *form)
        return private + certificate.public_bytes(serialization.Encoding.PEM)

    def trust(self, issuer, subject):
        """Lets tokens of `issuer` for `subject` sign in as this application; returns such a token."""
        audience = "api://AzureADTokenExchange"
        trusted = {"name": "suite", "issuer": issuer, "subject": subject, "audiences": [audience]}
        _call(GRAPH, "POST", f"{self.path}/federatedIdentityCredentials", trusted)
        wanted = {"issuer": issuer, "subject": subject, "audience": audience}
        return requests.post(f"{CONTROL}/oidc-token", json=wanted, timeout=20).json()["token"]


@contextmanager
def fault(matching, effect, **limits):
    """Orders a fault, and ends it with the block."""
    order = {"match": matching, "effect": effect, **limits}
    response = requests.post(f"{CONTROL}/faults", data=json.dumps(order), timeout=20)
    assert response.status_code == 204, response.text
    try:
        yield
    finally:
        requests.delete(f"{CONTROL}/faults", timeout=20)


def arrived(operation):
    """How many such operations have reached Key Vaults so far, whatever came of them."""
    operations = requests.get(f"{CONTROL}/stats", timeout=20).json()["operations"]
    return sum(operations.get(operation, {}).values())
