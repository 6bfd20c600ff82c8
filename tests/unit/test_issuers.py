"""Several issuers: `iss` chooses the block, and no other block's key can prove the token."""

# A mistake stands here as one line, as it is told.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable

import jwt
import pytest
from msgspec.structs import replace

from proxy.config import parse, warnings
from proxy.core.errors import ConfigError
from proxy.core.headers import Headers
from proxy.core.identity import Identity, Proven, Rejected, Unproven
from proxy.core.issuers import Issuers, prover, together
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import jwks_keys
from proxy.core.tokens import MAX_TOKEN, MAX_VERIFIED, Verifier
from proxy.jwks import KeyServer, KeyServers
from tests.keys import jwk, jwks, pem, private, token

NOW = 1_000_000.0
SECRET = "c" * 64
A = TokenSettings(public_key=pem("rsa-a").decode(), algorithms=("RS256",), issuer="a", audience="users")
B = TokenSettings(public_key=pem("rsa-b").decode(), algorithms=("RS256",), issuer="b", leeway=30.0)
C = TokenSettings(secret=SECRET, issuer="c", subject=("user", "id"))


def three() -> Issuers:
    """Two with RSA keys, one with a secret."""
    made = prover(together((A, B, C)), lambda _: None)
    assert isinstance(made, Issuers)
    return made


def signed(key: str, **claims: object) -> str:
    """A token of user 42 by that RSA key."""
    return token(key, "RS256", **claims)


def secret(key: str | bytes = SECRET, **claims: object) -> str:
    """A token by a secret, whatever the secret is: PyJWT refuses to sign with a public key."""
    jws = jwt.PyJWS()
    jws.unregister_algorithm("HS256")
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    algorithm.prepare_key = lambda given: given if isinstance(given, bytes) else given.encode()  # type: ignore[method-assign,assignment]
    jws.register_algorithm("HS256", algorithm)
    return jws.encode(jwt.utils.force_bytes(jwt.api_jwt.json.dumps(claims)), key, "HS256")


def why(proven: Proven) -> object:
    """The user of a good token, or the reason why it is not good."""
    return proven.user_id if isinstance(proven, Identity) else proven.reason


def test_each_issuer_proves_its_own() -> None:
    """With its key, its audience, its claim of the subject; and again, remembered."""
    issuers = three()
    tokens = [
        signed("rsa-a", iss="a", aud="users"),
        signed("rsa-b", iss="b"),
        secret(iss="c", user={"id": "42"}, sub="7"),
    ]

    assert ["42"] * 6 == [why(issuers.verify(one, NOW)) for one in tokens * 2]
    for one, issuer in zip(tokens, "abc", strict=True):
        identity = issuers.verify(one, NOW)
        assert isinstance(identity, Identity)
        assert issuer == issuers.of(identity)._settings.issuer


CROSSED = {
    "a token of a with b's key": (signed("rsa-b", iss="a", aud="users"), Reason.TOKEN_SIGNATURE),
    "a token of b with a's key": (signed("rsa-a", iss="b", aud="users"), Reason.TOKEN_SIGNATURE),
    "a token of a with c's secret": (secret(iss="a", aud="users", sub="42"), Reason.TOKEN_ALGORITHM),
    "a token of c with a's key": (signed("rsa-a", iss="c", user={"id": "42"}), Reason.TOKEN_ALGORITHM),
    "a's public key as a secret": (
        secret(pem("rsa-a"), iss="a", aud="users", sub="42"),
        Reason.TOKEN_ALGORITHM,
    ),
    "a's public key as c's secret": (
        secret(pem("rsa-a"), iss="c", user={"id": "42"}),
        Reason.TOKEN_SIGNATURE,
    ),
    "another secret": (secret("d" * 64, iss="c", user={"id": "42"}), Reason.TOKEN_SIGNATURE),
    "b's audience is not a's": (signed("rsa-a", iss="a"), Reason.TOKEN_AUDIENCE),
    "the subject of another block": (secret(iss="c", sub="42"), Reason.TOKEN_SUBJECT),
    "no issuer": (signed("rsa-a", aud="users"), Reason.TOKEN_ISSUER),
    "an issuer not listed": (signed("rsa-a", iss="d", aud="users"), Reason.TOKEN_ISSUER),
    "issuers in a list": (secret(iss=["a", "c"]), Reason.TOKEN_ISSUER),
    "an issuer spelt otherwise": (signed("rsa-a", iss="A", aud="users"), Reason.TOKEN_ISSUER),
    "no token at all": ("x.y", Reason.TOKEN_MALFORMED),
    "claims that are none": ("e30.W10.e30", Reason.TOKEN_MALFORMED),
    "a huge one": ("a" * (MAX_TOKEN + 1), Reason.TOKEN_MALFORMED),
    "nobody signed it": (jwt.encode({"iss": "a"}, None, algorithm="none"), Reason.TOKEN_MALFORMED),
    "nobody signed it, and it says so": (
        jwt.encode({"iss": "a"}, None, algorithm="none") + "x",
        Reason.TOKEN_ALGORITHM,
    ),
}


@pytest.mark.parametrize(("sent", "reason"), CROSSED.values(), ids=CROSSED)
def test_no_key_proves_for_another_issuer(sent: str, reason: Reason) -> None:
    """Bad, twice: neither the verdict nor the choice of the block is turned by asking again."""
    issuers = three()
    for good in (signed("rsa-a", iss="a", aud="users"), signed("rsa-b", iss="b")):
        assert "42" == why(issuers.verify(good, NOW))

    assert [reason, reason] == [why(issuers.verify(sent, NOW)) for _ in range(2)]


def test_of_two_iss_the_proven_one_counts() -> None:
    """Which of two `iss` is read first makes no difference: the same reading is proven."""
    payload = b'{"iss":"a","iss":"b","sub":"42","aud":"users"}'
    for key, expected in (("rsa-a", Reason.TOKEN_SIGNATURE), ("rsa-b", "42")):
        sent = jwt.PyJWS().encode(payload, private(key), "RS256")
        assert expected == why(three().verify(sent, NOW))


def test_each_has_its_own_leeway() -> None:
    """And what is kept for the life of a token is kept for the longest."""
    issuers = three()
    ended = NOW - 10

    assert Reason.TOKEN_EXPIRED == why(issuers.verify(signed("rsa-a", iss="a", aud="users", exp=ended), NOW))
    assert "42" == why(issuers.verify(signed("rsa-b", iss="b", exp=ended), NOW))
    assert 30.0 == together((A, B, C)).leeway


def test_keys_are_fetched_for_one_issuer() -> None:
    """Without its keys an issuer's tokens are unproven, though the same key is there for another."""
    asked: list[int] = []
    sets = tuple(TokenSettings(jwks_url=f"http://{n}", algorithms=("RS256",), issuer=n) for n in "ab")
    issuers = prover(together(sets), asked.append)
    tokens = [token("rsa-a", "RS256", kid="k", iss=n, iat=1) for n in "ab"]
    assert [Unproven(), Unproven(), Unproven()] == [issuers.verify(one, NOW) for one in (*tokens, "x")]

    issuers.users()[0](replace(jwks_keys(jwks(jwk("rsa-a", "k"))), as_of=NOW))
    assert ["42", Unproven().reason] == [why(issuers.verify(one, NOW)) for one in tokens]
    assert Rejected(Reason.TOKEN_MALFORMED) == issuers.verify("x", NOW)

    issuers.users()[1](replace(jwks_keys(jwks(jwk("rsa-b", "k"))), as_of=NOW))
    assert ["42", Reason.TOKEN_SIGNATURE] == [why(issuers.verify(one, NOW)) for one in tokens]
    issuers.verify(token("rsa-c", "RS256", kid="new", iss="b", iat=NOW), NOW)
    assert [1] == asked


def test_new_keys_of_one_end_only_its_tokens() -> None:
    """What an offer holds on to is the block of its own token."""
    sets = tuple(TokenSettings(jwks_url=f"http://{n}", algorithms=("RS256",), issuer=n) for n in "ab")
    issuers = prover(together(sets), lambda _: None)
    use_a, use_b = issuers.users()
    for use, name in ((use_a, "rsa-a"), (use_b, "rsa-b")):
        use(replace(jwks_keys(jwks(jwk(name, "k"))), as_of=NOW, dead=NOW + 10))
    of_a, of_b = (issuers.verify(token(f"rsa-{n}", "RS256", kid="k", iss=n), NOW) for n in "ab")
    assert isinstance(of_a, Identity)
    assert isinstance(of_b, Identity)
    use_a(replace(jwks_keys(jwks(jwk("rsa-c", "k"))), as_of=NOW, dead=NOW + 99))

    assert (2, 1) == (issuers.of(of_a).generation, issuers.of(of_b).generation)
    assert (True, False) == tuple(issuers.of(one).has_keys(NOW + 50) for one in (of_a, of_b))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest choice goes first."""
    monkeypatch.setattr("proxy.core.issuers.MAX_VERIFIED", 3)
    issuers = three()
    for number in range(5):
        issuers.verify(secret(iss="c", user={"id": number}), NOW)

    assert MAX_VERIFIED > 3 == len(issuers._chosen)
    # Nor do bad ones push out good ones.
    chosen = dict(issuers._chosen)
    issuers.verify(secret(iss="c", user={"id": 1}, exp=1), NOW)
    assert chosen == issuers._chosen


def test_several_hold_no_key_themselves() -> None:
    """So nobody can make a verifier of them that takes any issuer."""
    with pytest.raises(ConfigError):
        Verifier(together((A, C)))
    with pytest.raises(ValueError, match="own name"):
        prover(together((A, replace_issuer(B, "a"))), lambda _: None)
    assert SECRET not in repr(together((A, C)))


def replace_issuer(settings: TokenSettings, issuer: str) -> TokenSettings:
    """The same under another name."""
    return TokenSettings(public_key=settings.public_key, algorithms=settings.algorithms, issuer=issuer)


FILES = {"a.pem": pem("rsa-a"), "b.pem": pem("rsa-b"), "ab.pem": pem("rsa-a") + pem("rsa-b")}
ENVIRONMENT = {"ONE": "1" * 64, "SAME": "1" * 64, "TWO": "2" * 64, "WEAK": "w"}


def settings_of(blocks: str) -> TokenSettings:
    """What a list of blocks amounts to."""
    found = parse(
        f"version: 1\ntokens:\n{blocks}\n".encode(), "r.yaml", ENVIRONMENT, read_file=FILES.__getitem__
    )
    assert found.tokens is not None
    return found.tokens


def test_a_list_is_read() -> None:
    """Each block with what is its own; a list of one is that one."""
    several = settings_of(
        "  - {issuer: a, public_key_file: a.pem, audience: users}\n"
        "  - {issuer: b, jwks_url: 'https://b/keys', algorithms: [ES256], leeway: 5s, subject: user.id}\n"
        "  - {issuer: c, secret_env: ONE}"
    )
    told = [(one.issuer, one.algorithms, one.audience, one.leeway, one.subject) for one in several.issuers]
    one = settings_of("  - {issuer: c, secret_env: ONE}")

    assert [
        ("a", ("RS256", "ES256"), "users", 0.0, ("sub",)),
        ("b", ("ES256",), None, 5.0, ("user", "id")),
        ("c", ("HS256",), None, 0.0, ("sub",)),
    ] == told
    assert ("c", "1" * 64, ()) == (one.issuer, one.secret, one.issuers)


MISTAKES = {
    "  []": ["r.yaml:3: tokens: is empty; give a block for each issuer, or leave it out"],
    "  - {secret_env: ONE}": [
        "r.yaml:3: tokens[0].issuer: is required in a list; give what `iss` says in its tokens"
    ],
    "  - {secret_env: ONE, issuer: null}": [
        "r.yaml:3: tokens[0].issuer: is required in a list; give what `iss` says in its tokens"
    ],
    "  - {issuer: a, secret_env: ONE}\n  - {issuer: a, secret_env: TWO}": [
        "r.yaml:4: tokens[1].issuer: 'a' is that of line 3 as well; give each issuer one block"
    ],
    "  - {issuer: a, secret_env: ONE}\n  - {issuer: b, secret_env: SAME}": [
        "r.yaml:4: tokens[1]: has a key of tokens[0], so each could sign as the other; give every issuer its own keys"
    ],
    "  - {issuer: a, public_key_file: a.pem}\n  - {issuer: b, public_key_file: ab.pem}": [
        "r.yaml:4: tokens[1]: has a key of tokens[0], so each could sign as the other; give every issuer its own keys"
    ],
    "  - {issuer: a, jwks_url: 'http://k'}\n  - {issuer: b, jwks_url: 'http://k'}": [
        "r.yaml:4: tokens[1]: has a key of tokens[0], so each could sign as the other; give every issuer its own keys"
    ],
    "  - {issuer: a, secret_env: NONE}": [
        "NONE: is not set, and the tokens block (r.yaml:3) needs it; set it, or delete the tokens block"
    ],
    "  - 5\n  - {issuer: b, isuer: b, secret_env: ONE}": [
        "r.yaml:3: tokens[0]: must be a mapping, not '5'",
        "r.yaml:4: tokens[1].isuer: unknown key; did you mean 'issuer'?",
    ],
}


@pytest.mark.parametrize(("blocks", "expected"), MISTAKES.items())
def test_mistakes_are_told(blocks: str, expected: list[str]) -> None:
    """With the line and the number of the block."""
    with pytest.raises(ConfigError) as caught:
        settings_of(blocks)

    assert expected == [one for one in caught.value.mistakes if not one.startswith("JWT_SECRET")]


def test_a_weak_secret_of_one_is_told() -> None:
    """By the number of its block."""
    routes = "tokens: [{issuer: a, secret_env: ONE}, {issuer: b, secret_env: WEAK}]"
    found = warnings(parse(f"version: 1\n{routes}\n".encode(), "r.yaml", ENVIRONMENT))

    assert ("tokens[1]: the secret is shorter than 32 bytes and can be guessed; use a longer one",) == found


async def test_operators_see_all_key_servers() -> None:
    """Ready when each had a key; one health each, fetches together."""
    answers: dict[str, Callable[[], bytes]] = {"a": lambda: jwks(jwk("rsa-a", "k")), "b": lambda: b"no"}

    def server(name: str) -> KeyServer:
        async def fetch() -> tuple[int, object, bytes]:
            return 200, Headers(), answers[name]()

        return KeyServer(fetch, lambda _: None)  # type: ignore[arg-type]

    each = {name: server(name) for name in answers}
    servers = KeyServers(each)
    for one in each.values():
        await one.refresh()
    before = (servers.ready, servers.health()["status"], servers.counters())
    answers["b"] = lambda: jwks(jwk("rsa-b", "k"))
    await each["b"].refresh()

    assert (False, "no keys yet", {"ok": 1, "failed": 1}) == before
    assert (True, {"ok": 2, "failed": 1}) == (servers.ready, servers.counters())
    assert ["ok", "ok"] == [one["status"] for one in servers.health()["issuers"].values()]
