"""What settings allow although it is probably not meant."""

from __future__ import annotations

from proxy.configaccess import PROVEN
from proxy.configprivacy import doubts
from proxy.configupstream import unmeant
from proxy.core.issuers import blocks_of
from proxy.core.settings import Answer, Introspect, Lookup, Route, Settings, UserModel


def warnings(settings: Settings) -> tuple[str, ...]:
    """What is allowed, but suspicious: one sentence each."""
    return (
        *_no_secret(settings),
        *_weak_secret(settings),
        *_unproven_fields(settings),
        *doubts(settings),
        *unmeant(settings),
    )


def _no_secret(settings: Settings) -> tuple[str, ...]:
    asks = any(isinstance(route.action, Introspect) or route.access in PROVEN for route in settings.routes)
    if settings.tokens is not None or not asks:
        return ()
    told = "JWT_SECRET is not set: tokens can't be proven here, so what needs a token is forwarded"
    return (told,)


def _weak_secret(settings: Settings) -> tuple[str, ...]:
    found = []
    for number, block in enumerate(blocks_of(settings.tokens) if settings.tokens is not None else ()):
        if block.secret is None:
            continue
        # RFC 7518 §3.2: a key is at least as long as the hash.
        need = max(int(name.removeprefix("HS")) // 8 for name in block.algorithms)
        if len(block.secret.encode()) < need:
            where = f"tokens[{number}]" if settings.tokens is not block else "tokens"
            found.append(
                f"{where}: the secret is shorter than {need} bytes and can be guessed; use a longer one"
            )
    return tuple(found)


def _unproven_fields(settings: Settings) -> tuple[str, ...]:
    found = []
    for route in settings.routes:
        if not isinstance(route.action, Lookup | Introspect):
            continue
        fields = settings.views[route.action.view].fields
        for name, path in _proofs(settings.user, route):
            if fields is not None and path[0] not in fields:
                found.append(f"{route.name}: view {route.action.view!r} has no field {path[0]!r}, so {name}")
    return tuple(found)


def _proofs(user: UserModel, route: Route) -> list[tuple[str, tuple[str, ...]]]:
    """What a copy must show for this route, and the path of it."""
    proofs = [("nothing says whose a copy is and none is stored", user.id)]
    if isinstance(route.action, Lookup):
        key = user.key(route.action.by)
        if key is not None:
            proofs.append((f"a look-up by {key.name} is never answered from it", key.path))
    if isinstance(route.action, Introspect):
        for name in route.action.fields:
            shown = user.key(name)
            proofs.append((f"{name} is never shown", (name,) if shown is None else shown.path))
    needs_active = route.access in PROVEN or (
        isinstance(route.action, Introspect) and route.action.answer is not Answer.UPSTREAM
    )
    if needs_active and user.active is not None:
        proofs.append(("an inactive user is not noticed", user.active))
    return proofs
