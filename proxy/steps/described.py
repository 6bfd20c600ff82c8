"""RFC 7662 answers that are built here: out of the claims of a good token, and what is known of its user.

What is known comes from the copy that look-ups share, or from upstream's own answer about one of its tokens.
Both go when the user is written, so a deactivation ends every token before it is answered.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from proxy.core import policy
from proxy.core.admission import parse
from proxy.core.cachecontrol import RequestDirectives, request_directives
from proxy.core.forms import takes_json
from proxy.core.introspection import HEADERS, INACTIVE, active_body, as_json, shown_of, told_of
from proxy.core.model import Entry, Found, Reason, Ref, Reply, Ticket, XCache
from proxy.core.problems import CHALLENGE
from proxy.core.replies import from_entry
from proxy.core.settings import Introspect, View
from proxy.core.tokens import Identity
from proxy.leases import Loaded, Shared
from proxy.steps.callers import BAD_USER, entry_state
from proxy.steps.exchange import Exchange
from proxy.steps.keepable import keepable
from proxy.steps.offers import offered
from proxy.steps.passing import bypass, not_cached


async def described(
    x: Exchange,
    action: Introspect,
    view: View,
    identity: Identity,
    *,
    trusted: bool = True,
    heard: Callable[[Reply], Reply] | None = None,
) -> Reply:
    """Answers about a token that is good by itself; upstream is asked where nobody here knows its user.

    A caller who is not `trusted` hears from here of bad tokens only. `heard` is shown upstream's answers.
    """
    directives = request_directives(x.request.headers)
    if directives.no_store:
        return await bypass(x, Reason.REQUEST_NO_STORE)
    if not takes_json(x.request.headers):
        return await bypass(x, Reason.REQUEST_ACCEPT)
    x.outcome.x_cache = XCache.MISS
    seen = x.services.cache.leases.landed
    reply = await _from_here(x, action, view, identity, directives, trusted=trusted)
    if reply is not None:
        return reply
    if directives.only_if_cached:
        raise not_cached(x)
    if x.request.method == "HEAD":
        return await x.forward()
    why = x.outcome.reason or Reason.ABSENT

    async def ask(_: Ticket) -> Loaded[Reply]:
        asked = x.services.now()
        answer = await bypass(x, why)
        x.outcome.x_cache = XCache.MISS
        if heard is not None:
            heard(answer)
        return Loaded(answer, _note(x, action, view, identity, answer, asked))

    leases, note = x.services.cache.leases, told_ref(action, identity)
    alone = not trusted or directives.no_cache or directives.max_age is not None
    result = await (leases.alone(note, ask) if alone else leases.fill_once(note, seen, ask))
    if not isinstance(result, Shared):
        return result.value
    # Upstream told somebody else of that user; all else is looked at anew.
    reply = await _from_here(x, action, view, identity, directives, trusted=trusted)
    if reply is None:
        reply = await bypass(x, why)
        return reply if heard is None else heard(reply)
    return reply


def inactive(x: Exchange, action: Introspect) -> Reply:
    """The answer about a token that is provably not good. It never says why, not even in a header field.

    Where the token is in no form it is the caller's own proof as well, and a bad one is 401 (RFC 7662 §2.3).
    """
    x.outcome.x_cache, x.outcome.reason = XCache.BYPASS, Reason.TOKEN_INACTIVE
    x.outcome.refused = x.outcome.upstream_status is None
    if action.form:
        return Reply(200, b"OK", HEADERS, INACTIVE)
    return Reply(401, b"Unauthorized", HEADERS + CHALLENGE, INACTIVE)


def told_ref(action: Introspect, identity: Identity) -> Ref:
    """Where is kept what upstream's own answers tell of the user: that they are active, and these fields."""
    return Ref("id", identity.user_id, f"+told:{','.join(action.fields)}")


async def known(
    x: Exchange, action: Introspect, view: View, identity: Identity
) -> tuple[Ref, Found] | Reason:
    """What says that the token's user is active now, or why that is not so or not known here."""
    directives = request_directives(x.request.headers)
    why = Reason.ABSENT
    for ref in (Ref("id", identity.user_id, view.name), told_ref(action, identity)):
        looked = await x.services.cache.get(ref)
        if not isinstance(looked, Found):
            # What was there and is no good says more than that nothing was.
            why = looked.reason if why is Reason.ABSENT else why
            continue
        match policy.plan(looked.entry, view, directives, x.services.now()):
            case policy.Fresh():
                state = entry_state(x, looked)
                if state is None:
                    return ref, looked
                if state in BAD_USER:
                    return state
                why = state
            case policy.Expired(reason, _):
                why = reason
            case policy.Stale():
                # What is stale may show a user, but says nothing of what a token is good for.
                why = Reason.EXPIRED
    return why


async def _from_here(
    x: Exchange,
    action: Introspect,
    view: View,
    identity: Identity,
    directives: RequestDirectives,
    *,
    trusted: bool,
) -> Reply | None:
    place = await known(x, action, view, identity)
    if isinstance(place, Reason):
        x.outcome.reason = place
        return inactive(x, action) if place in BAD_USER else None
    if not trusted:
        return None
    ref, found = place
    entry, now = found.entry, x.services.now()
    document = parse(entry.body)
    fields = action.fields
    shown = (
        document
        if ref == told_ref(action, identity)
        else shown_of(x.services.settings.user, fields, document)
    )
    built = Entry(
        user_id=identity.user_id,
        status=200,
        headers=HEADERS,
        body=active_body(identity, action.claims, shown),
        stored=entry.stored,
        expires=entry.expires,
        dead=entry.expires,
        age=entry.age,
    )
    x.outcome.x_cache, x.outcome.tier, x.outcome.reason = XCache.HIT, found.tier, None
    x.outcome.ttl = int(entry.expires - now)
    reply = from_entry(x.request, built, now)
    offer = offered(x, ref, found, directives, reply)
    return reply if offer is None else replace(reply, offer=offer)


def _note(
    x: Exchange, action: Introspect, view: View, identity: Identity, reply: Reply, asked: float
) -> Entry | None:
    """What upstream's answer about a token tells of its user, if it calls the token active.

    Where it may not be stored, nothing of it is: that the user is active is no part of it.
    """
    if reply.status != 200 or not isinstance(reply.body, bytes):
        return None
    told = told_of(identity, action.fields, parse(reply.body))
    if told is None:
        return None
    now, life = x.services.now(), view.ttl
    if action.fields:
        storable = keepable(x, view, reply, (asked, now))
        if storable is None:
            return None
        life = storable.lifetime
    end = now + life
    return Entry(
        user_id=identity.user_id,
        active=True,
        status=204,
        body=as_json(told),
        stored=now,
        expires=end,
        dead=end,
    )
