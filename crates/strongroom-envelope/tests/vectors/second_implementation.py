"""A second implementation of docs/format.md, written from that page alone. Opens every vector beside it.

Needs the package `cryptography`, for AES-GCM and HKDF-Expand. Prints a line a deviation, and a count.
"""

import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHUNK, TAG = 16384, 16
ITEM = ["workspace", "vault", "item", "data_key", "revision/8"]
KINDS = {
    "overview": (0x01, ITEM),
    "details": (0x02, ITEM),
    "attachment": (0x03, ITEM + ["attachment"]),
    "data_key_wrap": (0x10, ["workspace", "vault", "generation/4", "item", "data_key"]),
    "vault_key_wrap": (0x11, ["workspace", "provider", "kek"]),
    "cloud_kek_wrap": (0x20, ["workspace", "provider", "kek"]),
    "provider_credential": (0x21, ["workspace", "provider", "credential"]),
    "member_credential": (0x22, ["workspace", "member"]),
    "notice_credential": (0x23, ["workspace", "channel"]),
    "log_key": (0x24, []),
    "backup": (0x30, ["backup", "part/8"]),
    "recipient": (0x40, []),
}
TOKENS = {
    "mac_session": "token/session",
    "mac_api_token": "token/api",
    "mac_link": "token/link",
    "mac_recovery_code": "token/recovery-code",
}


class Fault(Exception):
    pass


def expand(prk, info, length):
    return HKDFExpand(algorithm=SHA512(), length=length, info=info).derive(prk)


def field(value):
    return b"\x00" if value is None else b"\x01" + len(value).to_bytes(4, "big") + value


def subkey(key, purpose):
    return expand(key, b"strongroom/instance/1/" + purpose.encode(), 32)


def key_id(key):
    return subkey(key, "id")[:8]


def value_of(place, name):
    name, _, width = name.partition("/")
    value = place[name]
    if width:
        return value.to_bytes(int(width), "big")
    return None if value is None else bytes.fromhex(value)


def open_blob(vector, key, blob):
    number, names = KINDS[vector["kind"]]
    if len(blob) < 8:
        raise Fault("TooShort")
    header, body = blob[:8], blob[8:]
    if header[:4] != b"SRME":
        raise Fault("BadMagic")
    if header[4] != 1:
        raise Fault("UnknownFormat")
    if header[5] != 1:
        raise Fault("UnknownSuite")
    if header[6] not in [n for n, _ in KINDS.values()]:
        raise Fault("UnknownKind")
    if header[7] != 0:
        raise Fault("UnknownFlags")
    if header[6] != number:
        raise Fault("WrongKind")
    context = header
    if 0x20 <= number <= 0x3F:
        if len(body) < 8 + 56:
            raise Fault("TooShort")
        if body[:8] != key_id(key):
            raise Fault("UnknownInstanceKey")
        context += field(body[:8])
        key, body = subkey(key, "seal"), body[8:]
    context += b"".join(field(value_of(vector["place"], name)) for name in names)
    return open_chunks(key, context, body)


def open_chunks(key, context, sealed):
    if len(sealed) < 56:
        raise Fault("TooShort")
    salt, commitment, chunks = sealed[:24], sealed[24:56], sealed[56:]
    derived = expand(key, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context, 76)
    if not hmac.compare_digest(derived[44:], commitment):
        raise Fault("CommitmentMismatch")
    if len(chunks) % (CHUNK + TAG) < TAG:
        raise Fault("Truncated")
    cipher, nonce, plaintext = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big"), b""
    for index in range(len(chunks) // (CHUNK + TAG) + 1):
        chunk = chunks[index * (CHUNK + TAG) : (index + 1) * (CHUNK + TAG)]
        try:
            plaintext += cipher.decrypt((nonce ^ index).to_bytes(12, "big"), chunk, None)
        except InvalidTag:
            raise Fault("ChunkAuthentication") from None
    return plaintext


def read_record(place, record):
    if len(record) != 73:
        raise Fault("Length")
    parts = {
        "Magic": (record[:4], b"SRVK"),
        "Format": (record[4:5], b"\x01"),
        "Workspace": (record[5:21], bytes.fromhex(place["workspace"])),
        "Vault": (record[21:37], bytes.fromhex(place["vault"])),
        "Generation": (record[37:41], place["generation"].to_bytes(4, "big")),
    }
    for fault, (found, expected) in parts.items():
        if found != expected:
            raise Fault(fault)
    return record[41:]


def verify_mac(kind, place, key, stored):
    if len(stored) != 40:
        raise Fault("Length")
    if stored[:8] != key_id(key):
        raise Fault("UnknownInstanceKey")
    if kind == "mac_audit":
        purpose, message = "mac/audit", hashlib.sha256(bytes.fromhex(place["event"])).digest()
    elif kind in TOKENS:
        purpose, message = TOKENS[kind], bytes.fromhex(place["token"])
    else:
        row = kind.removeprefix("mac_").replace("_", "-")
        purpose, values = "mac/" + row, [key_id(key), row.encode(), value_of(place, "workspace")]
        if row == "wrap-row":
            values += [value_of(place, name) for name in ["vault", "generation/4", "provider"]]
            values += [place["algorithm"].encode(), place["kid"].encode(), bytes.fromhex(place["wrap"])]
        else:
            values.append(value_of(place, "vault" if row == "vault-policy" else row))
            for name, value in place["fields"]:
                values += [name.encode(), None if value is None else bytes.fromhex(value)]
        message = b"".join(map(field, values))
    if not hmac.compare_digest(hmac.digest(subkey(key, purpose), message, "sha256"), stored[8:]):
        raise Fault("Mismatch")
    return b""


def outcome(vector):
    kind, key, given = vector["kind"], bytes.fromhex(vector["key"]), bytes.fromhex(vector["input"])
    try:
        if kind == "wrap_record":
            return read_record(vector["place"], given).hex()
        if kind.startswith("mac_"):
            return verify_mac(kind, vector["place"], key, given).hex()
        return open_blob(vector, key, given).hex()
    except Fault as fault:
        return str(fault)


def main():
    files = sorted(pathlib.Path(__file__).parent.rglob("*.json"))
    deviations = 0
    for file in files:
        vector = json.loads(file.read_text())
        expected = vector.get("fault", vector.get("output", ""))
        if outcome(vector) != expected:
            deviations += 1
            print(f"{file.name}: {outcome(vector)[:80]} instead of {expected[:80]}")
    print(f"{len(files)} vectors, {deviations} deviations")
    return 1 if deviations or not files else 0


if __name__ == "__main__":
    sys.exit(main())
