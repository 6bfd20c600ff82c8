"""Who is asking, and may they have the shared copy? (design §4, access)

A good token of an active user opens a `token` route. The user's state comes from the cache: the stored
user, or the note that upstream accepted one of this user's tokens on this very route a moment ago: another
route may ask for more. Both go when the user is written, so a deactivation takes the caller's access with it.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from proxy.core.access import Denied, allow
from proxy.core.claims import claimed_subject
from proxy.core.credentials import fingerprint, has_credentials
from proxy.core.granted import holds, lacking
from proxy.core.identity import good_ref as noted_at
from proxy.core.issuers import blocks_of
from proxy.core.keys import token_names
from proxy.core.model import Absent, Entry, Found, Reason, Ref
from proxy.core.settings import Access
from proxy.core.tokenplace import Carried, token_of
from proxy.core.tokens import Identity, Rejected, Unproven, is_time, stands_for, token_hash, unproven_claims
from proxy.steps.exchange import Exchange

# What a token is bad by, whose user is known.
BAD_USER = (Reason.USER_GONE, Reason.USER_INACTIVE)
NOBODY = "nobody"  # whoever says nothing of themselves
YEAR = 366 * 86400.0
_VOUCHED = "+vouched:"  # no view can be called that


class Caller(msgspec.Struct, frozen=True):
    """`denied` is None where the caller may have the shared copy.

    `note`: upstream is about to judge the token, and its acceptance is worth remembering there. `owner`: only
    this user's copy may be had. `copy` names a copy of this caller's own, which is `private` where anything
    said who is asking, and ends with the token at `exp`.
    """

    denied: Reason | None
    guarded: bool = False
    note: Ref | None = None
    owner: str | None = None
    copy: str = ""
    private: bool = False
    exp: float | None = None

    def slot(self, view: str) -> str:
        """Where the copy that this caller may have is kept."""
        return f"{view}#{self.copy}" if self.copy else view


def carried(x: Exchange) -> Carried:
    """The token of the request, from where the settings say it is."""
    return token_of(x.request, x.services.settings.token_from) if x.token is None else x.token


def identify(x: Exchange) -> Identity | Rejected | Unproven | None:
    """The caller by their bearer token; None where there is none, or no `tokens` block to prove it with."""
    return proven(x, carried(x))


def proven(x: Exchange, token: Carried) -> Identity | Rejected | Unproven | None:
    """Whose token this is; None as above."""
    verifier, now = x.services.verifier, x.services.now()
    if verifier is None or token is None:
        return None
    if isinstance(token, Unproven):
        return token
    if isinstance(token, Rejected):
        # Without any key, nobody is refused here.
        return token if verifier.has_keys(now) else Unproven()
    return verifier.verify(token, now)


def own_copy(x: Exchange) -> str:
    """Stands for the caller by their credentials; an HMAC where the settings hash keys."""
    settings = x.services.settings
    secret = next(iter(settings.user.hash_keys), b"")
    return fingerprint(x.request.headers, settings.credential_headers, secret=secret)


def opaque_names(x: Exchange, token: Carried) -> list[tuple[str, str]] | Reason:
    """The aliases that stand for a token where tokens mean nothing here; the first is set now, and writes
    name the others too (see core.keys.token_names)."""
    if token is None:
        return Reason.TOKEN_MISSING
    if isinstance(token, Rejected | Unproven):
        return token.reason
    return [("token", name) for name in token_names(x.services.settings.user, token_hash(token))]


def opaque_name(x: Exchange) -> tuple[str, str] | Reason:
    """The first of those of the caller's token."""
    names = opaque_names(x, carried(x))
    return names if isinstance(names, Reason) else names[0]


def ending(x: Exchange, token: Carried) -> Identity | None:
    """A token that a logout ends: one that is provably bad has ended already.

    Where no key is known here, its own word is taken: nothing but dropping comes of it, and another replica
    may have the key.
    """
    identity = proven(x, token)
    if not isinstance(identity, Unproven):
        return identity if isinstance(identity, Identity) else None
    tokens = x.services.settings.tokens
    if not isinstance(token, str) or tokens is None:
        return None
    claims = unproven_claims(token) or {}
    paths = [one.subject for one in blocks_of(tokens) if one.issuer in (None, claims.get("iss"))]
    subject = claimed_subject(token, paths[0]) if paths else None
    if subject is None:
        return None
    exp = claims.get("exp")
    return Identity(subject, {}, float(exp) if is_time(exp) else None, stands_for(token))


def until(x: Exchange, identity: Identity) -> float:
    """When a token ends for good, a year from now at the latest."""
    latest, tokens = x.services.now() + YEAR, x.services.settings.tokens
    leeway = 0.0 if tokens is None else tokens.leeway
    return latest if identity.exp is None else min(identity.exp + leeway, latest)


async def token_state(x: Exchange, identity: Identity) -> Reason | None:
    """None where nobody has made this token bad, see Store.token_state.

    By itself it is good for `token_life` at most: nobody remembers for longer that its user's were revoked.
    """
    issued, last = made(identity), until(x, identity)
    if issued is not None:
        last = min(last, issued + x.services.settings.revoking.token_life)
    return await x.services.cache.token_state(identity.user_id, identity.token_hash, last, issued)


def made(identity: Identity) -> float | None:
    """When the token says that it was made."""
    issued = identity.claims.get("iat")
    return float(issued) if is_time(issued) else None


async def admitted(x: Exchange) -> Caller:
    """Applies the route's access rule to this caller.

    `guarded`: the careful default met credentials, so only what RFC 9111 §3.5 allows may be shared.
    """
    route, more = x.route, x.services.settings.credential_headers
    access = route.access
    if access is Access.ANYONE:
        return Caller(None)
    identity = None if access is Access.UNSET else identify(x)
    credentials = has_credentials(x.request.headers, more)
    verdict = allow(access, has_credentials=credentials, identity=identity)
    if isinstance(verdict, Denied):
        if access is Access.UNSET:
            return Caller(None, guarded=True)
        return Caller(verdict.reason)
    copy = own_copy(x) or NOBODY if access is Access.CALLER else ""
    if not isinstance(identity, Identity):
        return Caller(None, copy=copy, private=credentials)
    lacks = lacking(route.require, identity.claims)
    if lacks is not None:
        return Caller(lacks)
    owner = None
    if access is Access.OWNER and not (route.allow is not None and holds(route.allow, identity.claims)):
        owner = identity.user_id
    caller = await judged(x, identity)
    exp = identity.exp if copy else None
    return replace(caller, owner=owner, copy=copy, private=bool(copy), exp=exp)


async def judged(x: Exchange, identity: Identity) -> Caller:
    """Whether a good token is still somebody's: not logged out, and of an active user."""
    state = await token_state(x, identity)
    if state in (Reason.STORE_DOWN, Reason.TOKEN_OUTDATED):
        # Without Redis nobody here knows of all logouts, and of a token of before a new password nobody can
        # tell: upstream is asked once, and its word is kept.
        note = vouch_ref(x, identity, token=True)
        if await _fresh(x, note) is None:
            return Caller(state, note=note)
    elif state is not None:
        return Caller(state)
    state = await user_state(x, identity)
    return Caller(state, note=vouch_ref(x, identity) if state is Reason.TOKEN_USER_UNKNOWN else None)


async def user_state(x: Exchange, identity: Identity) -> Reason | None:
    """None for a user known to be active, else why the token can't be called good from here."""
    own, vouched = Ref("id", identity.user_id, x.services.user_view), vouch_ref(x, identity)
    # What memory says is said without a question to Redis.
    for ref in (vouched, own) if x.services.cache.hold(own) is None else (own, vouched):
        found = await _fresh(x, ref)
        state = Reason.TOKEN_USER_UNKNOWN if found is None else entry_state(x, found)
        if state is not Reason.TOKEN_USER_UNKNOWN:
            return state
    return Reason.TOKEN_USER_UNKNOWN


async def _fresh(x: Exchange, ref: Ref) -> Found | None:
    looked = await x.services.cache.get(ref)
    return None if isinstance(looked, Absent) or looked.entry.expires <= x.services.now() else looked


def entry_state(x: Exchange, found: Found) -> Reason | None:
    """What a stored answer about a user says of their tokens."""
    entry = found.entry
    if entry.status == 404:
        return Reason.USER_GONE
    if entry.active is False:
        return Reason.USER_INACTIVE
    if entry.active is None and x.services.settings.user.active is not None:
        return Reason.TOKEN_USER_UNKNOWN
    return None


def vouch_ref(x: Exchange, identity: Identity, *, token: bool = False) -> Ref:
    """Where the note is kept that upstream accepted a token of this user on this route; `token`: this one.

    Of a look-up the service may ask less than of another, so the word is no other route's.
    """
    name = f"{_VOUCHED}{x.route.name}"
    return Ref("id", identity.user_id, f"{name}#{identity.token_hash}" if token else name)


def good_ref(identity: Identity) -> Ref:
    """Where the note is kept that this token was logged out by nobody."""
    return noted_at(identity.user_id, identity.token_hash)


def vouch(x: Exchange, note: Ref, status: int, ttl: float) -> Entry | None:
    """What the note says for `ttl` seconds, if upstream's status shows that it accepted the token.

    A 404 does not: services say it of a token's own user as well. Nor does the answer to a HEAD, which shows
    nothing.
    """
    if status != 200 or ttl <= 0 or x.request.method == "HEAD":
        return None
    now = x.services.now()
    return Entry(user_id=note.value, active=True, status=204, stored=now, expires=now + ttl, dead=now + ttl)
