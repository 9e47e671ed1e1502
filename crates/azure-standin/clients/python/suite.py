"""azure-identity and azure-keyvault-keys, unmodified, synchronous and asynchronous, against a running stand-in.

Takes the variables that `azure-standin env` prints, and STANDIN_CONTROL; says one JSON object a line for each
operation. Ends with 1 if one of them failed. `cryptography` checks from outside what the stand-in computes.
"""

import asyncio
import hashlib
import inspect
import json
import secrets
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from tempfile import NamedTemporaryFile

import azure.identity
import azure.identity.aio
import azure.keyvault.keys
import azure.keyvault.keys.aio
import azure.keyvault.keys.crypto
import azure.keyvault.keys.crypto.aio
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.keyvault.keys import (
    JsonWebKey,
    KeyCurveName,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

import world

SCOPE = "https://vault.azure.net/.default"
PLAIN = secrets.token_bytes(32)
DIGEST = hashlib.sha256(b"message").digest()
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
PACKAGES = ", ".join(f"{name} {version(name)}" for name in ("azure-identity", "azure-keyvault-keys"))


@dataclass
class Flavour:
    """One of the two ways in which the packages come."""

    name: str
    identity: object
    keys: object
    crypto: object


FLAVOURS = [
    Flavour("Python", azure.identity, azure.keyvault.keys, azure.keyvault.keys.crypto),
    Flavour("Python async", azure.identity.aio, azure.keyvault.keys.aio, azure.keyvault.keys.crypto.aio),
]


async def settle(value):
    """What a call of either flavour returns."""
    return await value if inspect.isawaitable(value) else value


async def in_pages(pager):
    """The lengths of a list's pages."""
    pages = pager.by_page()
    if hasattr(pages, "__aiter__"):
        return [len([row async for row in page]) async for page in pages]
    return [len(list(page)) for page in pages]


async def refusal(error, function, *arguments, **options):
    """The error of exactly that class that the call raises."""
    try:
        await settle(function(*arguments, **options))
    except error as raised:
        assert type(raised) is error, repr(raised)
        return raised
    raise AssertionError(f"no {error.__name__}")


def inner_code(error):
    """The code by which Key Vault tells its refusals apart."""
    return (error.error.innererror or {}).get("code")


def public_key(key):
    """The public half as `cryptography` has it."""
    e, n = (int.from_bytes(number, "big") for number in (key.key.e, key.key.n))
    return rsa.RSAPublicNumbers(e, n).public_key()


class Suite:
    """The operations in order; each may use what those before it made. A returned text is a note in the table."""

    def __init__(self, flavour):
        self.flavour, self.failures = flavour, 0
        self.host = f"py-{secrets.token_hex(6)}.vault.azure.net"
        self.scope = world.make_key_vault(self.host.partition(".")[0])
        self.app = world.Application()
        self.credential = flavour.identity.ClientSecretCredential(world.TENANT, world.CLIENT, world.SECRET)
        self.opened = [self.credential]
        self.keys = self.client_of(self.credential)

    def client_of(self, credential, **options):
        client = self.flavour.keys.KeyClient(f"https://{self.host}", credential, **options)
        self.opened.append(client)
        return client

    def crypto(self, key, credential=None):
        """With a key the client computes itself what takes no private key; with a key's id it fetches the key first."""
        client = self.flavour.crypto.CryptographyClient(key, credential or self.credential)
        self.opened.append(client)
        return client

    async def on_server(self, key, operation, *arguments):
        """Has the Key Vault do it: a client that may not read the key has no other way."""
        refused = {"status": 403, "body": {"error": {"code": "Forbidden"}}}
        with world.fault({"operation": "get", "kid": key.id}, refused):
            return await settle(getattr(self.crypto(key.id), operation)(*arguments))

    async def finish(self, verb, name):
        """A long-running operation to its end; the flavours name them apart."""
        begin = getattr(self.keys, f"begin_{verb}", None) or getattr(self.keys, verb)
        poller = await settle(begin(name, _polling_interval=0.05))
        if hasattr(poller, "wait"):
            poller.wait()
            return poller.result()
        return poller

    async def run(self):
        for operation, work in OPERATIONS:
            try:
                result, note = "ok", await work(self) or ""
                if isinstance(note, tuple):
                    result, note = note
            except Exception as error:  # one failure is a row of the table, not the end of it
                traceback.print_exc()
                self.failures += 1
                result, note = "failed", f"{type(error).__name__}: {error}"
            client = f"{self.flavour.name}: {PACKAGES}"
            print(json.dumps({"client": client, "operation": operation, "result": result, "note": note}), flush=True)
        for client in self.opened:
            await settle(client.close())
        return self.failures


OPERATIONS = []


def operation(name):
    def register(work):
        OPERATIONS.append((name, work))
        return work

    return register


@operation("sign in with a secret")
async def _(suite):
    assert (await settle(suite.credential.get_token(SCOPE))).token
    wrong = suite.flavour.identity.ClientSecretCredential(world.TENANT, world.CLIENT, "not-the-secret")
    suite.opened.append(wrong)
    assert "AADSTS7000215" in (await refusal(ClientAuthenticationError, wrong.get_token, SCOPE)).message


@operation("sign in with a certificate")
async def _(suite):
    pem = suite.app.add_certificate()
    suite.narrow = suite.flavour.identity.CertificateCredential(
        world.TENANT, suite.app.client, certificate_data=pem
    )
    suite.opened.append(suite.narrow)
    assert (await settle(suite.narrow.get_token(SCOPE))).token


@operation("sign in with a federated token")
async def _(suite):
    token = suite.app.trust("https://oidc.example", f"system:serviceaccount:{suite.host}")
    with NamedTemporaryFile("w") as file:
        file.write(token)
        file.flush()
        workload = suite.flavour.identity.WorkloadIdentityCredential(
            tenant_id=world.TENANT, client_id=suite.app.client, token_file_path=file.name
        )
        suite.opened.append(workload)
        assert (await settle(workload.get_token(SCOPE))).token


def create_rsa(size):
    async def work(suite):
        key = await settle(suite.keys.create_rsa_key(f"rsa-{size}", size=size, tags={"made": "by the suite"}))
        assert len(key.key.n) * 8 == size and key.properties.tags == {"made": "by the suite"}
        local = await settle(suite.crypto(key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, PLAIN))
        assert (await settle(suite.crypto(key).unwrap_key(local.algorithm, local.encrypted_key))).key == PLAIN

    return work


for bits in (2048, 3072, 4096):
    operation(f"create RSA-{bits}")(create_rsa(bits))


@operation("get")
async def _(suite):
    suite.key = await settle(suite.keys.get_key("rsa-4096"))
    same = await settle(suite.keys.get_key("rsa-4096", suite.key.properties.version))
    assert same.id == suite.key.id and same.properties.recovery_level == "Recoverable+Purgeable"
    absent = await refusal(ResourceNotFoundError, suite.keys.get_key, "absent")
    assert absent.error.code == "KeyNotFound", absent


@operation("wrap")
async def _(suite):
    before = world.arrived("wrapkey")
    local = await settle(suite.crypto(suite.key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, PLAIN))
    assert world.arrived("wrapkey") == before and local.key_id == suite.key.id
    suite.wrapped = await suite.on_server(suite.key, "wrap_key", KeyWrapAlgorithm.rsa_oaep_256, PLAIN)
    assert world.arrived("wrapkey") == before + 1 and suite.wrapped.key_id == suite.key.id
    return "by itself with the public key; on the server where it may not read the key"


@operation("unwrap")
async def _(suite):
    client = suite.crypto(suite.key)
    assert (await settle(client.unwrap_key(suite.wrapped.algorithm, suite.wrapped.encrypted_key))).key == PLAIN
    outside = public_key(suite.key).encrypt(PLAIN, OAEP)
    assert (await settle(client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, outside))).key == PLAIN


@operation("encrypt")
async def _(suite):
    suite.sealed = [
        await suite.on_server(suite.key, "encrypt", algorithm, PLAIN)
        for algorithm in (EncryptionAlgorithm.rsa_oaep_256, EncryptionAlgorithm.rsa_oaep, EncryptionAlgorithm.rsa1_5)
    ]
    return "as wrap"


@operation("decrypt")
async def _(suite):
    for sealed in suite.sealed:
        opened = await settle(suite.crypto(suite.key).decrypt(sealed.algorithm, sealed.ciphertext))
        assert opened.plaintext == PLAIN
    broken = suite.sealed[0].ciphertext[:-1] + bytes([suite.sealed[0].ciphertext[-1] ^ 1])
    client = suite.crypto(suite.key)
    refused = await refusal(HttpResponseError, client.decrypt, EncryptionAlgorithm.rsa_oaep_256, broken)
    assert (refused.status_code, refused.error.code) == (400, "BadParameter")


@operation("sign")
async def _(suite):
    client, public = suite.crypto(suite.key), public_key(suite.key)
    suite.signature = (await settle(client.sign(SignatureAlgorithm.ps256, DIGEST))).signature
    public.verify(suite.signature, DIGEST, PSS, Prehashed(hashes.SHA256()))
    pkcs1 = (await settle(client.sign(SignatureAlgorithm.rs256, DIGEST))).signature
    public.verify(pkcs1, DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    long = hashlib.sha512(b"message").digest()
    signed = (await settle(client.sign(SignatureAlgorithm.ps512, long))).signature
    wide = padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH)
    public.verify(signed, long, wide, Prehashed(hashes.SHA512()))


@operation("verify")
async def _(suite):
    for digest, verdict in ((DIGEST, True), (bytes(32), False)):
        local = await settle(suite.crypto(suite.key).verify(SignatureAlgorithm.ps256, digest, suite.signature))
        remote = await suite.on_server(suite.key, "verify", SignatureAlgorithm.ps256, digest, suite.signature)
        assert local.is_valid is verdict and remote.is_valid is verdict
    return "as wrap"


@operation("rotate")
async def _(suite):
    newer = await settle(suite.keys.rotate_key("rsa-4096"))
    assert newer.properties.version != suite.key.properties.version
    wrapped = suite.wrapped.algorithm, suite.wrapped.encrypted_key
    assert (await settle(suite.crypto(suite.key).unwrap_key(*wrapped))).key == PLAIN
    foreign = await refusal(HttpResponseError, suite.crypto(newer).unwrap_key, *wrapped)
    assert (foreign.status_code, foreign.error.code) == (400, "BadParameter")


@operation("list versions")
async def _(suite):
    for _ in range(2):
        await settle(suite.keys.rotate_key("rsa-2048"))
    pages = await in_pages(suite.keys.list_properties_of_key_versions("rsa-2048", max_page_size=2))
    assert pages == [2, 1], pages


@operation("list keys")
async def _(suite):
    assert await in_pages(suite.keys.list_properties_of_keys(max_page_size=2)) == [2, 1]


@operation("update")
async def _(suite):
    expires = datetime(2045, 1, 1, tzinfo=timezone.utc)
    key = await settle(suite.keys.update_key_properties("rsa-3072", expires_on=expires, tags={"changed": "yes"}))
    assert (key.properties.expires_on, key.properties.tags) == (expires, {"changed": "yes"})
    key = await settle(suite.keys.update_key_properties("rsa-3072", key_operations=["unwrapKey"]))
    refused = await refusal(HttpResponseError, suite.crypto(key).sign, SignatureAlgorithm.rs256, DIGEST)
    assert inner_code(refused) == "KeyOperationForbidden", refused


@operation("disabled key is refused")
async def _(suite):
    key = await settle(suite.keys.update_key_properties("rsa-4096", suite.key.properties.version, enabled=False))
    wrapped = suite.wrapped.algorithm, suite.wrapped.encrypted_key
    refused = await refusal(HttpResponseError, suite.crypto(suite.key).unwrap_key, *wrapped)
    assert (refused.status_code, inner_code(refused)) == (403, "KeyDisabled"), refused
    assert key.properties.enabled is False
    await settle(suite.keys.update_key_properties("rsa-4096", suite.key.properties.version, enabled=True))
    assert (await settle(suite.crypto(suite.key).unwrap_key(*wrapped))).key == PLAIN


@operation("rotation policy")
async def _(suite):
    rotate = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P30D")
    policy = KeyRotationPolicy(lifetime_actions=[rotate], expires_in="P90D")
    await settle(suite.keys.update_key_rotation_policy("rsa-4096", policy))
    shown = await settle(suite.keys.get_key_rotation_policy("rsa-4096"))
    assert shown.expires_in == "P90D" and shown.lifetime_actions[0].time_after_create == "P30D"
    properties = (await settle(suite.keys.rotate_key("rsa-4096"))).properties
    assert (properties.expires_on - properties.created_on).days == 90
    call = suite.keys.update_key_rotation_policy
    refused = await refusal(HttpResponseError, call, "rsa-4096", KeyRotationPolicy(), expires_in="P27D")
    assert (refused.status_code, refused.error.code) == (400, "BadParameter")


@operation("import")
async def _(suite):
    private = rsa.generate_private_key(65537, 2048)
    numbers = private.private_numbers()
    public = numbers.public_numbers
    crt = {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    parts = {"n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q, **crt}
    parts = {name: part.to_bytes((part.bit_length() + 7) // 8, "big") for name, part in parts.items()}
    jwk = JsonWebKey(kty="RSA", key_ops=["wrapKey", "unwrapKey"], **parts)
    key = await settle(suite.keys.import_key("imported", jwk))
    wrapped = await suite.on_server(key, "wrap_key", KeyWrapAlgorithm.rsa_oaep_256, PLAIN)
    assert private.decrypt(wrapped.encrypted_key, OAEP) == PLAIN


@operation("delete")
async def _(suite):
    deleted = await suite.finish("delete_key", "rsa-2048")
    assert deleted.recovery_id == f"https://{suite.host}/deletedkeys/rsa-2048"
    blocked = await refusal(ResourceExistsError, suite.keys.create_rsa_key, "rsa-2048")
    assert inner_code(blocked) == "ObjectIsDeletedButRecoverable", blocked


@operation("list deleted")
async def _(suite):
    await suite.finish("delete_key", "imported")
    assert await in_pages(suite.keys.list_deleted_keys(max_page_size=1)) == [1, 1]


@operation("recover")
async def _(suite):
    await suite.finish("recover_deleted_key", "rsa-2048")
    assert (await settle(suite.keys.get_key("rsa-2048"))).name == "rsa-2048"


@operation("purge")
async def _(suite):
    await settle(suite.keys.purge_deleted_key("imported"))
    await refusal(ResourceNotFoundError, suite.keys.get_deleted_key, "imported")


@operation("create EC")
async def _(suite):
    for curve in (KeyCurveName.p_256, KeyCurveName.p_384, KeyCurveName.p_521, KeyCurveName.p_256_k):
        key = await settle(suite.keys.create_ec_key(curve.value.lower(), curve=curve))
        assert key.key.crv == curve
    algorithm = SignatureAlgorithm.es256_k
    signature = (await settle(suite.crypto(key).sign(algorithm, DIGEST))).signature
    assert (await settle(suite.crypto(key).verify(algorithm, DIGEST, signature))).is_valid


@operation("no role on a key")
async def _(suite):
    world.assign(f"{suite.scope}/keys/rsa-4096", world.ENCRYPTION_USER, suite.app.principal)
    keys = suite.client_of(suite.narrow)
    assert (await settle(keys.get_key("rsa-4096"))).name == "rsa-4096"
    refused = await refusal(HttpResponseError, keys.get_key, "rsa-2048")
    assert inner_code(refused) == "ForbiddenByRbac"
    assert "\r\nAction: 'Microsoft.KeyVault/vaults/keys/read'\r\n" in refused.message


@operation("firewall")
async def _(suite):
    with world.fault({"host": suite.host}, {"preset": "firewall"}):
        refused = await refusal(HttpResponseError, suite.keys.get_key, "rsa-4096")
    assert (refused.status_code, inner_code(refused)) == (403, "ForbiddenByFirewall")


@operation("conditional access")
async def _(suite):
    fresh = suite.flavour.identity.ClientSecretCredential(world.TENANT, world.CLIENT, world.SECRET)
    suite.opened.append(fresh)
    with world.fault({"operation": "token"}, {"preset": "conditional_access"}):
        refused = await refusal(ClientAuthenticationError, fresh.get_token, SCOPE)
    assert "AADSTS53003" in refused.message


@operation("throttled once")
async def _(suite):
    before = world.arrived("get")
    with world.fault({"operation": "get"}, {"preset": "throttled"}, times=1):
        await settle(suite.keys.get_key("rsa-4096"))
    assert world.arrived("get") == before + 2
    return "it tries again by itself"


@operation("throttled for long")
async def _(suite):
    impatient = suite.client_of(suite.credential, retry_total=0)
    with world.fault({"operation": "get"}, {"preset": "throttled"}):
        refused = await refusal(HttpResponseError, impatient.get_key, "rsa-4096")
    assert (refused.status_code, refused.error.code) == (429, "Throttled")


@operation("page instead of JSON")
async def _(suite):
    impatient = suite.client_of(suite.credential, retry_total=0)
    with world.fault({"operation": "get"}, {"preset": "unavailable"}):
        refused = await refusal(HttpResponseError, impatient.get_key, "rsa-4096")
    assert refused.status_code == 503


@operation("dropped connection")
async def _(suite):
    impatient = suite.client_of(suite.credential, retry_total=0)
    with world.fault({"operation": "get"}, {"drop": True}):
        await refusal(ServiceRequestError, impatient.get_key, "rsa-4096")
    with world.fault({"operation": "get"}, {"truncate": 10}):
        await refusal(IncompleteReadError, impatient.get_key, "rsa-4096")


@operation("certificate of a stranger")
async def _(suite):
    fresh = suite.client_of(suite.credential, retry_total=0)
    with world.fault({"host": suite.host}, {"untrusted_ca": "Example Corp TLS Inspection"}):
        refused = await refusal(ServiceRequestError, fresh.get_key, "rsa-4096")
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused)


@operation("back up")
async def _(suite):
    refused = await refusal(HttpResponseError, suite.keys.backup_key, "rsa-4096")
    return "azure_error", refused.error.code


@operation("random bytes")
async def _(suite):
    refused = await refusal(HttpResponseError, suite.keys.get_random_bytes, 16)
    return "azure_error", refused.error.code


async def main():
    return sum([await Suite(flavour).run() for flavour in FLAVOURS])


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)
