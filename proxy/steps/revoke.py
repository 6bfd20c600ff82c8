"""The tokens that a write makes bad: the one that it names, or all that its users had until then.

What is said of them is said twice: provisionally, under the write's fence, before upstream hears of it, so
that a proxy that dies in between leaves no good token behind; and for good, or taken back, before the fence
is lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.core.admission import parse
from proxy.core.model import Fence
from proxy.core.revoking import (
    Revoke,
    form_holds_password,
    holds_password,
    parts_hold_password,
    tokens_in_form,
)
from proxy.core.settings import Lookup, Write
from proxy.core.tokens import Identity
from proxy.steps.body import Tee
from proxy.steps.callers import carried, ending, until
from proxy.steps.exchange import Exchange
from proxy.store.cutoffs import EVERYBODY

FORM = "x-www-form-urlencoded"
_HOLDS: dict[str, Callable[[bytes], bool]] = {
    "json": lambda body: holds_password(parse(body)),
    FORM: form_holds_password,
    "multipart/form-data": parts_hold_password,
}


def named_tokens(x: Exchange, tee: Tee | None) -> tuple[str, ...]:
    """The tokens that the form of a logout names (RFC 7009 §2.1), as far as it has come."""
    body = None if tee is None else tee.copy
    return tokens_in_form(body) if body and FORM in _content(x) else ()


def _ended(x: Exchange, tee: Tee | None) -> tuple[Identity, ...]:
    """The tokens that a logout ends: those in its form, and the caller's own, unless that asks for others'.

    A service may read the form or not, and may end with a refresh token what else its user holds.
    """
    named = tuple(filter(None, (ending(x, token) for token in named_tokens(x, tee))))
    own = ending(x, carried(x))
    others = named and own is not None and own.user_id not in {one.user_id for one in named}
    return named if own is None or others else (*named, own)


def _content(x: Exchange) -> str:
    return (x.request.headers.get("content-type") or "").lower()


class Revocation:
    """What one write says of tokens. `tokens` are those that a logout ends."""

    def __init__(self, x: Exchange, action: Write | Lookup, tee: Tee | None) -> None:
        self._x = x
        self._says = action.revoke if isinstance(action, Write) else Revoke.AUTO
        self._tee = tee
        self.tokens = _ended(x, tee) if self._says is Revoke.TOKEN else ()
        self._begun: tuple[str, ...] = ()

    async def begin(self, fence: Fence) -> None:
        """Before upstream hears of the write."""
        await self._revoke_tokens(fence.name)
        if self._of_users(begun=False):
            self._begun = (*fence.batch.users, *([EVERYBODY] if fence.batch.everything else []))
            limit = self._x.services.settings.upstream.until_head
            for user_id in self._begun:
                await self._revoke_user(user_id, limit, fence.name, sure=False)

    async def happened(self, fence: Fence, users: Iterable[str], *, known: bool, linger: float) -> None:
        """It has changed these users, or may have; `linger`: upstream may still be at it for so many seconds.

        Where nobody knows whom it changed, and the route says that all tokens of users are over, it is all
        tokens of everybody.
        """
        await self._revoke_tokens()
        if self._of_users(begun=True):
            everybody = [EVERYBODY] if self._says is Revoke.USER and not known else []
            for user_id in dict.fromkeys((*self._begun, *users, *everybody)):
                await self._revoke_user(user_id, linger, fence.name, sure=True)
        else:
            await self._undo(fence)

    async def undone(self, fence: Fence) -> None:
        """It has changed nothing."""
        for token in self.tokens:
            await self._x.services.cache.restore(token.token_hash, fence.name)
        await self._undo(fence)

    async def _undo(self, fence: Fence) -> None:
        for user_id in self._begun:
            await self._x.services.cache.restore_user(user_id, fence.name)

    async def _revoke_tokens(self, name: str = "") -> None:
        for token in self.tokens:
            life = until(self._x, token)
            await self._x.services.cache.revoke(token.user_id, token.token_hash, life, name)

    async def _revoke_user(self, user_id: str, more: float, name: str, *, sure: bool) -> None:
        settings = self._x.services.settings
        if settings.tokens is None:
            # Nothing is proven here; what upstream said of tokens goes with the user.
            return
        rules = settings.revoking
        before = self._x.services.now() + more + rules.clock_skew + settings.tokens.leeway
        await self._x.services.cache.revoke_user(user_id, before, before + rules.token_life, name, sure=sure)

    def _of_users(self, *, begun: bool) -> bool:
        """Whether all tokens of the users are meant. Before the write has `begun`, a body that is still to
        come may hold a password."""
        if self._says is not Revoke.AUTO:
            return self._says is Revoke.USER
        if not self._x.services.settings.revoking.passwords or self._tee is None:
            return False
        content = _content(self._x)
        holds = next((holds for kind, holds in _HOLDS.items() if kind in content), None)
        if holds is None:
            return False
        body = self._tee.copy
        if not body:
            return body is not None and not begun
        return holds(body)
