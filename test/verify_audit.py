#!/usr/bin/env python3
"""Checks a sealed record of the audit log without the database that kept it.

    verify_audit.py PROOF [CHECKPOINT]          files of JSON, in any order
    verify_audit.py RECORD PROOF [CHECKPOINT]
    verify_audit.py STATEMENT                   of ringfence_data.audit_drops
    verify_audit.py --vector                    prints the test vector of doc/audit.md

PROOF is what audit_proof() gave, with the record in it; CHECKPOINT what
audit_checkpoint() gave, now or at any time after the block. RECORD, if there is
one, is taken instead of that in the proof: the columns of
ringfence_data.audit_log, with "relation" and "columns", those of audit_relations,
in place of relation_id. STATEMENT is a row of ringfence_data.audit_drops with the
"public_key" of its key. Prints what holds, and the public key that it rests on; exits
with 1 if anything does not. Nothing but SHA-256 of the standard library is used.

Three things enter a leaf as only the server has them, and make a record
malformed here: text without an equivalent in UTF-8, which JSON can't hold; JSON
inside 64 arrays and objects; and a value whose form is longer than 64 MiB.
"""
import base64
import hashlib
import json
import re
import struct
import sys
import uuid
from datetime import datetime, timedelta, timezone

NULL = b"\xff\xff\xff\xff"
MAX_DEPTH = 64
MAX_NUMBER = 1000
MAX_JSON = 64 * 1024 * 1024


class Number(str):
    """A number as it was written."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(value):
    return int(value).to_bytes(4, "big")


def u64(value):
    return (int(value) & (1 << 64) - 1).to_bytes(8, "big")


def field(value):
    if value is None:
        return NULL
    if isinstance(value, str):
        value = value.encode()
    return u32(len(value)) + value


def in_order(keys):
    return sorted(keys, key=lambda k: (len(k.encode()), k.encode()))


def binary_number(text):
    """A number in PostgreSQL's binary format, that of numeric_send()."""
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.lstrip("0")
    digits = whole.rjust(-(-len(whole) // 4) * 4, "0") + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    weight = -(-len(whole) // 4) - 1
    groups = [int(digits[i:i + 4]) for i in range(0, len(digits), 4)]
    while groups and not groups[0]:
        groups, weight = groups[1:], weight - 1
    while groups and not groups[-1]:
        groups = groups[:-1]
    sign = 0x4000 if groups and text.startswith("-") else 0
    return struct.pack(">HhHH%dH" % len(groups), len(groups), weight if groups else 0, sign, len(fraction), *groups)


def canonical_json(value, depth=0):
    if value is None:
        return b"n"
    if value is True:
        return b"t"
    if value is False:
        return b"f"
    if isinstance(value, Number):
        return b"#" + field(value) if len(value) <= MAX_NUMBER else b"N" + sha256(binary_number(value))
    if isinstance(value, str):
        return b'"' + field(value)
    if depth == MAX_DEPTH:
        raise ValueError("JSON inside %d arrays and objects, which only the server can check" % MAX_DEPTH)
    if isinstance(value, list):
        form = b"[" + u32(len(value)) + b"".join(canonical_json(v, depth + 1) for v in value)
    else:
        form = b"{" + u32(len(value)) + b"".join(
            field(k) + canonical_json(value[k], depth + 1) for k in in_order(value))
    if len(form) > MAX_JSON:
        raise ValueError("a value that is too long, which only the server can check")
    return form


def decoded(text, length):
    """Bytes in base64 of just that length and in its one right spelling, or None."""
    try:
        data = base64.b64decode(text.encode())
    except (AttributeError, ValueError):
        return None
    return data if len(data) == length and base64.b64encode(data).decode() == text else None


def commitment(value):
    if not isinstance(value, dict):
        return None
    if set(value) == {"commitment"}:
        return decoded(value["commitment"], 32)
    salt = decoded(value["salt"], 16) if set(value) == {"salt", "value"} else None
    return sha256(b"\x02", salt, canonical_json(value["value"])) if salt is not None else None


def personal(value):
    commitments = None
    if isinstance(value, dict) and value and set(value) <= {"new", "old"} and all(
            isinstance(side, dict) and side for side in value.values()):
        commitments = [
            (side[0].encode() + field(column), commitment(value[side][column]))
            for side in ("new", "old") for column in in_order(value.get(side, {}))
        ]
    if commitments is None or any(c is None for _, c in commitments):
        return NULL + canonical_json(value)
    return u32(len(commitments)) + b"".join(name + c for name, c in commitments)


def microseconds(moment):
    if isinstance(moment, Number):
        return int(moment)
    date, fraction, sign, hours, minutes = re.fullmatch(
        r"(\d+-\d+-\d+[T ]\d+:\d+:\d+)(\.\d+)?([+-])(\d\d):?(\d\d)?", moment).groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0)) * (1 if sign == "+" else -1)
    local = datetime.fromisoformat(date).replace(tzinfo=timezone(offset))
    seconds = (local - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(seconds=1)
    return seconds * 1000000 + int((fraction or ".")[1:].ljust(6, "0"))


def relation(r):
    """The table's name and a hash of its columns, or the number of a shape that is not there."""
    number = r.get("relation_id") if r.get("relation") is None else r["relation"]
    if isinstance(number, Number):
        return b"\xff\xff\xff\xfe" + u32(number)
    return NULL if number is None else field(number) + sha256(canonical_json(r["columns"]))


def canonical_record(r):
    def optional(name, form):
        return NULL if r.get(name) is None else field(form(r[name]))
    return b"".join([
        b"rfa1", uuid.UUID(r["org_id"]).bytes, uuid.UUID(r["id"]).bytes,
        u64(microseconds(r["recorded_at"])), u64(r["transaction_id"]), u32(r["incarnation"]),
        relation(r), field(r["operation"]), field(r["actor"]),
        optional("user_id", lambda v: uuid.UUID(v).bytes),
        *[field(r.get(name)) for name in (
            "login", "role", "action", "key", "request_id", "correlation_id", "client_ip", "user_agent", "reason")],
        optional("old", canonical_json), optional("new", canonical_json), optional("personal", personal)])


def leaf_of(record):
    return sha256(b"\x00", canonical_record(record))


def root_from(leaf, index, count, path):
    """The root that an inclusion path leads to (RFC 9162, 2.1.3.2)."""
    last = count - 1
    for step in path:
        if last == 0:
            raise ValueError("the path is too long")
        if index & 1 or index == last:
            leaf = sha256(b"\x01", step, leaf)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            leaf = sha256(b"\x01", leaf, step)
        index, last = index >> 1, last >> 1
    if last != 0:
        raise ValueError("the path is too short")
    return leaf


def entry_of(org, block, previous, records, root):
    return sha256(b"\x00rfo1", uuid.UUID(org).bytes, u64(block), u64(previous), u64(records), root)


def header_of(block):
    return b"rfb1" + u64(block["number"]) + u64(block["sealed_at"]) + b"".join(
        bytes.fromhex(block[name]) for name in ("root", "previous", "details", "key_id"))


def head_of(checkpoint, key_id):
    return b"rfh1" + u64(checkpoint["number"]) + bytes.fromhex(checkpoint["hash"]) + u64(checkpoint["stated_at"]) + key_id


def stored(value):
    """Bytes as jsonb shows bytea, or in hexadecimal alone."""
    return bytes.fromhex(value.removeprefix("\\x"))


def drop_of(statement):
    return b"".join([
        b"rfx1", u64(microseconds(statement["range_start"])), u64(microseconds(statement["range_end"])),
        u64(statement["first_block"]), u64(statement["last_block"]), stored(statement["block_hash"]),
        uuid.UUID(statement["event"]).bytes, u64(microseconds(statement["stated_at"])), stored(statement["key_id"]),
        field(statement["reason"])])


# Ed25519 (RFC 8032), slow and simple.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    g, h = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    return (f - e) * (h - g) % P, (h + g) * (f + e) % P, (h - g) * (h + g) % P, (f - e) * (f + e) % P


def multiply(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - xx) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signature_holds(public_key, message, signature):
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % L
    try:
        left, right = multiply(s, BASE), add(decompress(signature[:32]), multiply(k, decompress(public_key)))
    except ValueError:
        return False
    return s < L and not (left[0] * right[2] - right[0] * left[2]) % P and not (left[1] * right[2] - right[1] * left[2]) % P


def check(holds, what):
    print(("ok      " if holds else "NOT OK  ") + what)
    return holds


def check_proof(record, proof):
    record = record or proof.get("record")
    block, path = proof["block"], [bytes.fromhex(p) for p in proof["path"]]
    key, leaf = bytes.fromhex(proof["public_key"]), bytes.fromhex(proof["leaf"])
    root = root_from(leaf, int(proof["index"]), int(proof["records"]), path)
    entry = entry_of(proof["org_id"], block["number"], proof["previous_block"], proof["records"], root)
    block_root = root_from(entry, int(proof["entry_index"]), int(proof["entries"]),
                           [bytes.fromhex(p) for p in proof["entry_path"]])
    header = header_of(block)
    return all([
        check(record is not None, "the record is there") and check(leaf_of(record) == leaf and (record["org_id"], record["id"]) == (proof["org_id"], proof["id"]),
                                "the record is the one that was sealed"),
        check(block_root == bytes.fromhex(block["root"]), "its leaf is in block %s" % block["number"]),
        check(sha256(header) == bytes.fromhex(block["hash"]), "the block's hash is that of its header"),
        check(sha256(key) == bytes.fromhex(block["key_id"])
              and signature_holds(key, header, bytes.fromhex(block["signature"])),
              "the block is signed with key %s" % proof["public_key"])])


def check_checkpoint(checkpoint, proof):
    key = bytes.fromhex(checkpoint["public_key"])
    good = check(signature_holds(key, head_of(checkpoint, sha256(key)), bytes.fromhex(checkpoint["signature"])),
                 "the checkpoint of block %s is signed with key %s" % (checkpoint["number"], checkpoint["public_key"]))
    if proof is not None and int(checkpoint["number"]) == int(proof["block"]["number"]):
        good &= check(checkpoint["hash"] == proof["block"]["hash"], "the checkpoint states the block's hash")
    elif proof is not None:
        good &= check(int(checkpoint["number"]) > int(proof["block"]["number"]), "the checkpoint is later than the block")
    return good


def check_drop(statement):
    key = stored(statement["public_key"])
    return check(sha256(key) == stored(statement["key_id"])
                 and signature_holds(key, drop_of(statement), stored(statement["signature"])),
                 "that %s to %s was dropped is signed with key %s" % (statement["range_start"], statement["range_end"], key.hex()))


VECTOR = """{
 "org_id": "0aaaaaaa-0000-7000-8000-00000000000a", "id": "01900000-0000-7000-8000-000000000001",
 "recorded_at": "2026-01-02T03:04:05.678+00:00", "transaction_id": 3, "incarnation": 1,
 "relation": "public.clients", "columns": {"1": "id", "2": "b"}, "user_id": "aaaaaaaa-0000-4000-8000-00000000000a", "operation": "UPDATE",
 "actor": "user", "login": "web", "role": "ringfence_member", "action": null, "key": "17",
 "request_id": "r-1", "correlation_id": null, "client_ip": "192.0.2.7", "user_agent": "curl/8.0",
 "reason": "Z\\u00fcrich", "old": {"b": 1.50, "note": null, "password": "[secret]"},
 "new": {"b": -20, "note": ["x", true, false, {"\\u00e9": {}, "zz": []}], "password": "[secret]"},
 "personal": {
  "new": {"email": {"salt": "AAECAwQFBgcICQoLDA0ODw==", "value": "a@example.test"}},
  "old": {"email": {"commitment": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}}}}"""


def load(text):
    return json.loads(text, parse_int=Number, parse_float=Number)


def main(arguments):
    if arguments == ["--vector"]:
        record = load(VECTOR)
        leaf = leaf_of(record)
        entry = entry_of(record["org_id"], 1, 0, 1, leaf)
        print("record     ", canonical_record(record).hex())
        print("leaf       ", leaf.hex())
        print("node       ", sha256(b"\x01", leaf, leaf).hex())
        print("org's entry", entry.hex())
        return 0
    record = proof = checkpoint = statement = None
    try:
        for name in arguments:
            with open(name, encoding="utf-8") as file:
                value = load(file.read())
            if "range_start" in value:
                statement = value
            elif "block" in value:
                proof = value
            elif "stated_at" in value:
                checkpoint = value
            else:
                record = value
        if proof is None and (record is not None or (checkpoint is None and statement is None)):
            sys.exit(__doc__)
        good = proof is None or check_proof(record, proof)
        if statement is not None:
            good = check_drop(statement) and good
        if checkpoint is not None:
            good = check_checkpoint(checkpoint, proof) and good
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        good = check(False, "malformed: %s" % error)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
