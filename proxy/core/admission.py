"""May this upstream answer be stored, as whose, and what does the client get? One pure decision."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from proxy.core import policy
from proxy.core.credentials import reflected
from proxy.core.headers import Headers, RawHeaders
from proxy.core.keys import Identified, dig, identify, truth, user_id
from proxy.core.model import Entry, Reason, Ref, Reply
from proxy.core.redaction import Redactor, strip_json
from proxy.core.representation import reflects_host, stored_headers
from proxy.core.settings import SecretsRule, UserModel, View
from proxy.core.tokens import is_time


class Rules(msgspec.Struct, frozen=True):
    """What a cached route says about its answers.

    `credentials_checked`: the route's access rule was applied to this caller, so RFC 9111 §3.5 is met by
    it. `private`: the copy is one caller's. `per_token`: the answer belongs to one token and need not be a
    user. `opaque`: nothing but the answer says whose token it is, under one of these paths, and when it ends.
    `sent`: the token, and what else is stored nowhere, not even where an answer repeats it.
    """

    view: View
    model: UserModel
    redactor: Redactor
    secrets: SecretsRule
    credentials_checked: bool
    per_token: bool = False
    opaque: tuple[tuple[str, ...], ...] = ()
    token_exp: float | None = None
    private: bool = False
    credential_headers: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What became of an answer; `headers` and `body` are what the client gets.

    After `admit`, either `entry` (to be stored) or `reason` (why not) is set.
    `taken` holds the dotted paths of the fields that were taken out.
    """

    entry: Entry | None
    reason: Reason | None
    headers: RawHeaders
    body: bytes
    taken: tuple[str, ...] = ()
    document: Any = None


def admit(
    rules: Rules,
    ref: Ref,
    request_headers: Headers,
    reply: Reply,
    body: bytes,
    *,
    asked: float,
    now: float,
) -> Verdict:
    """Judges a complete answer (`body`, at most `model.max_size` bytes) that was asked for under `ref`.

    `asked` and `now` are when its request was sent and when its head arrived.

    Secret-looking members are out of the result whatever the status, unless the route says bypass.
    """
    answer = clean(rules.redactor, rules.secrets, reply, body)
    if answer.reason is not None:
        return answer
    headers = Headers(reply.headers)
    body, document, taken = answer.body, answer.document, answer.taken

    def skip(reason: Reason) -> Verdict:
        return replace(answer, reason=reason)

    storable = policy.storable(
        view=rules.view,
        status=reply.status,
        request_headers=request_headers,
        reply_headers=headers,
        authorized_by_rule=rules.credentials_checked,
        now=now,
        asked=asked,
        token_exp=_end(rules, document),
        negative_allowed=not rules.per_token,
        private=rules.private,
        credential_headers=rules.credential_headers,
    )
    if isinstance(storable, policy.Skip):
        return skip(storable.reason)
    whose = _whose(rules, ref, reply.status, document, body)
    if isinstance(whose, Reason):
        return skip(whose)
    if reflects_host(request_headers, body):
        return skip(Reason.HOST_REFLECTED)
    said = (body, *(value for _, value in reply.headers))
    if not rules.private and reflected(request_headers, rules.credential_headers, *said):
        return skip(Reason.CREDENTIALS_REFLECTED)
    if any(sent.encode("utf-8", "surrogatepass") in text for sent in rules.sent for text in said):
        return skip(Reason.CREDENTIALS_REFLECTED)
    entry = Entry(
        user_id=whose.user_id or None,
        keys=whose.keys,
        active=whose.active,
        status=reply.status,
        headers=stored_headers(headers, changed=bool(taken), body=body),
        body=body,
        stored=now,
        expires=now + storable.lifetime,
        dead=now + storable.dead_after,
        age=storable.age,
    )
    return Verdict(entry, None, entry.headers, body, taken, document)


def clean(redactor: Redactor, secrets: SecretsRule, reply: Reply, body: bytes) -> Verdict:
    """The answer without secret-looking members; `reason` is set where it can't be looked into or may not be
    touched."""
    headers = Headers(reply.headers)
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        return Verdict(None, Reason.ENCODED, reply.headers, body)
    document = parse(body)
    if document is None or redactor.find(document) is None:
        return Verdict(None, None, reply.headers, body, (), document)
    if secrets is SecretsRule.BYPASS:
        return Verdict(None, Reason.SECRET_FOUND, reply.headers, body, (), document)
    body, taken = strip_json(redactor, body)
    kept = stored_headers(headers, changed=True, body=body)
    return Verdict(None, None, kept, body, taken, parse(body))


def _whose(rules: Rules, ref: Ref, status: int, document: Any, body: bytes) -> Identified | Reason:
    if status == 404:
        return Identified(ref.value if ref.key == "id" else "", {}, None)
    if document is None:
        return Reason.NOT_JSON if body else Reason.NOT_A_USER
    if rules.per_token:
        path = rules.model.active
        inactive = path is not None and truth(dig(document, path)) is False
        # What says that a token is bad is asked for each time.
        if inactive or (isinstance(document, dict) and document.get("active") is False):
            return Reason.NOT_A_USER
        return _whose_token(rules, ref, document) if rules.opaque else Identified(ref.value, {}, None)
    return whose_user(rules.model, rules.view, ref, document)


def _whose_token(rules: Rules, ref: Ref, document: Any) -> Identified | Reason:
    named = {whose for path in rules.opaque if (whose := user_id(dig(document, path))) is not None}
    # Two names for one user would leave the copy behind when the user is written under the other.
    return Identified(named.pop(), {ref.key: ref.value}, None) if len(named) == 1 else Reason.NOT_A_USER


def _end(rules: Rules, document: Any) -> float | None:
    """When the token ends, by itself or by what the answer says of it (RFC 7662 §2.2)."""
    exp = document.get("exp") if isinstance(document, dict) and rules.per_token else None
    if exp is None:
        return rules.token_exp
    if not is_time(exp):
        # Of an opaque token nothing else is known. What can't be read as a time is one that is over.
        return 0.0 if rules.opaque else rules.token_exp
    return float(exp) if rules.token_exp is None else min(float(exp), rules.token_exp)


def whose_user(model: UserModel, view: View, ref: Ref | None, document: Any) -> Identified | Reason:
    """The user that `document` is, provided it is the one that `ref`, if given, asked for (design §7.2)."""
    identified = identify(model, document)
    if identified is None:
        return Reason.NOT_A_USER
    if ref is not None:
        proven = identified.user_id if ref.key == "id" else identified.keys.get(ref.key)
        if proven != ref.value:
            return Reason.OTHER_USER
    if view.fields is not None and not view.fields.issuperset(document):
        return Reason.FIELD_NOT_LISTED
    return identified


def parse(body: bytes) -> Any:
    """The JSON value, or None where the text is none (or is the value null, which is no user either)."""
    try:
        return orjson.loads(body)
    except ValueError:
        return None
