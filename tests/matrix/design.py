"""What the contract says of a cell, worked out from its sentences about `access`, and from nothing else.

The table next to this was written down from what the proxy does. This says what it must do, so that the table
can't turn a mistake into an expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

# "A token that is provably bad (signature, exp, nbf, iss, aud, algorithm, revoked, user gone or inactive)":
# by itself, whatever is stored.
BAD = frozenset({"expired", "not-yet", "wrong-key", "wrong-alg", "alg-none", "revoked", "garbage"})
# The same, once it is known what became of the user.
BAD_BY_USER = frozenset({"inactive", "deleted"})
# Nobody here can tell: upstream decides.
UNTOLD = frozenset({"none", "unknown-kid"})
GOOD = frozenset({"good", "other", "admin"})
# Who may be given the shared copy of the first user, apart from `anyone`.
SHARED = {
    "anyone": GOOD | BAD | BAD_BY_USER | UNTOLD,
    "token": GOOD,
    "owner": frozenset({"good"}),
    "allow": frozenset({"good", "admin"}),
    # Without `access` a request with credentials has no part in it.
    "unset": frozenset({"none"}),
    "caller": frozenset(),
}


@dataclass(frozen=True)
class Said:
    """`hit`: it must be answered from here, must not be, or (None) either; `refused`: the same for a 401."""

    hit: bool | None
    refused: bool | None = False


def said(access: str, credential: str, state: str) -> Said:
    """What a cell must be like."""
    if access in ("view", "upstream"):
        return _introspection(access, credential, state)
    if access in ("rfc7662", "post-rfc7662", "post-upstream", "post-view", "stranger"):
        return _asking(access, credential, state)
    if credential in BAD | BAD_BY_USER and access != "anyone":
        # "On a look-up the proxy never says no by itself", and a bad token opens nothing.
        return Said(hit=False)
    if access == "caller":
        # "A separate copy per caller"; who can't be told apart has none, and none at all is one caller.
        entitled = credential in GOOD or credential == "none"
    else:
        entitled = credential in SHARED[access]
    return Said(hit=_from_here(state) if entitled else False)


def _introspection(access: str, credential: str, state: str) -> Said:
    if credential in BAD:
        return Said(hit=False, refused=True)
    if credential in BAD_BY_USER:
        # Known from a copy of the user, or from upstream's own answer: a body shows that he is inactive.
        # A 404 shows that there is no such user where the answer is the user; an answer about a token may
        # say anything by it.
        return Said(hit=False, refused=credential == "inactive" or access == "view" or state != "cold")
    if credential in UNTOLD:
        return Said(hit=False)
    # Only the first user is fenced: nothing said of the others has changed.
    fenced = state == "fenced" and credential == "good"
    return Said(hit=_from_here("fenced" if fenced else "warm" if state == "fenced" else state))


def _asking(access: str, credential: str, state: str) -> Said:
    """`refused`: called inactive from here. Only who was answered by the service is answered from here, and
    how a service says no where its answer is a user, only the service knows."""
    if access in ("stranger", "post-view") and credential not in GOOD:
        return Said(hit=False)
    if access.startswith("post-") and credential == "garbage":
        # Not among the reasons that the contract lists, and tokens of other kinds are asked about by POST.
        return Said(hit=False)
    if credential in BAD:
        return Said(hit=False, refused=True)
    if credential in BAD_BY_USER:
        # Known from a copy of the user, where there is one that may be used.
        return Said(hit=False, refused={"cold": False, "down": None}.get(state, True))
    if access == "stranger" or credential in UNTOLD:
        return Said(hit=False)
    fenced = state == "fenced" and credential == "good"
    return Said(hit=_from_here("fenced" if fenced else "warm" if state == "fenced" else state))


def _from_here(state: str) -> bool | None:
    """Whether one who may have a copy is answered with it. "Fenced: no hits, no fills."; without Redis memory
    may answer for a while, or not where a logout elsewhere could not be known."""
    return {"cold": False, "warm": True, "fenced": False, "down": None}[state]
