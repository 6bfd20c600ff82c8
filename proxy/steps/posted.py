"""Introspection by POST (RFC 7662 §2.1): a caller asks about somebody's token, which is in a form.

Whether this caller may ask is upstream's to say. What is stored of its answers is this caller's alone, and
what is made here is for callers whom upstream answered a moment ago about such a token, and who have not lost
their own right since, as far as that can be known. Nothing here is a write: no fence, no eviction.
"""

from __future__ import annotations

from typing import Any

from proxy.core.admission import Verdict, parse
from proxy.core.bearer import bearer
from proxy.core.cachecontrol import request_directives
from proxy.core.credentials import SHORTEST, digest, fleeting, has_credentials
from proxy.core.forms import Form, takes_json
from proxy.core.granted import lacking
from proxy.core.introspection import denies
from proxy.core.keys import identify as identified
from proxy.core.keys import token_names
from proxy.core.model import Found, Reason, Ref, Reply, XCache
from proxy.core.settings import Answer, Introspect, View
from proxy.core.tokenplace import Where
from proxy.core.tokens import Identity, Rejected, Unproven, token_hash
from proxy.steps.callers import (
    BAD_USER,
    Caller,
    entry_state,
    good_ref,
    identify,
    judged,
    own_copy,
    proven,
    token_state,
    user_state,
)
from proxy.steps.described import described, inactive
from proxy.steps.exchange import Exchange
from proxy.steps.forms import form_of
from proxy.steps.lookup import Plan, answer, rules_of
from proxy.steps.passing import bypass, not_cached, vouched_bypass

_WHAT = b"asker"


async def posted(x: Exchange, action: Introspect) -> Reply:
    """Answers about the token in the form."""
    form = form_of(x)
    if not (form.proofs or has_credentials(x.request.headers, x.services.settings.credential_headers)):
        # RFC 7662 §2.1: whoever asks says who they are. What they get is no cache's business.
        return await bypass(x, Reason.CALLER_MISSING)
    if not takes_json(x.request.headers):
        return await bypass(x, Reason.REQUEST_ACCEPT)
    if form.once or fleeting(x.request.headers):
        # Whoever repeats that is somebody else.
        return await bypass(x, Reason.CALLER_UNKNOWN)
    asking = _Asking(x, action, form)
    for own in _own(x):
        if isinstance(own, Rejected) and own.reason is not Reason.TOKEN_MALFORMED:
            return await asking.passed(Reason.CALLER_UNKNOWN)
        if isinstance(own, Identity):
            # Their own token was good once. Is it still somebody's?
            caller = await judged(x, own)
            if caller.note is not None:
                ttl, why = action.caller_ttl, Reason.CALLER_UNKNOWN
                return asking.heard(await vouched_bypass(x, caller.note, ttl, why))
            if caller.denied is not None:
                return await asking.passed(Reason.CALLER_UNKNOWN)
    if not (asking.known or action.opaque) and request_directives(x.request.headers).only_if_cached:
        # Whatever they ask about.
        raise not_cached(x)
    reply = await (asking.opaque() if action.opaque else asking.about())
    if not (asking.known or action.opaque) and x.outcome.x_cache is not XCache.HIT:
        # Nothing tells a stranger what is known here of the token.
        x.outcome.x_cache = XCache.MISS if x.outcome.stored else XCache.BYPASS
        x.outcome.reason, x.outcome.skipped = Reason.CALLER_UNKNOWN, None
        x.outcome.stored = x.outcome.stored or None
    return reply


def _own(x: Exchange) -> list[Identity | Rejected | Unproven | None]:
    """The caller's own tokens: that in Authorization, and that which is where tokens are."""
    own = proven(x, bearer(x.request.headers))
    return [own] if x.services.settings.token_from.where is Where.HEADER else [own, identify(x)]


class _Asking:
    """One question. `name` stands for caller and route, `known`: upstream answered them a moment ago."""

    def __init__(self, x: Exchange, action: Introspect, form: Form) -> None:
        self.x = x
        self.action = action
        self.view: View = x.services.settings.views[action.view]
        self.form = form
        self.asked = x.services.now()
        # Whatever else is in the form may say who is asking, or what for.
        secret = next(iter(x.services.settings.user.hash_keys), b"")
        self.name = digest(_WHAT, (x.route.name, own_copy(x), form.others.decode("ascii")), secret)
        self.known = x.services.askers.accepted(self.name, self.asked)
        proved = None if action.opaque else proven(x, form.token)
        self.proved = proved
        self.identity = proved if isinstance(proved, Identity) else None
        # Of all spellings of one token, what is said of one counts for the others.
        token = token_hash(form.token) if self.identity is None else self.identity.token_hash
        self.about_name = digest(_WHAT, (self.name, token))
        # Services let some callers see some tokens (RFC 7662 §4): those for them, mostly.
        self.scope = (
            self.name if self.identity is None else digest(_WHAT, (self.name, *_issued(self.identity)))
        )

    async def opaque(self) -> Reply:
        """Upstream's word on a token that means nothing here, to this caller."""
        name = token_names(self.x.services.settings.user, token_hash(self.form.token))[0]
        ref = Ref("token", name, self._slot())
        rules = rules_of(
            self.x, self.view, Caller(None), per_token=True, opaque=self.action.opaque, sent=self._sent()
        )
        return await answer(self.x, Plan(ref, self.view, rules, Caller(None), self._usable, self._loaded))

    async def about(self) -> Reply:
        """About a token that can be proven."""
        x, identity = self.x, self.identity
        if not self.known and self.action.answer is not Answer.UPSTREAM:
            return await self.passed(Reason.CALLER_UNKNOWN)
        if self.form.hint not in (None, b"access_token"):
            return await self.passed(Reason.REQUEST_FORM)
        if isinstance(self.proved, Rejected) and self.form.token.count(".") == 2:
            return await self._bad()
        if identity is None:
            # What is no such token at all may be one of another kind (RFC 7662 §2.1: a refresh token).
            why = self.proved.reason if isinstance(self.proved, Rejected | Unproven) else None
            return await self.passed(why or Reason.TOKEN_KEYS_MISSING)
        lacks = lacking(x.route.require, identity.claims)
        if lacks is not None:
            return await self.passed(lacks)
        revoked = await token_state(x, identity)
        if revoked is Reason.TOKEN_REVOKED:
            return await self._bad()
        if revoked is not None:
            return self.heard(await vouched_bypass(x, good_ref(identity), self.view.ttl, revoked))
        askers = x.services.askers
        trusted = askers.accepted(self.scope, self.asked) and not askers.refused(self.about_name)
        match self.action.answer:
            case Answer.RFC7662:
                return await described(x, self.action, self.view, identity, trusted=trusted, heard=self.heard)
            case Answer.VIEW:
                return await self._shared(identity, trusted=trusted)
            case Answer.UPSTREAM:
                return await self._own(identity)

    async def _shared(self, identity: Identity, *, trusted: bool) -> Reply:
        def usable(found: Found) -> Reason | None:
            return entry_state(self.x, found) if trusted else Reason.CALLER_UNKNOWN

        ref = Ref("id", identity.user_id, self.view.name)
        rules = rules_of(self.x, self.view, Caller(None))
        return await answer(self.x, Plan(ref, self.view, rules, Caller(None), usable, self._loaded))

    async def _own(self, identity: Identity) -> Reply:
        if await user_state(self.x, identity) in BAD_USER:
            return await self._bad()
        ref = Ref("id", identity.user_id, self._slot())
        rules = rules_of(self.x, self.view, Caller(None), per_token=True, exp=identity.exp, sent=self._sent())
        return await answer(self.x, Plan(ref, self.view, rules, Caller(None), self._usable, self._loaded))

    async def _bad(self) -> Reply:
        """The answer about a token that is provably not good, for those who may know that."""
        if self.known and self.action.answer is not Answer.VIEW:
            return inactive(self.x, self.action)
        return await self.passed(Reason.TOKEN_INACTIVE)

    async def passed(self, why: Reason) -> Reply:
        """Upstream's answer to this request alone."""
        return self.heard(await bypass(self.x, why))

    def heard(self, reply: Reply) -> Reply:
        """Takes note of what upstream's answer says of the caller."""
        document = parse(reply.body) if isinstance(reply.body, bytes) and reply.body else None
        self._note(reply.status, document)
        return reply

    def _loaded(self, status: int, verdict: Verdict) -> None:
        self._note(status, verdict.document)

    def _usable(self, _: Found) -> Reason | None:
        # The secret was another one when it was stored.
        return Reason.CALLER_UNKNOWN if self.x.services.askers.refused(self.name) else None

    def _note(self, status: int, document: Any) -> None:
        askers = self.x.services.askers
        if status in (401, 403):
            askers.refuse(self.name, self.asked)
            askers.refuse(self.scope, self.asked)
        elif status == 200 and self.identity is not None:
            if self._shown(document):
                for name in (self.name, self.scope):
                    askers.accept(name, self.asked, self.action.caller_ttl)
                askers.accept(self.about_name, self.asked, 0)
            elif denies(document):
                # RFC 7662 §2.2: so it says also where this caller may not see this particular token.
                askers.refuse(self.about_name, self.asked)

    def _shown(self, document: Any) -> bool:
        """Whether upstream's answer shows what one that is made here would show."""
        if self.action.answer is not Answer.VIEW:
            return isinstance(document, dict) and document.get("active") is True
        whose = identified(self.x.services.settings.user, document)
        return whose is not None and self.identity is not None and whose.user_id == self.identity.user_id

    def _sent(self) -> tuple[str, ...]:
        return (self.form.token, *(one for one in self.form.proofs if len(one) >= SHORTEST))

    def _slot(self) -> str:
        return f"{self.view.name}#{self.about_name}"


def _issued(identity: Identity) -> tuple[str, ...]:
    """By whom, to whom and for whom the token was issued."""
    return tuple(repr(identity.claims.get(name)) for name in ("iss", "aud", "client_id", "azp"))
