"""What would be done with a request, and why: the walk without upstream and without counting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from proxy.core import policy
from proxy.core.cachecontrol import request_directives
from proxy.core.granted import lacking
from proxy.core.keys import redis_key, user_id
from proxy.core.model import Found, Outcome, Reason, Ref, Request
from proxy.core.resourcekeys import resource_ref
from proxy.core.resources import decide
from proxy.core.rolloutsettings import Mode
from proxy.core.routing import Match
from proxy.core.settings import Answer, Introspect, Lookup, Pass, Resource, Revoke, Write
from proxy.core.tokenplace import in_target
from proxy.core.tokens import Rejected, Unproven
from proxy.core.why import HIT, WHY
from proxy.steps.callers import BAD_USER, admitted, entry_state, identify, token_state, user_state
from proxy.steps.described import known
from proxy.steps.exchange import Exchange, Services
from proxy.steps.introspect import opaque_ref
from proxy.steps.lookup import Plan, make_ref, planned, unusable
from proxy.steps.resource import look_up


async def explain(
    services: Services, request: Request, match: Match | None, unkeyed: Reason | None
) -> dict[str, Any]:
    """`{"route", "kind", "access", "view", "keys", "would_be", "reason", "why", …}`; `keys` as in Redis."""
    if match is None:
        return _said({"route": None, "kind": "pass"}, "BYPASS", Reason.NO_ROUTE)
    x = Exchange(services, request, match.route, match.values, Outcome())
    action = match.route.action
    told: dict[str, Any] = {"route": match.route.name}
    if isinstance(action, Pass):
        return _said(told | {"kind": "pass"}, "BYPASS", Reason.PASS_ROUTE)
    if isinstance(action, Write) or match.implied:
        return _said(
            told | {"kind": "write", "implied": match.implied, "evicts": _evicts(x, match)},
            "BYPASS",
            Reason.WRITE,
        )
    if isinstance(action, Resource):
        told["kind"] = "resource"
        if services.rollout.mode is Mode.OFF:
            return _said(told, "BYPASS", Reason.MODE_OFF)
        if unkeyed is None and in_target(request.target, services.settings.token_from):
            unkeyed = Reason.CREDENTIALS
        if unkeyed is not None:
            return _said(told, "BYPASS", unkeyed)
        return await _resource(x, action, told)
    told["kind"] = "introspect" if isinstance(action, Introspect) else "batch" if action.many else "lookup"
    told |= {"view": action.view, "ttl_seconds": services.settings.views[action.view].ttl}
    if services.rollout.mode is Mode.OFF:
        return _said(told, "BYPASS", Reason.MODE_OFF)
    if unkeyed is not None:
        return _said(told, "BYPASS", unkeyed)
    if isinstance(action, Introspect):
        return await _introspection(x, action, told)
    return await _lookup(x, action, told)


async def _lookup(x: Exchange, action: Lookup, told: dict[str, Any]) -> dict[str, Any]:
    told["access"] = x.route.access.value
    value = x.values[action.var]
    refs = [
        make_ref(x.services.settings, action, one) for one in ((value,) if isinstance(value, str) else value)
    ]
    if not refs or None in refs:
        return _said(told, "BYPASS", Reason.KEY_UNUSABLE)
    told["keys"] = [redis_key(ref.key, ref.value) for ref in refs if ref is not None]
    plans = [await planned(x, action, ref) for ref in refs if ref is not None]
    plan, denied = plans[0], next((one for one in plans if isinstance(one, Reason)), None)
    if isinstance(plan, Reason) or denied is not None:
        return _said(told, "BYPASS", denied)
    caller = plan.caller
    if caller.copy:
        told["copy"] = "this caller's own"
        if action.many:
            return _said(told, "BYPASS", Reason.CALLER_COPY)
    if caller.denied is not None:
        return _said(told, "BYPASS" if action.many else "MISS", caller.denied)
    if caller.guarded and action.many:
        return _said(told, "BYPASS", Reason.CREDENTIALS)
    results = [
        await _stored(x, one.ref, action.view, partial(unusable, x, one))
        for one in plans
        if isinstance(one, Plan)
    ]
    if len(results) > 1:
        told["stored"] = sum(would == "HIT" for would, _, _ in results)
        hit = told["stored"] == len(results)
        return _said(told, "HIT" if hit else "MISS", None if hit else Reason.PARTIAL)
    would, reason, more = results[0]
    return _said(told | more, would, reason)


async def _resource(x: Exchange, rule: Resource, told: dict[str, Any]) -> dict[str, Any]:
    told["access"] = x.route.access.value
    caller = await admitted(x)
    if caller.denied is not None:
        return _said(told, "BYPASS", caller.denied)
    found = (await look_up(x, rule, caller, resource_ref(x.request.target, x.request.headers))).found
    if found is None:
        return _said(told, "MISS", x.outcome.reason)
    told |= {"tier": found.tier.value, "status": found.entry.status}
    match decide(found.entry, rule, request_directives(x.request.headers), x.services.now()):
        case policy.Fresh(age, ttl):
            return _said(told | {"age_seconds": age, "fresh_for_seconds": ttl}, "HIT", None)
        case policy.Stale(age, _):
            return _said(told | {"age_seconds": age}, "STALE", None)
        case policy.Expired(reason, _):
            return _said(told, "MISS", reason)


async def _introspection(x: Exchange, action: Introspect, told: dict[str, Any]) -> dict[str, Any]:
    told["answer"] = action.answer.value
    if action.form:
        why = "the token is in the form, and so may be the caller: neither is asked for here"
        return told | {"form": action.form, "would_be": "UNKNOWN", "reason": None, "why": why}
    if action.opaque:
        place = opaque_ref(x, action)
        if isinstance(place, Reason):
            return _said(told, "BYPASS", place)
        told["keys"] = [redis_key(place.key, place.value)]
        would, reason, more = await _stored(x, place, action.view)
        return _said(told | more, would, reason)
    identity = identify(x)
    built = action.answer is Answer.RFC7662
    if isinstance(identity, Rejected):
        return _said(told, "401", identity.reason)
    if isinstance(identity, Unproven):
        return _said(told, "BYPASS", identity.reason)
    if identity is None:
        return _said(told, "BYPASS", Reason.TOKEN_MISSING)
    lacks = lacking(x.route.require, identity.claims)
    if lacks is not None:
        return _said(told, "BYPASS", lacks)
    state = await token_state(x, identity)
    if state is not None:
        return _said(told, "401" if state is Reason.TOKEN_REVOKED else "BYPASS", state)
    if built:
        view = x.services.settings.views[action.view]
        told["keys"] = [redis_key("id", identity.user_id)]
        said = await known(x, action, view, identity)
        if not isinstance(said, Reason):
            return _said(told | {"tier": said[1].tier.value}, "HIT", None)
        return _said(told, "401" if said in BAD_USER else "MISS", said)
    state = await user_state(x, identity)
    if state in BAD_USER:
        return _said(told, "401", state)
    slot = action.view if action.answer is Answer.VIEW else f"{action.view}#{identity.token_hash}"
    ref = Ref("id", identity.user_id, slot)
    told["keys"] = [redis_key("id", ref.value)]
    would, reason, more = await _stored(x, ref, action.view)
    return _said(told | more, would, reason)


async def _stored(
    x: Exchange, ref: Ref, view: str, unusable: Callable[[Found], Reason | None] = lambda _: None
) -> tuple[str, Reason | None, dict[str, Any]]:
    looked = await x.services.cache.get(ref)
    why = unusable(looked) if isinstance(looked, Found) else looked.reason
    if why is not None or not isinstance(looked, Found):
        return "MISS", why, {}
    more = {"tier": looked.tier.value, "status": looked.entry.status}
    match policy.plan(
        looked.entry, x.services.settings.views[view], request_directives(x.request.headers), x.services.now()
    ):
        case policy.Fresh(age, ttl):
            if entry_state(x, looked) is Reason.USER_INACTIVE:
                more["user"] = "inactive"
            return "HIT", None, more | {"age_seconds": age, "fresh_for_seconds": ttl}
        case policy.Stale(age, _):
            return "STALE", None, more | {"age_seconds": age}
        case policy.Expired(reason, _):
            return "MISS", reason, more


def _evicts(x: Exchange, match: Match) -> list[str]:
    action = match.route.action
    if isinstance(action, Write):
        if action.all:
            return ["everything"]
        ended = {
            Revoke.TOKEN: ["the caller's token, which is good no more, and its user"],
            Revoke.USER: ["all tokens of the users below: the service is asked about them again"],
        }.get(action.revoke, [])
        return ended + [
            f"the user whose {one.key} is {'.'.join((one.place, *one.path))}" for one in action.targets
        ]
    if not isinstance(action, Lookup):
        return []
    value = x.values.get(action.var, ())
    texts = (value,) if isinstance(value, str) else value
    return [f"the user whose {action.by} is {user_id(one) or 'unusable'}" for one in texts] or [
        "the user in upstream's answer; everything if it names none"
    ]


def _said(told: dict[str, Any], would_be: str, reason: Reason | None) -> dict[str, Any]:
    why = HIT if reason is None else WHY[reason]
    return told | {"would_be": would_be, "reason": None if reason is None else reason.value, "why": why}
