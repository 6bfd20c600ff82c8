"""Which tokens are good, until when, and that nothing about them makes the verifier raise."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
from datetime import datetime, tzinfo
from typing import Any
from unittest import mock

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import tokens
from proxy.core.errors import ConfigError
from proxy.core.headers import Headers
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings
from proxy.core.tokens import MAX_TOKEN, Identity, Rejected, Verifier, bearer, token_hash

SECRET = "a-secret-of-at-least-thirty-two-bytes"
NOW = 1_000_000.0
MALFORMED = Rejected(Reason.TOKEN_MALFORMED)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(payload: bytes, header: object = None, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token made by hand, so that it may hold what no library would write."""
    head = json.dumps({"alg": "HS256"} if header is None else header).encode()
    text = f"{b64(head)}.{b64(payload)}"
    return f"{text}.{b64(hmac.new(secret.encode(), text.encode(), digest).digest())}"


def token(**claims: Any) -> str:
    return signed(json.dumps({"sub": "42", **claims}).encode())


def verifier(**settings: Any) -> Verifier:
    return Verifier(TokenSettings(**{"secret": SECRET, **settings}))


def verdict(text: str, now: float = NOW, **settings: Any) -> Reason | str:
    """The reason of a rejection, or the user id."""
    result = verifier(**settings).verify(text, now)
    return result.reason if isinstance(result, Rejected) else result.user_id


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([b"Basic dTpw"], None),
        ([b"Bearers abc"], None),
        ([b"Bearer-X abc"], None),
        ([b""], None),
        ([b"Bearer abc"], "abc"),
        ([b"bEARER   a-b._~+/c=="], "a-b._~+/c=="),
        ([b" Bearer abc\t"], "abc"),
        ([b"Bearer"], MALFORMED),
        ([b"Bearer "], MALFORMED),
        ([b"Bearer\tabc"], MALFORMED),
        ([b"Bearer,abc"], MALFORMED),
        ([b"Bearer a b"], MALFORMED),
        ([b"Bearer a, Bearer b"], MALFORMED),
        ([b"Bearer =a"], MALFORMED),
        ([b"Bearer \xe9"], MALFORMED),
        ([b"Bearer a", b"Bearer a"], MALFORMED),
        ([b"Basic x", b"Bearer a"], MALFORMED),
    ],
)
def test_bearer(lines: list[bytes], expected: object) -> None:
    """RFC 6750 §2.1: one line, the scheme without case, one b64token."""
    assert expected == bearer(Headers((b"Authorization", line) for line in lines))


def test_hashes() -> None:
    """SHA-256 in hex stands for the token; any text has one."""
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == token_hash("abc")
    assert token_hash("\ud800") != token_hash("\ud801")


def test_a_good_token() -> None:
    """What it proves: user, claims, end, and the hash that names it; its repr shows no claim and no hash."""
    text = token(exp=NOW + 9, email="a@b.example")
    identity = verifier().verify(text, NOW)
    assert isinstance(identity, Identity)
    assert ("42", NOW + 9, token_hash(text)) == (identity.user_id, identity.exp, identity.token_hash)
    assert {"sub": "42", "exp": NOW + 9, "email": "a@b.example"} == dict(identity.claims)
    assert "Identity(user_id='42', exp=1000009.0)" == repr(identity)
    assert isinstance(hash(identity), int)
    with pytest.raises(TypeError):
        identity.claims["sub"] = "43"  # type: ignore[index]


def test_what_pyjwt_writes_is_read() -> None:
    """RFC 7519: the tokens of the usual library, whatever the length of its secret."""
    assert verdict(jwt.encode({"sub": "7"}, SECRET, headers={"kid": "1"})) == "7"
    assert verdict(signed(b'{"sub":"7"}', secret="short"), secret="short") == "7"


@pytest.mark.parametrize(
    ("claims", "now", "expected"),
    [
        ({}, NOW, "42"),
        ({"exp": NOW}, NOW - 0.1, "42"),
        ({"exp": NOW}, NOW, Reason.TOKEN_EXPIRED),
        ({"exp": int(NOW)}, NOW + 1, Reason.TOKEN_EXPIRED),
        ({"exp": 0}, NOW, Reason.TOKEN_EXPIRED),
        ({"exp": NOW + 0.5}, NOW, Reason.TOKEN_EXPIRED),
        ({"exp": -0.5}, NOW, Reason.TOKEN_EXPIRED),
        ({"nbf": NOW}, NOW, "42"),
        ({"nbf": NOW}, NOW - 0.1, Reason.TOKEN_NOT_YET),
        ({"iat": NOW}, NOW, "42"),
        ({"iat": NOW}, NOW - 0.1, Reason.TOKEN_NOT_YET),
        ({"exp": None}, NOW, Reason.TOKEN_MALFORMED),
        ({"exp": True}, NOW, Reason.TOKEN_MALFORMED),
        ({"exp": "9999999999"}, NOW, Reason.TOKEN_MALFORMED),
        ({"exp": 10**14}, NOW, "42"),
        ({"exp": 10**15}, NOW, Reason.TOKEN_MALFORMED),
        ({"exp": 10**400}, NOW, Reason.TOKEN_MALFORMED),
        ({"nbf": []}, NOW, Reason.TOKEN_MALFORMED),
        ({"iat": {}}, NOW, Reason.TOKEN_MALFORMED),
    ],
)
def test_times(claims: dict[str, Any], now: float, expected: object) -> None:
    """RFC 7519 §4.1.4-6: good from nbf, and until exp but not at it."""
    assert expected == verdict(token(**claims), now)


@pytest.mark.parametrize(
    ("claims", "now", "expected"),
    [
        ({"exp": NOW}, NOW + 4.9, "42"),
        ({"exp": NOW}, NOW + 5, Reason.TOKEN_EXPIRED),
        ({"nbf": NOW}, NOW - 5, "42"),
        ({"nbf": NOW}, NOW - 5.1, Reason.TOKEN_NOT_YET),
        ({"iat": NOW}, NOW - 5, "42"),
        ({"iat": NOW}, NOW - 5.1, Reason.TOKEN_NOT_YET),
    ],
)
def test_leeway(claims: dict[str, Any], now: float, expected: object) -> None:
    """RFC 7519 §4.1.4: clocks may differ by the leeway and no more."""
    assert expected == verdict(token(**claims), now, leeway=5.0)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999", "-1e999"])
def test_times_that_are_no_numbers(literal: str) -> None:
    """RFC 8259 §6: an end that is not finite is no end."""
    assert Reason.TOKEN_MALFORMED == verdict(signed(b'{"sub":"1","exp":%s}' % literal.encode()))


@pytest.mark.parametrize(
    ("settings", "claims", "expected"),
    [
        ({"issuer": "a"}, {"iss": "a"}, "42"),
        ({"issuer": "a"}, {"iss": "A"}, Reason.TOKEN_ISSUER),
        ({"issuer": "a"}, {"iss": ["a"]}, Reason.TOKEN_ISSUER),
        ({"issuer": "a"}, {}, Reason.TOKEN_ISSUER),
        ({}, {"iss": "a"}, "42"),
        ({"audience": "a"}, {"aud": "a"}, "42"),
        ({"audience": "a"}, {"aud": ["b", "a"]}, "42"),
        ({"audience": "a"}, {"aud": "ab"}, Reason.TOKEN_AUDIENCE),
        ({"audience": "a"}, {"aud": ["b"]}, Reason.TOKEN_AUDIENCE),
        ({"audience": "a"}, {"aud": {"a": 1}}, Reason.TOKEN_AUDIENCE),
        ({"audience": "a"}, {"aud": ["a", 1]}, Reason.TOKEN_AUDIENCE),
        ({"audience": "a"}, {"aud": []}, Reason.TOKEN_AUDIENCE),
        ({"audience": "a"}, {}, Reason.TOKEN_AUDIENCE),
        ({}, {"aud": "a"}, "42"),
        ({}, {"aud": ""}, "42"),
        ({}, {"aud": None}, "42"),
    ],
)
def test_parties(settings: dict[str, Any], claims: dict[str, Any], expected: object) -> None:
    """RFC 7519 §4.1.1 and §4.1.3: from the right issuer, and for this service and no other."""
    assert expected == verdict(token(**claims), **settings)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("1", "1"),
        ("x" * 256, "x" * 256),
        ("x" * 257, Reason.TOKEN_SUBJECT),
        ("", Reason.TOKEN_SUBJECT),
        ("a\nb", Reason.TOKEN_SUBJECT),
        (0, "0"),
        (-1, "-1"),
        (42, "42"),
        (10**300, Reason.TOKEN_SUBJECT),
        (True, Reason.TOKEN_SUBJECT),
        (1.0, Reason.TOKEN_SUBJECT),
        (None, Reason.TOKEN_SUBJECT),
        ([], Reason.TOKEN_SUBJECT),
        ({}, Reason.TOKEN_SUBJECT),
    ],
)
def test_subjects(subject: object, expected: object) -> None:
    """The user id is text or a whole number, and fit for a key."""
    assert expected == verdict(token(sub=subject))
    assert expected == verdict(token(user={"id": subject}), subject=("user", "id"))


def test_a_subject_that_is_not_there() -> None:
    """A path that ends early names nobody."""
    assert Reason.TOKEN_SUBJECT == verdict(token(user="x"), subject=("user", "id"))
    assert Reason.TOKEN_SUBJECT == verdict(signed(b"{}"))


def with_header(**header: object) -> str:
    return signed(b'{"sub":"1"}', {"alg": "HS256", **header})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Reason.TOKEN_MALFORMED),
        ("a", Reason.TOKEN_MALFORMED),
        ("a.b", Reason.TOKEN_MALFORMED),
        ("a.b.c", Reason.TOKEN_MALFORMED),
        ("..", Reason.TOKEN_MALFORMED),
        ("a.b.c.d.e", Reason.TOKEN_MALFORMED),
        (token() + ".x.y", Reason.TOKEN_MALFORMED),
        (token() + "\n", Reason.TOKEN_MALFORMED),
        (token() + "\ud800", Reason.TOKEN_MALFORMED),
        (token() + "!", Reason.TOKEN_MALFORMED),
        (token(pad="x" * MAX_TOKEN), Reason.TOKEN_MALFORMED),
        (signed(b"[]"), Reason.TOKEN_MALFORMED),
        (signed(b"\xff"), Reason.TOKEN_MALFORMED),
        (signed(b'{"sub":"\xff"}'), Reason.TOKEN_MALFORMED),
        (signed(b'{"sub":"\\ud800"}'), Reason.TOKEN_MALFORMED),
        (signed(b"[" * 5000), Reason.TOKEN_MALFORMED),
        (signed(b"{" + b'"a":{' * 1100), Reason.TOKEN_MALFORMED),
        (signed(token().encode()), Reason.TOKEN_MALFORMED),
        (signed(b"{}", []), Reason.TOKEN_MALFORMED),
        (signed(b"{}", "x"), Reason.TOKEN_MALFORMED),
        (signed(b"{}", {}), Reason.TOKEN_ALGORITHM),
        (with_header(kid=1), Reason.TOKEN_MALFORMED),
        (with_header(crit=["exp"]), Reason.TOKEN_MALFORMED),
        (with_header(crit=[]), Reason.TOKEN_MALFORMED),
        (with_header(crit=["b64"], b64=True), Reason.TOKEN_MALFORMED),
        (with_header(crit=["b64"], b64=False), Reason.TOKEN_MALFORMED),
        (with_header(b64=False), Reason.TOKEN_MALFORMED),
        (with_header(jku="https://evil.example"), Reason.TOKEN_HEADER),
        (with_header(jwk={}), Reason.TOKEN_HEADER),
        (with_header(x5u="x"), Reason.TOKEN_HEADER),
        (with_header(cty="JWT"), Reason.TOKEN_HEADER),
        (with_header(cty="at+json", x5c=["x"]), "1"),
        (with_header(alg="none"), Reason.TOKEN_ALGORITHM),
        (with_header(alg="None"), Reason.TOKEN_ALGORITHM),
        (with_header(alg=""), Reason.TOKEN_ALGORITHM),
        (with_header(alg=None), Reason.TOKEN_ALGORITHM),
        (with_header(alg=["HS256"]), Reason.TOKEN_ALGORITHM),
        (with_header(alg={}), Reason.TOKEN_ALGORITHM),
        (with_header(alg="hs256"), Reason.TOKEN_ALGORITHM),
        (with_header(alg="HS384"), Reason.TOKEN_ALGORITHM),
        (with_header(alg="RS256"), Reason.TOKEN_ALGORITHM),
        (signed(b'{"sub":"1"}', {"alg": "HS256"}, digest="sha512"), Reason.TOKEN_SIGNATURE),
        (signed(b'{"sub":"1"}', secret="another"), Reason.TOKEN_SIGNATURE),
        (signed(b'{"sub":"1","exp":1}', secret="another"), Reason.TOKEN_SIGNATURE),
        (token().rsplit(".", 1)[0] + "." + "A" * 43, Reason.TOKEN_SIGNATURE),
    ],
)
def test_tokens_that_are_refused(text: str, expected: object) -> None:
    """RFC 7515 §4.1.11, §5.2 and RFC 8725 §2-3: form, header, algorithm, then signature."""
    assert expected == verdict(text)


def test_an_empty_signature_is_none() -> None:
    """RFC 8725 §2.1: an unsecured token is not good under any of its spellings."""
    head = b64(b'{"alg":"none"}')
    assert Reason.TOKEN_MALFORMED == verdict(f"{head}.{b64(b'{}')}.")


def test_each_configured_algorithm() -> None:
    """RFC 7518 §3.2: the listed ones, each with its own hash."""
    text = signed(b'{"sub":"1"}', {"alg": "HS512"}, digest="sha512")
    assert "1" == verdict(text, algorithms=("HS256", "HS512", "HS512"))
    assert Reason.TOKEN_ALGORITHM == verdict(text, algorithms=("HS256",))
    assert "1" == verdict(signed(b'{"sub":"1"}', {"alg": "HS384"}, digest="sha384"), algorithms=("HS384",))


PUBLIC_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("HS256", "RS256")},
        {"algorithms": ("hs256",)},
        {"secret": ""},
        {"secret": PUBLIC_KEY},
        {"secret": '{"kty":"oct","k":"AAAA"}'},
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    """RFC 8725 §2.1: no unsecured tokens, no public key that anybody could sign with; no secret is shown."""
    with pytest.raises(ConfigError) as caught:
        verifier(**settings)
    assert "tokens" in caught.value.mistakes[0]
    assert "AAAA" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


def test_good_tokens_are_remembered_and_their_times_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second use costs no signature check, but exp and nbf hold on every use."""
    subject = verifier()
    text = token(exp=NOW + 10, nbf=NOW)
    first = subject.verify(text, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(subject, "_prove", None)
        assert first is subject.verify(text, NOW + 9)
        assert Rejected(Reason.TOKEN_EXPIRED) == subject.verify(text, NOW + 10)
    assert {} == subject._verified
    assert Rejected(Reason.TOKEN_EXPIRED) == subject.verify(text, NOW + 10)
    assert isinstance(subject.verify(text, NOW), Identity)
    assert Rejected(Reason.TOKEN_NOT_YET) == subject.verify(text, NOW - 1)


def test_bad_tokens_and_raw_tokens_are_not_remembered() -> None:
    """Memory holds hashes of good tokens only."""
    subject = verifier()
    good = token()
    for text in (good, token(exp=1), token(nbf=NOW + 1), "x", signed(b'{"sub":"1"}', secret="another")):
        subject.verify(text, NOW)
    assert [token_hash(good)] == list(subject._verified)
    assert good not in repr(subject._verified)
    assert "Verifier(HS256, 1 remembered)" == repr(subject)


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest makes room for the newest."""
    monkeypatch.setattr(tokens, "MAX_VERIFIED", 2)
    subject = verifier()
    texts = [token(n=number) for number in range(3)]
    for text in texts:
        subject.verify(text, NOW)
    assert [token_hash(text) for text in texts[1:]] == list(subject._verified)


def test_remembered_headers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever signs may write a new one each time."""
    monkeypatch.setattr(tokens, "MAX_HEADERS", 2)
    subject = verifier()
    for number in range(5):
        assert isinstance(subject.verify(with_header(kid=str(number)), NOW), Identity)
    assert len(subject._headers) <= 2


LITERALS = (
    *("1000000", "999999", "1000001", "1000000.5", "999999.5", "999995", "1000005", "1e6", "-1", "-1e300"),
    *("1e400", "9" * 400, "true", "null", '"1000001"', "[1]", "{}", '"a"', '["a"]', '["a", 1]', '"A"'),
    *('"a "', '[["a"]]', '{"a": 1}', '"42"', "42"),
)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat", "iss", "aud", "sub"])
def test_whatever_is_taken_pyjwt_takes_too(name: str) -> None:
    """Times, issuer and audience of any type, a member twice: nothing is good here that is not good there."""
    taken = 0
    for literal, leeway, party in itertools.product(LITERALS, (0, 5), (None, "a")):
        text = signed(f'{{"sub":"42","iss":"a","aud":"a","{name}":{literal}}}'.encode())
        proven = verifier(issuer=party, audience=party, leeway=float(leeway)).verify(text, NOW)
        if isinstance(proven, Identity):
            taken += 1
            checks = {"verify_sub": False, "verify_aud": party is not None}
            with mock.patch("jwt.api_jwt.datetime", Then):
                assert jwt.decode(
                    text, SECRET, ["HS256"], checks, issuer=party, audience=party, leeway=leeway
                )
    assert taken


class Then(datetime):
    """The clock that PyJWT reads itself."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Then:
        """The moment of all tests here."""
        return cls.fromtimestamp(NOW, tz)


PARTS = st.binary(max_size=40).map(b64) | st.sampled_from(token().split(".")) | st.text(max_size=10)


@given(st.lists(PARTS, max_size=5).map(".".join))
def test_nothing_makes_the_verifier_raise(text: str) -> None:
    """Whatever comes is good or is rejected, and only what was signed is good."""
    result = verifier().verify(text, NOW)
    assert (text == token()) == isinstance(result, Identity)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud"]), JSON),
    st.dictionaries(st.sampled_from(["crit", "b64", "kid", "typ", "zip", "enc"]), JSON),
)
def test_no_signed_claim_makes_the_verifier_raise(claims: dict[str, Any], header: dict[str, Any]) -> None:
    """A service that signs nonsense gets a rejection, or a user id fit for a key."""
    text = signed(json.dumps(claims).encode(), {"alg": "HS256", **header})
    result = verifier(issuer=None, audience="a").verify(text, NOW)
    assert isinstance(result, Rejected) or result.user_id
