"""Tokens of several issuers: what a token says of its issuer chooses the keys that may prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from proxy.core.identity import Identity, Proven, Rejected, Unproven
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import KeySet
from proxy.core.tokens import MAX_TOKEN, MAX_VERIFIED, Verifier, token_hash, unproven_claims


def together(blocks: Sequence[TokenSettings]) -> TokenSettings:
    """Several issuers as one setting. It holds no key itself, so nothing can be proven past their own blocks.

    Its leeway is the longest: with it, nothing that is kept for the life of a token ends before the token.
    """
    return msgspec.structs.replace(
        blocks[0],
        secret=None,
        public_key=None,
        jwks_url=None,
        algorithms=(),
        issuer=None,
        audience=None,
        leeway=max(one.leeway for one in blocks),
        issuers=tuple(blocks),
    )


def blocks_of(tokens: TokenSettings) -> tuple[TokenSettings, ...]:
    """The settings of each issuer; of the only one where there are not several."""
    return tokens.issuers or (tokens,)


class Issuers:
    """Several verifiers as one, by the issuer that each insists on.

    `iss` is read before anything is proven, so it decides nothing but whose keys are tried: the verifier that
    it leads to proves the same claim again, with no other issuer's key within its reach.
    """

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self._verifiers = dict(verifiers)
        self._chosen: dict[str, Verifier] = {}

    def __repr__(self) -> str:
        return f"Issuers({len(self._verifiers)})"

    def has_keys(self, now: float) -> bool:
        """Whether any of them has a key."""
        return any(one.has_keys(now) for one in self._verifiers.values())

    def users(self) -> tuple[Callable[[KeySet], None], ...]:
        """See Verifier.users; in the order of the blocks."""
        return tuple(one.use for one in self._verifiers.values())

    def of(self, identity: Identity) -> Verifier:
        """The one that proved it."""
        return self._verifiers[identity.claims["iss"]]

    def verify(self, token: str, now: float) -> Proven:
        """See Verifier.verify. A token of an issuer that is not listed is bad, whoever signed it."""
        if len(token) > MAX_TOKEN:
            return Rejected(Reason.TOKEN_MALFORMED) if self.has_keys(now) else Unproven()
        digest = token_hash(token)
        # The same token says the same, so a choice stays good for as long as it is remembered.
        verifier = self._chosen.get(digest) or self._choose(token)
        if not isinstance(verifier, Verifier):
            return verifier if self.has_keys(now) else Unproven()
        proven = verifier.verify(token, now)
        if isinstance(proven, Identity) and digest not in self._chosen:
            if len(self._chosen) >= MAX_VERIFIED:
                del self._chosen[next(iter(self._chosen))]
            self._chosen[digest] = verifier
        return proven

    def _choose(self, token: str) -> Verifier | Rejected:
        claims = unproven_claims(token)
        if claims is None:
            return Rejected(Reason.TOKEN_MALFORMED)
        issuer = claims.get("iss")
        verifier = self._verifiers.get(issuer) if isinstance(issuer, str) else None
        return Rejected(Reason.TOKEN_ISSUER) if verifier is None else verifier


def prover(tokens: TokenSettings, on_unknown_kid: Callable[[int], None]) -> Verifier | Issuers:
    """What proves the tokens of these settings; `on_unknown_kid` is told the number of the block."""

    def asks(number: int) -> Callable[[], None]:
        return lambda: on_unknown_kid(number)

    if not tokens.issuers:
        return Verifier(tokens, asks(0))
    made = {one.issuer: Verifier(one, asks(i)) for i, one in enumerate(tokens.issuers)}
    if None in made or len(made) < len(tokens.issuers):
        raise ValueError("each of several issuers has its own name")
    return Issuers({issuer: one for issuer, one in made.items() if issuer is not None})
