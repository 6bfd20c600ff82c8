"""One request to upstream for a resource, and what is stored of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core import forwarding, policy
from proxy.core.admission import clean
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Entry, Found, Reason, Ref, Reply, Request, Ticket, XCache
from proxy.core.resourcekeys import variant_ref
from proxy.core.resources import Kept, entry_of, index_of, keep, updated
from proxy.core.served import from_resource
from proxy.core.settings import Resource
from proxy.core.targeted import CAPABILITY, SURROGATE
from proxy.core.validation import CONDITIONS, conditions, confirms
from proxy.core.variants import variant
from proxy.leases import Loaded
from proxy.steps import body as bodies
from proxy.steps.callers import Caller
from proxy.steps.exchange import Exchange, Rewrite

# What the client's own request may choose a part or a version by; a miss passes it on as it came.
CHOOSING = CONDITIONS | {b"range"}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at what is stored: `base` is the URL's key, `ref` that of the variant, if it has several."""

    rule: Resource
    caller: Caller
    base: Ref
    ref: Ref
    found: Found | None


class Fill:
    """One request to upstream, and what becomes of its answer: the loader of a fill."""

    def __init__(self, x: Exchange, look: Look) -> None:
        self._x = x
        self._look = look

    async def __call__(self, ticket: Ticket) -> Loaded[Reply]:
        """Asks whether the stored copy still holds where there is one, else for all of it."""
        x, found = self._x, self._look.found
        began = x.services.now()
        lines = conditions(found.entry.headers) if found is not None else None
        reply = await x.forward(fill=True, rewrite=_rewrite(x.request, self._look.rule, lines))
        if reply.status == 304 and found is not None and lines:
            await bodies.close(reply.body)
            if confirms(Headers(found.entry.headers), Headers(reply.headers)):
                return await self._confirmed(found.entry, reply, began, ticket)
            # It is about another copy; this one must not be used again (RFC 9111 §4.3.4).
            began = x.services.now()
            reply = await x.forward(fill=True, rewrite=_rewrite(x.request, self._look.rule, ()))
        return await self._received(reply, began, ticket)

    async def _confirmed(self, old: Entry, reply: Reply, began: float, ticket: Ticket) -> Loaded[Reply]:
        x = self._x
        x.outcome.x_cache = XCache.REVALIDATED
        lines = Headers(updated(old, policy.stored_headers(Headers(reply.headers), changed=False, body=b"")))
        aged = Headers((*lines.raw, *(line for line in reply.headers if line[0].lower() == b"age")))
        now = x.services.now()
        kept = self._judged(old.status, aged, began, now)
        entry = (
            entry_of(kept, self._look.base.value, old.status, lines, old.body, now)
            if isinstance(kept, Kept)
            else replaced(old, lines.raw, now)
        )
        answer = from_resource(x.request, entry, now)
        if not isinstance(kept, Kept):
            x.outcome.skipped = kept.reason
            return Loaded(answer, None)
        x.outcome.ttl = round(kept.lifetime)
        return Loaded(answer, await self._placed(kept, entry, ticket))

    async def _received(self, reply: Reply, began: float, ticket: Ticket) -> Loaded[Reply]:
        x, rule = self._x, self._look.rule
        now = x.services.now()
        kept = self._judged(reply.status, Headers(reply.headers), began, now)
        reply = await without_secrets(x, rule, reply, read=isinstance(kept, Kept))
        if x.outcome.taken or x.outcome.skipped is not None:
            x.outcome.skipped = x.outcome.skipped or Reason.SECRET_FOUND
            return Loaded(reply, None)
        if not isinstance(kept, Kept):
            x.outcome.skipped = kept.reason
            return Loaded(reply, None)
        if not isinstance(reply.body, bytes):
            x.outcome.skipped = Reason.TOO_LARGE
            return Loaded(reply, None)
        entry = entry_of(kept, self._look.base.value, reply.status, Headers(reply.headers), reply.body, now)
        x.outcome.ttl = round(kept.lifetime)
        placed = await self._placed(kept, entry, ticket)
        if self._look.found is not None:
            # The client's own conditions were not sent; they are judged here.
            return Loaded(from_resource(x.request, entry, now), placed)
        return Loaded(reply, placed)

    def _judged(self, status: int, reply: Headers, began: float, now: float) -> Kept | policy.Skip:
        return keep(
            self._look.rule,
            status=status,
            request=self._x.request.headers,
            reply=reply,
            authorized_by_rule=not self._look.caller.guarded,
            credential_headers=self._x.services.settings.credential_headers,
            asked=began,
            now=now,
        )

    async def _placed(self, kept: Kept, entry: Entry, ticket: Ticket) -> Entry | None:
        """What is to be stored at the key that is being filled; the rest is stored here, first.

        At a URL that varies, the URL's key holds what its answers vary on.
        """
        cache, look = self._x.services.cache, self._look
        ref = look.base
        if kept.names:
            ref = variant_ref(look.base, variant(self._x.request.headers, kept.names))
        if ref == look.ref and not kept.names:
            return entry
        index = index_of(look.base.value, kept.names, entry) if kept.names else None
        if index is not None and look.ref == look.base:
            refused = await cache.fill(ref, entry, ticket)
            return index if refused is None else None
        if index is not None and ref == look.ref:
            if await self._outlives(index):
                await cache.fill(look.base, index, ticket)
            return entry
        # It varies on something else than before, or no more.
        await cache.fill(ref, entry, ticket)
        if index is not None:
            await cache.fill(look.base, index, ticket)
        return None

    async def _outlives(self, index: Entry) -> bool:
        held = await self._x.services.cache.get(self._look.base)
        return not isinstance(held, Found) or held.entry.dead < index.dead


def replaced(old: Entry, lines: RawHeaders, now: float) -> Entry:
    """A confirmed copy that may be given to this client, and no longer kept."""
    return Entry(
        user_id=old.user_id,
        status=old.status,
        headers=lines,
        body=old.body,
        stored=now,
        expires=now,
        dead=now,
    )


async def without_secrets(x: Exchange, rule: Resource, reply: Reply, *, read: bool) -> Reply:
    """The answer, JSON without secret-looking members; `read`: its body is wanted whole, up to the limit.

    A coded JSON answer can't be looked into: it is passed on, and `skipped` says why it is not stored.
    """
    headers = Headers(reply.headers)
    is_json = "json" in (headers.get("content-type") or "").lower()
    if not (is_json or read) or reply.status == 206:
        return reply
    body = await bodies.read(reply, rule.max_size)
    reply = replace(reply, body=body)
    if isinstance(body, bytes) and (is_json or body[:1] in (b"{", b"[")):
        verdict = clean(x.services.redactor, x.route.secrets, reply, body)
        x.outcome.taken = verdict.taken
        if is_json or verdict.reason is Reason.SECRET_FOUND:
            x.outcome.skipped = verdict.reason
        reply = replace(reply, headers=verdict.headers, body=verdict.body)
    return reply


def unconditional(x: Exchange, rule: Resource) -> Rewrite:
    """Makes a request ask for all of it, in the client's codings."""
    return _rewrite(x.request, rule, ())


def _rewrite(request: Request, rule: Resource, conditions: RawHeaders | None) -> Rewrite:
    """Makes a fill ask as this client does: its codings, and on a miss its own conditions and parts.

    `conditions` replace the latter where a stored copy is to be revalidated; None: there is none.
    """
    wanted = {b"accept-encoding"} if conditions is not None else CHOOSING | {b"accept-encoding"}
    own = [line for line in forwarding.end_to_end(request.headers.raw) if line[0].lower() in wanted]
    more = (*own, *(conditions or ()), *((CAPABILITY,) if SURROGATE in rule.targeted else ()))

    def rewrite(sent: Request) -> Request:
        lines = (line for line in sent.headers.raw if line[0].lower() != b"accept-encoding")
        return replace(sent, headers=Headers((*lines, *more)))

    return rewrite
