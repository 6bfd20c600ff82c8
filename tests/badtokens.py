"""Tokens that are provably bad, by what is wrong with them."""

from __future__ import annotations

import jwt

from tests.walk import SECRET, token_for

CLAIMS = {"sub": "5", "exp": 4_000_000_000}
BAD_TOKENS = {
    "expired": token_for(5, exp=1),
    "not yet valid": token_for(5, nbf=3_900_000_000),
    "wrong key": jwt.encode(CLAIMS, "another-secret-that-is-long-enough-1234"),
    "wrong algorithm": jwt.encode(CLAIMS, SECRET * 2, algorithm="HS512"),
    "none": jwt.encode(CLAIMS, None, algorithm="none"),
    "garbage": "not-a-token",
    "no subject": jwt.encode({"exp": 4_000_000_000}, SECRET),
}
