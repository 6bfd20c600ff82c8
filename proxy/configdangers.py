"""What routes give away, as far as the settings can tell: for `check`, each with its route and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.core.revoking import Revoke
from proxy.core.settings import Access, Answer, Introspect, Literal, Lookup, Route, Settings, Write

# Words of field names that say how to find a person.
_PERSONAL = frozenset(
    {
        *("email", "mail", "phone", "mobile", "telephone", "tel", "address", "street"),
        *("birthday", "birthdate", "dob", "birth", "iban", "tax"),
    }
)
# Last segments of paths where a password is shown, not changed.
_LOGIN = re.compile(r"(?i)log[_-]?[io]n|sign[_-]?in|tokens?|sessions?|authenticate")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# From whom a route keeps the shared copy; `caller` shares none.
_STRICTER = (Access.ANYONE, Access.UNSET, Access.TOKEN, Access.OWNER)
_WHO = {
    Access.ANYONE: "anyone",
    Access.UNSET: "whoever sends no credentials",
    Access.TOKEN: "a good token",
    Access.OWNER: "the user's own token",
}


def dangers(settings: Settings) -> Iterator[str]:
    """One sentence each."""
    yield from _personal(settings)
    yield from _own_copies(settings)
    yield from _unequal(settings)
    yield from _by_role(settings)
    yield from _callers(settings)
    yield from _logins(settings)


def _lookups(settings: Settings, view: str) -> list[Route]:
    return [one for one in settings.routes if isinstance(one.action, Lookup) and one.action.view == view]


def _personal(settings: Settings) -> Iterator[str]:
    """Fields that are known: those that the view lists, or the keys of a user where it lists none."""
    for name, view in settings.views.items():
        found = _personal_fields(settings, name)
        for route in _lookups(settings, name):
            if found and route.access is Access.ANYONE:
                way = "fields that leave them out" if view.fields is None else "fewer fields"
                yield (
                    f"{route.name}: access: anyone gives {', '.join(found)} of view {name!r} to whoever can "
                    f"guess the key; give it access: token, or a view with {way}, unless the service shows "
                    "them to all"
                )


def _personal_fields(settings: Settings, view: str) -> list[str]:
    fields = settings.views[view].fields
    known = [".".join(key.path) for key in settings.user.keys] if fields is None else fields
    return sorted({one for one in known if _is_personal(one)})


def _is_personal(name: str) -> bool:
    return not _PERSONAL.isdisjoint(word.lower() for word in _WORD.findall(name))


def _callers(settings: Settings) -> Iterator[str]:
    """What an introspection by POST shows to all whom the service answers, however little it tells them."""
    for route in settings.routes:
        action = route.action
        if not isinstance(action, Introspect) or not action.form or action.answer is Answer.UPSTREAM:
            continue
        view = action.answer is Answer.VIEW
        shown = [*action.fields, *action.claims]
        found = (
            _personal_fields(settings, action.view) if view else [one for one in shown if _is_personal(one)]
        )
        if found:
            way = "give answer: rfc7662" if view else "leave them out"
            yield (
                f"{route.name}: shows {', '.join(found)} to every caller whom the service answers; {way}, or "
                "give answer: upstream, unless the service shows them to all of its callers"
            )


def _logins(settings: Settings) -> Iterator[str]:
    """A password in the body of a write is taken for a new one."""
    for route in settings.routes if settings.tokens is not None and settings.revoking.passwords else ():
        last = route.template.segments[-1] if route.template.segments else None
        says_nothing = isinstance(route.action, Write) and route.action.revoke is Revoke.AUTO
        if says_nothing and isinstance(last, Literal) and _LOGIN.fullmatch(last.text):
            yield (
                f"{route.name}: looks like a login, and a password in the body of a write is taken for a new "
                "one: the service is asked again about all tokens that the user had; give revoke: none, or "
                "pass: true where a login changes no user"
            )


def _own_copies(settings: Settings) -> Iterator[str]:
    """Answers that differ by caller, in a view whose copies others share."""
    for name in settings.views:
        routes = _lookups(settings, name)
        shared = next((one for one in routes if one.access is not Access.CALLER), None)
        for route in routes:
            if shared is not None and route.access is Access.CALLER:
                yield (
                    f"{route.name}: access: caller says that answers differ by caller, but {shared.name} "
                    f"shares view {name!r}; give it a view of its own"
                )


def _unequal(settings: Settings) -> Iterator[str]:
    """A copy that one route guards and another hands out: what it was stored for does not matter."""
    for name in settings.views:
        routes = [one for one in _lookups(settings, name) if one.access in _STRICTER]
        if not routes:
            continue
        routes.sort(key=lambda one: (_STRICTER.index(one.access), one.require is not None))
        weak = routes[0]
        others = (one for one in routes[::-1] if (one.access, one.require) != (weak.access, weak.require))
        strict = next(others, None)
        if strict is not None:
            yield (
                f"{weak.name}: gives {_who(weak)} the copies of view {name!r} for which {strict.name} asks "
                f"for {_who(strict)}; give both the same access, or each a view of its own, unless the "
                "service makes that difference itself"
            )


def _who(route: Route) -> str:
    more = " with what it requires" if route.require is not None else ""
    return f"{_WHO[route.access]}{more}"


def _by_role(settings: Settings) -> Iterator[str]:
    """One copy for the user and for those of a role, who may be told more; with fields no more is kept."""
    for route in settings.routes:
        if route.allow is None or not isinstance(route.action, Lookup):
            continue
        if settings.views[route.action.view].fields is None:
            yield (
                f"{route.name}: gives the user the copy that was made for whoever allow lets in; list the "
                f"fields of view {route.action.view!r}, or give those a route and a view of their own, "
                "unless the service tells both the same"
            )
