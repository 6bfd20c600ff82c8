"""Public keys prove what their kind may prove, and nothing about a token can make them prove more."""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import re
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core import tokens
from proxy.core.errors import ConfigError
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import (
    MAX_BYTES,
    MAX_KEYS,
    MAX_TRIED,
    PUBLIC_ALGORITHMS,
    KeySet,
    jwks_keys,
    pem_keys,
)
from proxy.core.tokens import PUBLISHED, Identity, Rejected, Unproven, Verifier
from tests.keys import ALGORITHM_OF, jwk, jwks, pem, pem_of_private, private, token

NOW = 1_000_000.0
SIGNATURE, ALGORITHM = Reason.TOKEN_SIGNATURE, Reason.TOKEN_ALGORITHM
MISSING = Reason.TOKEN_KEYS_MISSING
KINDS = ("rsa", "p256", "p384", "p521", "ed25519")


class Asked:
    """Counts how often the keys were asked for again."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def fetched(*keys: Any, as_of: float = NOW) -> KeySet:
    """A set as a key server gave it."""
    return replace(jwks_keys(jwks(*keys)), as_of=as_of, dead=as_of + 86400)


def verifier(*keys: Any, asked: Asked | None = None, **settings: Any) -> Verifier:
    """A verifier with a fetched set, for all algorithms unless told otherwise."""
    settings = {"jwks_url": "https://keys.example", "algorithms": PUBLIC_ALGORITHMS, **settings}
    made = Verifier(TokenSettings(**settings), asked or Asked())
    made.use(fetched(*keys))
    return made


def verdict(subject: Verifier, text: str, now: float = NOW) -> Reason | str:
    """The reason, or the user id."""
    result = subject.verify(text, now)
    return result.user_id if isinstance(result, Identity) else result.reason


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("algorithm", ALGORITHM_OF)
def test_an_algorithm_is_good_with_its_kind_of_key_only(algorithm: str, name: str) -> None:
    """RFC 8725 §3.1: the key says which algorithms it has, whatever the token's header says."""
    text = token(ALGORITHM_OF[algorithm], algorithm, "k")
    expected = "42" if ALGORITHM_OF[algorithm] == name else ALGORITHM

    assert expected == verdict(verifier(jwk(name, "k")), text)


@pytest.mark.parametrize("algorithm", ALGORITHM_OF)
def test_another_key_of_the_same_kind_is_refused(algorithm: str) -> None:
    """A signature counts for the key that made it."""
    kind = ALGORITHM_OF[algorithm]

    assert SIGNATURE == verdict(verifier(jwk(f"{kind}-other", "k")), token(kind, algorithm, "k"))


@pytest.mark.parametrize("algorithm", ALGORITHM_OF)
def test_only_configured_algorithms_are_good(algorithm: str) -> None:
    """What the settings do not list is refused, though the key could prove it."""
    kind = ALGORITHM_OF[algorithm]
    others = tuple(one for one in PUBLIC_ALGORITHMS if one != algorithm)

    assert ALGORITHM == verdict(verifier(jwk(kind, "k"), algorithms=others), token(kind, algorithm, "k"))


def by_hand(header: dict[str, Any], secret: bytes | None = None) -> str:
    """A token with any header, signed with HMAC or not at all."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, {"sub": "42"})
    )
    mark = b"AA" if secret is None else hmac.digest(secret, head + b"." + body, "sha256")
    return b".".join((head, body, base64.urlsafe_b64encode(mark).rstrip(b"="))).decode()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("algorithm", ["HS256", "none", "None", "ES256K", "", None, ["RS256"], {}])
def test_a_public_key_is_never_taken_for_a_secret(name: str, algorithm: Any) -> None:
    """CVE-2022-29217: HMAC with the text of the public key, or no signature, is refused with any key."""
    der = (
        private(name)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for secret in (pem(name), der, json.dumps(jwk(name, "k")).encode(), b"", None):
        assert ALGORITHM == verdict(verifier(jwk(name, "k")), by_hand({"alg": algorithm, "kid": "k"}, secret))


def test_hmac_under_the_name_of_a_public_algorithm() -> None:
    """The header's lie about the algorithm ends in a bad signature."""
    assert SIGNATURE == verdict(verifier(jwk("rsa", "k")), by_hand({"alg": "RS256", "kid": "k"}, pem("rsa")))


@pytest.mark.parametrize("offered", [{"jwk": jwk("rsa-evil")}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "x"}])
def test_a_token_that_brings_its_key_is_refused(offered: dict[str, Any]) -> None:
    """RFC 8725 §3.5: whoever signed it, also with a known key, it asks to be proven by something else."""
    headers = {"kid": "k", **offered}
    for name in ("rsa-evil", "rsa"):
        text = jwt.encode({"sub": "42"}, private(name), algorithm="RS256", headers=headers)
        assert Reason.TOKEN_HEADER == verdict(verifier(jwk("rsa", "k")), text)


def test_a_certificate_that_a_token_brings_is_not_looked_at() -> None:
    """Issuers send `x5c` along; a known key must have signed."""
    headers = {"kid": "k", "x5c": ["x"]}
    evil = jwt.encode({"sub": "42"}, private("rsa-evil"), algorithm="RS256", headers=headers)
    good = jwt.encode({"sub": "42"}, private("rsa"), algorithm="RS256", headers=headers)
    subject = verifier(jwk("rsa", "k"))

    assert (SIGNATURE, "42") == (verdict(subject, evil), verdict(subject, good))


@pytest.mark.parametrize("crit", [["exp"], [], ["b64"], "x", None])
def test_any_crit_is_refused(crit: Any) -> None:
    """RFC 7515 §4.1.11: no extension is understood here."""
    text = by_hand({"alg": "RS256", "kid": "k", "crit": crit})

    assert Reason.TOKEN_MALFORMED == verdict(verifier(jwk("rsa", "k")), text)


@pytest.mark.parametrize(
    ("more", "algorithm", "expected"),
    [
        ({"alg": "RS256"}, "RS256", "42"),
        ({"alg": "RS256"}, "PS256", ALGORITHM),
        ({"alg": "PS512"}, "PS512", "42"),
        ({"use": "sig", "key_ops": ["verify"]}, "RS256", "42"),
        ({"alg": "ES256"}, "RS256", MISSING),
        ({"alg": "RSA-OAEP"}, "RS256", MISSING),
        ({"alg": "HS256"}, "RS256", MISSING),
        ({"alg": None}, "RS256", MISSING),
        ({"use": "enc"}, "RS256", MISSING),
        ({"key_ops": ["sign"]}, "RS256", MISSING),
        ({"key_ops": "verify"}, "RS256", MISSING),
    ],
)
def test_a_jwk_narrows_what_it_is_for(more: dict[str, Any], algorithm: str, expected: object) -> None:
    """RFC 7517 §4.2-4.4. A key that is not for this proves nothing, and condemns nothing."""
    asked = Asked()
    subject = verifier(jwk("rsa", "k", **more), jwk("p256", "other"), asked=asked)

    assert (expected, 0) == (verdict(subject, token("rsa", algorithm, "k", iat=1)), asked.times)


OCT = {"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "kid": "k"}


@pytest.mark.parametrize(
    "entry",
    [
        OCT,
        jwk("rsa", "k", of_private=True),
        jwk("p256", "k", of_private=True),
        jwk("ed25519", "k", of_private=True),
        jwk("rsa1024", "k"),
        jwk("ed448", "k"),
        jwk("k256", "k"),
        {"kty": "RSA", "kid": "k"},
        {"kty": "RSA", "kid": "k", "n": 1, "e": []},
        {"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": "k", "n": jwk("rsa")["n"], "e": "AA"},
        {"kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "k", "crv": "P-256", "x": jwk("p256")["x"], "y": jwk("p256-b")["y"]},
        {"kty": "EC", "kid": "k", "crv": ["P-256"], "x": {}, "y": None},
        {"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "AA"},
        {"kty": ["RSA"], "kid": "k"},
        {"kid": "k"},
    ],
)
def test_keys_of_a_set_that_are_not_used(entry: dict[str, Any]) -> None:
    """Secrets, private, weak, foreign and broken keys are left out; the others of the set stay good."""
    found = jwks_keys(jwks(entry, jwk("rsa", "good")))

    assert (["good"], {"k"}) == ([key.kid for key in found.keys], found.unusable)


def test_entries_that_are_no_keys() -> None:
    """They are left out like keys without a name."""
    assert {None} == jwks_keys(jwks(1, None, [], "x", jwk("rsa") | {"kid": 1})).unusable


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"[" * 5000, "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "not a JWK set: it has no list 'keys'"),
        (b'{"keys":{}}', "not a JWK set: it has no list 'keys'"),
        (b" " * (MAX_BYTES + 1), "larger than 256 KiB"),
        (b'{"keys":[%s]}' % b",".join([b"{}"] * (MAX_KEYS + 1)), "holds more than 100 keys"),
    ],
)
def test_what_is_no_key_set(data: bytes, sentence: str) -> None:
    """It is refused as a whole, in one sentence that repeats nothing of it."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        jwks_keys(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
MEMBERS = st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y", "d"])
WORDS = st.sampled_from(["RSA", "EC", "OKP", "oct", "sig", "P-256", "Ed25519", "AQAB", "AAAA"])


@given(st.lists(st.dictionaries(MEMBERS, JSON | WORDS) | JSON, max_size=3))
def test_no_key_set_raises_anything_else(keys: list[Any]) -> None:
    """Whatever JSON stands in the list is a key or is left out."""
    assert () == jwks_keys(jwks(*keys)).keys


def test_a_kid_that_two_keys_have() -> None:
    """RFC 7517 §4.5 allows it for alternatives: each is tried; the same key twice is one."""
    first, second, curve = jwk("rsa", "k"), jwk("rsa-b", "k"), jwk("p256", "k")
    subject = verifier(first, second, first, curve)

    for name, algorithm in (("rsa", "RS256"), ("rsa-b", "RS256"), ("p256", "ES256")):
        assert "42" == verdict(subject, token(name, algorithm, "k"))
    assert SIGNATURE == verdict(subject, token("rsa-c", "RS256", "k"))
    assert 3 == len(jwks_keys(jwks(first, second, first, curve)).keys)


def test_a_token_without_a_kid_is_tried_with_what_fits() -> None:
    """Its algorithm leaves out the keys of other kinds."""
    subject = verifier(jwk("p256", "a"), jwk("rsa-b", "b"), jwk("rsa", "c"), jwk("ed25519"))

    assert "42" == verdict(subject, token("rsa", "RS256"))
    assert "42" == verdict(subject, token("ed25519", "EdDSA"))
    assert "42" == verdict(subject, token("ed25519", "EdDSA", "a-name-that-the-set-does-not-give"))


def test_one_token_costs_a_bounded_number_of_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond eight keys nobody here can tell, so upstream decides."""
    names = [f"p256-{n}" for n in range(MAX_TRIED + 1)]
    subject = verifier(*(jwk(name, name) for name in names))
    tried = []
    signed = subject._signed
    monkeypatch.setattr(
        subject, "_signed", lambda parts, key, name: tried.append(key) or signed(parts, key, name)
    )

    assert MISSING == verdict(subject, token(names[-1], "ES256"))
    assert MAX_TRIED == len(tried)
    # Old enough to be in the set: it may be there.
    assert MISSING == verdict(subject, token(names[-1], "ES256", iat=NOW - PUBLISHED - 1))
    assert "42" == verdict(subject, token(names[-1], "ES256", names[-1]))
    assert "42" == verdict(subject, token(names[MAX_TRIED - 1], "ES256"))


@pytest.mark.parametrize(
    ("iat", "expected"),
    [
        (NOW - PUBLISHED - 1, SIGNATURE),
        (NOW - PUBLISHED, MISSING),
        (NOW + 5, MISSING),
        (None, MISSING),
        ("x", MISSING),
        (True, MISSING),
    ],
)
@pytest.mark.parametrize("kid", ["new", None])
def test_a_key_that_the_set_does_not_hold(iat: Any, expected: object, kid: str | None) -> None:
    """A token older than the set is bad; the key of a younger one may just not be there yet."""
    asked = Asked()
    subject = verifier(jwk("rsa", "k"), asked=asked)

    assert (expected, 1) == (verdict(subject, token("rsa-new", "RS256", kid, iat=iat)), asked.times)
    assert {} == subject._verified


@pytest.mark.parametrize("unusable", [OCT | {"kid": "new"}, {"kty": "oct"}])
def test_a_key_that_is_there_and_not_used_condemns_nothing(unusable: dict[str, Any]) -> None:
    """Upstream may know the key that this program leaves out."""
    asked = Asked()

    assert MISSING == verdict(
        verifier(jwk("rsa", "k"), unusable, asked=asked), token("rsa-new", "RS256", "new", iat=1)
    )
    assert 0 == asked.times


def test_without_keys_nothing_is_refused() -> None:
    """Never fetched, an empty set, a set that is too old: upstream decides, even on garbage."""
    subject = Verifier(TokenSettings(jwks_url="https://keys.example", algorithms=("RS256",)))
    texts = (token("rsa", "RS256", "k"), "garbage", "x" * 9000, by_hand({"alg": "none"}))
    for keys in (None, fetched(), fetched(OCT)):
        if keys is not None:
            subject.use(keys)
        assert not subject.has_keys(NOW)
        assert [Unproven()] * len(texts) == [subject.verify(text, NOW) for text in texts]
    subject.use(fetched(jwk("rsa", "k")))

    assert "42" == verdict(subject, texts[0], NOW + 86399)
    assert MISSING == verdict(subject, texts[0], NOW + 86400)


def test_other_keys_make_remembered_tokens_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed key stops working at once; a set that is the same again costs no signature check."""
    subject = verifier(jwk("rsa", "k"), jwk("p256", "other"))
    text = token("rsa", "RS256", "k", iat=1)
    first = subject.verify(text, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(subject, "_prove", None)
        subject.use(fetched(jwk("rsa", "k"), jwk("p256", "other"), as_of=NOW + 300))
        assert first is subject.verify(text, NOW + 300)
    subject.use(fetched(jwk("p256", "other"), as_of=NOW + 600))

    assert Rejected(SIGNATURE) == subject.verify(text, NOW + 600)


def certificate(name: str) -> bytes:
    """A certificate of that key that ran out long ago."""
    who = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "keys.example")])
    made = x509.CertificateBuilder(
        who, who, private(name).public_key(), 1,
        datetime.datetime(2001, 1, 1), datetime.datetime(2002, 1, 1),  # noqa: DTZ001 - UTC, as X.509 has it
    ).sign(private(name), hashes.SHA256())  # fmt: skip
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_file_of_keys() -> None:
    """Several blocks with text between them; a certificate gives its key, and any kid is good."""
    pkcs1 = (
        private("rsa-b")
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    )
    data = b"# ours\n" + pem("p256") + b"\xff\n" + certificate("rsa") + pkcs1 + pem("p256") + pem("ed25519")
    text = data.decode("ascii", "replace")
    subject = Verifier(TokenSettings(public_key=text, algorithms=("ES256", "PS256", "RS512", "EdDSA")))

    assert 4 == len(pem_keys(data))
    for name, algorithm in (("p256", "ES256"), ("rsa", "PS256"), ("rsa-b", "RS512"), ("ed25519", "EdDSA")):
        assert "42" == verdict(subject, token(name, algorithm))
        assert "42" == verdict(subject, token(name, algorithm, "any"))
    assert SIGNATURE == verdict(subject, token("p256-b", "ES256"))
    assert ALGORITHM == verdict(subject, token("rsa", "RS256"))
    assert SIGNATURE == verdict(subject, token("rsa-new", "RS512", "any"))


def block(label: str) -> bytes:
    """A PEM block with nothing good in it."""
    return f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no PEM public key or certificate (-----BEGIN PUBLIC KEY-----)"),
        (b"secret", "no PEM public key or certificate (-----BEGIN PUBLIC KEY-----)"),
        (pem_of_private("p256"), "a private key, which does not belong here; give the public one"),
        (block("X"), "a PEM block that is neither a public key nor a certificate"),
        (block("PUBLIC KEY"), "a PEM block that can't be read"),
        (block("CERTIFICATE"), "a PEM block that can't be read"),
        (pem("rsa1024"), "an RSA key of 1024 bits; 2048 to 8192 are good"),
        (pem("k256"), "a key of a curve other than P-256, P-384 and P-521"),
        (pem("ed448"), "a key that is not RSA, EC (P-256, P-384, P-521) or Ed25519"),
        (pem("p256") * 9, "more than 8 keys; leave the unused ones out"),
    ],
)  # fmt: skip
def test_a_file_that_is_refused(data: bytes, sentence: str) -> None:
    """One bad block makes the whole file a mistake, told without its text."""
    with pytest.raises(ValueError, match=f"^holds {re.escape(sentence)}$"):
        pem_keys(data)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "there is no key"),
        ({"public_key": "x"}, "public_key_file: holds no PEM"),
        ({"public_key": "x", "algorithms": ("RS256",)}, "public_key_file: holds no PEM"),
        ({"jwks_url": "u", "algorithms": ("HS256",)}, "HS256; possible are RS256"),
        ({"jwks_url": "u", "algorithms": ("RS256", "none")}, "none; possible are RS256"),
        ({"secret": "s", "algorithms": ("HS256", "ES256")}, "ES256; possible are HS256"),
    ],
)
def test_settings_that_fit_no_key(settings: dict[str, Any], told: str) -> None:
    """RFC 8725 §3.1: a kind of key and its algorithms belong together."""
    with pytest.raises(ConfigError) as caught:
        Verifier(TokenSettings(**({"algorithms": ("RS256",)} | settings)))

    assert told in caught.value.mistakes[0]


def test_nothing_shows_keys() -> None:
    """Neither a repr of keys nor one of settings holds a secret."""
    keys = tokens.configured_keys(TokenSettings(secret="a-secret-of-thirty-two-bytes-or-so"))

    assert "a-secret" not in repr(keys)
    assert "password" not in repr(TokenSettings(jwks_url="https://k.example/?key=password"))
