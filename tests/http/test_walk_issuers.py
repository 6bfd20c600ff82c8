"""Two issuers with a key server each, through the whole proxy."""

from __future__ import annotations

from pathlib import Path

from proxy.core.model import Reason
from tests.http.test_walk_keys import rotating, token_of, trusting, until
from tests.keys import jwk, jwks
from tests.walk import bench

ROUTES = """version: 1
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 300s}}
tokens:
  - {issuer: a, jwks_url: "%s"}
  - {issuer: b, jwks_url: "%s"}
routes:
  - {match: "GET /auth/me", introspect: {answer: view, view: users}}
"""


async def test_only_the_keys_of_its_issuer_prove_a_token(tmp_path: Path) -> None:
    """Both know the kid; a token of the one that the other signed is refused here."""
    async with rotating() as a, rotating() as b_keys:
        a.answer = (200, jwks(jwk("rsa-a", "k")))
        b_keys.answer = (200, jwks(jwk("rsa-b", "k")))
        async with bench(routes=ROUTES % (a.url, b_keys.url), tmp_path=tmp_path, upstream=trusting()) as b:
            good = [token_of(f"rsa-{name}", kid="k", iss=name, iat=1) for name in "ab"]
            for token in good:
                await until(
                    lambda token=token: b.get("/auth/me", token=token), lambda one: one.x_cache == "HIT"
                )
            hits = [await b.get("/auth/me", token=token) for token in good]
            crossed = [
                await b.get("/auth/me", token=token_of("rsa-b", kid="k", iss="a", iat=1)),
                await b.get("/auth/me", token=token_of("rsa-a", kid="k", iss="b", iat=1)),
                await b.get("/auth/me", token=token_of("rsa-a", kid="k", iss="c", iat=1)),
            ]

    reasons = (Reason.TOKEN_SIGNATURE, Reason.TOKEN_SIGNATURE, Reason.TOKEN_ISSUER)
    assert [(200, "HIT")] * 2 == [(one.status, one.x_cache) for one in hits]
    assert [401] * 3 == [one.status for one in crossed]
    for one, reason in zip(crossed, reasons, strict=True):
        assert f"detail={reason}" in one.cache_status
    assert [1, 1] == [a.fetches, b_keys.fetches]
