"""Introspection: is this token good, and who is its user? Bad tokens cost upstream nothing (design §4)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.core.admission import Verdict, parse
from proxy.core.errors import InvalidToken
from proxy.core.granted import lacking
from proxy.core.keys import dig, truth
from proxy.core.model import Found, Reason, Ref, Reply
from proxy.core.settings import Answer, Introspect, View
from proxy.core.tokens import Identity, Rejected, Unproven
from proxy.steps import body as bodies
from proxy.steps.callers import (
    BAD_USER,
    Caller,
    carried,
    entry_state,
    good_ref,
    identify,
    opaque_name,
    token_state,
    user_state,
)
from proxy.steps.described import described, inactive
from proxy.steps.exchange import Exchange
from proxy.steps.lookup import Plan, answer, rules_of
from proxy.steps.passing import bypass, vouched_bypass
from proxy.steps.posted import posted


async def introspect(x: Exchange, action: Introspect) -> Reply:
    """Answers about the caller's token.

    One that is provably bad, by itself, or because its user is gone or inactive, is refused: an RFC 7662
    answer says so, else InvalidToken is raised.
    """
    view = x.services.settings.views[action.view]
    x.outcome.view = view.name
    if action.form:
        return await posted(x, action)
    if action.opaque:
        return await opaque(x, action)
    identity = identify(x)
    if isinstance(identity, Rejected):
        return _refused(x, action, identity.reason)
    if isinstance(identity, Unproven):
        return await bypass(x, identity.reason)
    if identity is None:
        return await bypass(x, Reason.TOKEN_MISSING)
    fault = await _fault(x, identity)
    if fault is Reason.TOKEN_REVOKED:
        return _refused(x, action, fault)
    if fault in (Reason.TOKEN_SCOPE, Reason.TOKEN_CLAIM):
        # Not bad, but not enough: what that means is upstream's to say.
        return await bypass(x, fault)
    if fault is not None:
        # Its logout is under way, or Redis is away and with it the word of other replicas' logouts.
        return await _asked(x, action, identity, fault)
    if action.answer is Answer.VIEW:
        return await _told(x, action, _of_user(x, view, identity), gone=True)
    if action.answer is Answer.RFC7662:
        return await described(x, action, view, identity)
    state = await user_state(x, identity)
    if state in BAD_USER:
        raise _refusal(x, state)
    ref = Ref("id", identity.user_id, f"{view.name}#{identity.token_hash}")
    rules = rules_of(x, view, Caller(None), per_token=True, exp=identity.exp, sent=_sent(x))
    return await _told(x, action, Plan(ref, view, rules, Caller(None)), gone=False)


async def planned(x: Exchange, action: Introspect) -> Plan | Reason:
    """How a good token is told about that needs but a copy of its user; a reason for all else."""
    identity = identify(x)
    if not isinstance(identity, Identity) or action.answer is not Answer.VIEW:
        return Reason.TOKEN_USER_UNKNOWN
    fault = await _fault(x, identity)
    return _of_user(x, x.services.settings.views[action.view], identity) if fault is None else fault


async def _fault(x: Exchange, identity: Identity) -> Reason | None:
    """What keeps a token that proves itself from being told about."""
    lacks = lacking(x.route.require, identity.claims)
    return await token_state(x, identity) if lacks is None else lacks


def _of_user(x: Exchange, view: View, identity: Identity) -> Plan:
    ref, rules = Ref("id", identity.user_id, view.name), rules_of(x, view, Caller(None))
    return Plan(ref, view, rules, Caller(None), usable=lambda found: _proven(x, found))


async def _told(x: Exchange, action: Introspect, plan: Plan, *, gone: bool) -> Reply:
    """The answer, unless it is the one from which the user is found to be inactive, or (`gone`) not there."""
    found: list[Reason | None] = []

    def loaded(status: int, verdict: Verdict) -> None:
        found.append(_shown(x, status, verdict.document, gone=gone))

    reply = await answer(x, replace(plan, loaded=loaded))
    return await _unless_bad(x, action, reply, next(iter(found), None))


async def _asked(x: Exchange, action: Introspect, identity: Identity, why: Reason) -> Reply:
    """Upstream's word, kept for this token, where nobody here can tell whether it was made bad."""
    view = x.services.settings.views[action.view]
    # The answer to a HEAD would not show it.
    asking = replace(x, request=replace(x.request, method="GET"))
    reply = await vouched_bypass(asking, good_ref(identity), view.ttl, why)
    document = parse(reply.body) if isinstance(reply.body, bytes) and reply.body else None
    shown = _shown(x, reply.status, document, gone=action.answer is Answer.VIEW)
    return await _unless_bad(x, action, reply, shown)


def _shown(x: Exchange, status: int, document: Any, *, gone: bool) -> Reason | None:
    """What upstream's answer about a token says of its user."""
    path = x.services.settings.user.active
    if status == 404 and gone:
        return Reason.USER_GONE
    inactive = status == 200 and path is not None and truth(dig(document, path)) is False
    return Reason.USER_INACTIVE if inactive else None


async def _unless_bad(x: Exchange, action: Introspect, reply: Reply, bad: Reason | None) -> Reply:
    if bad is None:
        return reply
    await bodies.close(reply.body)
    # That it was not stored either is no news.
    x.outcome.skipped = None
    return _refused(x, action, bad)


async def opaque(x: Exchange, action: Introspect) -> Reply:
    """Answers about a token that means nothing here: upstream's word on it, kept with the user it names."""
    ref = opaque_ref(x, action)
    if isinstance(ref, Reason):
        return await bypass(x, ref)
    view = x.services.settings.views[action.view]
    rules = rules_of(x, view, Caller(None), per_token=True, opaque=action.opaque, sent=_sent(x))
    return await answer(x, Plan(ref, view, rules, Caller(None)))


def _sent(x: Exchange) -> tuple[str, ...]:
    token = carried(x)
    return (token,) if isinstance(token, str) else ()


def opaque_ref(x: Exchange, action: Introspect) -> Ref | Reason:
    """Where the answer about the caller's opaque token is kept; a reason where there is no token."""
    if x.services.settings.tokens is not None:
        return Reason.TOKEN_KEYS_MISSING
    name = opaque_name(x)
    if isinstance(name, Reason):
        return name
    return Ref(*name, f"{action.view}#{name[1]}")


def _proven(x: Exchange, found: Found) -> Reason | None:
    """Refuses the token of a user known to be gone or inactive; a reason where the copy can't tell."""
    if found.entry.expires <= x.services.now():
        # What is stale can't refuse anybody; whether it may be served is the policy's to say.
        return None
    state = entry_state(x, found)
    if state in BAD_USER:
        raise _refusal(x, state)
    return state


def _refused(x: Exchange, action: Introspect, reason: Reason) -> Reply:
    if action.answer is Answer.RFC7662:
        return inactive(x, action)
    raise _refusal(x, reason)


def _refusal(x: Exchange, reason: Reason) -> InvalidToken:
    x.outcome.reason, x.outcome.refused = reason, x.outcome.upstream_status is None
    return InvalidToken(reason)
