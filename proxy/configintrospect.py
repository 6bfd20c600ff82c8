"""The `introspect` block of a route: where the answer about a token comes from, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from proxy.configfile import Node, Reader
from proxy.configvalues import choice, dotted, duration, one_of, quoted, text_value
from proxy.core.introspection import MEMBERS
from proxy.core.redaction import Redactor
from proxy.core.settings import Answer, Introspect, Template, UserModel
from proxy.core.template import path_variables, query_variables
from proxy.core.tokenplace import HEADER, TokenPlace, Where

# RFC 7662 §2.2 has a name for it, and nothing else of a user.
USERNAME = "username"
_BUILT = ("fields", "claims")
_FORM = ("form", "caller_ttl")
TOKEN = "token"  # RFC 7662 §2.1
CALLER_TTL = 60.0
_PARAMETER = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_introspect(
    reader: Reader,
    node: Node,
    template: Template,
    *,
    user: UserModel,
    views: Collection[str],
    has_tokens: bool,
    token_from: TokenPlace,
) -> Introspect | None:
    """The block, checked against the others."""
    table = reader.table(node, ("answer", "view", "subject", *_BUILT, *_FORM))
    answer = reader.required(table, "answer", _answer, None, "view")
    view = reader.required(table, "view", one_of("view", views), "", "users")
    nowhere: tuple[str, ...] = ()
    subject = reader.value(table, "subject", dotted, nowhere)
    if has_tokens and "subject" in table:
        reader.wrong(
            table.members["subject"], "is for opaque tokens; give tokens.subject, or remove the block"
        )
    if not has_tokens and answer not in (Answer.UPSTREAM, None):
        told = f"{answer.value!r} needs a 'tokens' block; add it, or give upstream for opaque tokens"
        reader.wrong(table.members["answer"], told)
    for name in _BUILT:
        if name in table and answer not in (Answer.RFC7662, None):
            reader.wrong(table.members[name], "is for answers that are built here; give answer: rfc7662")
    posted = template.methods == {"POST"}
    for name in _FORM:
        if name in table and not posted:
            reader.wrong(table.members[name], "is for POST, where the token is in a form; give match: POST …")
    if "caller_ttl" in table and not has_tokens:
        # Each answer is one caller's, so nobody is remembered.
        reader.wrong(table.members["caller_ttl"], "is for tokens that are proven here; remove it")
    _check_variables(reader, node, template, HEADER if posted else token_from)
    if not answer or not view:
        return None
    redactor = Redactor(user.secrets)
    fields = _names(reader, table, "fields", _field(redactor))
    claims = _names(reader, table, "claims", _claim(redactor))
    twice = [name for name in claims if name in fields]
    if twice:
        reader.wrong(table.members["claims"], f"{twice[0]!r} is in fields as well; keep one")
    return Introspect(
        answer=answer,
        view=view,
        opaque=() if has_tokens else (subject,) if subject else (("sub",), user.id),
        fields=fields if "fields" in table or answer is not Answer.RFC7662 else (USERNAME,),
        claims=claims,
        form=reader.value(table, "form", _parameter, TOKEN) if posted else "",
        caller_ttl=reader.value(table, "caller_ttl", duration, CALLER_TTL) if posted else 0.0,
    )


def _check_variables(reader: Reader, node: Node, template: Template, place: TokenPlace) -> None:
    """Nothing but the token may be variable."""
    carries = [part for key, part in template.query if place.where is Where.QUERY and key == place.name]
    if place.where is Where.QUERY and not carries:
        example = f"add {place.name}={{token}}"
        reader.wrong(node, f"token_from: the match lacks the parameter {place.name!r}; {example}")
    for name, var in (path_variables(template) | query_variables(template)).items():
        if var not in carries:
            reader.wrong(node, f"the variable {name!r} is not part of the key; the token alone is")


def _names(reader: Reader, table: Node, name: str, read: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reader.texts(table.members[name], read))) if name in table else ()


def _field(redactor: Redactor) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in MEMBERS - {USERNAME}:
            raise ValueError(f"{text!r} is what the token says; leave it out, it is always shown")
        return _innocent(redactor, text)

    return read


def _claim(redactor: Redactor) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text == USERNAME:
            raise ValueError(f"{text!r} is the user's; give it in fields")
        if text in MEMBERS:
            raise ValueError(f"{text!r} is always shown; leave it out")
        return _innocent(redactor, text)

    return read


def _parameter(text: str) -> str:
    if _PARAMETER.fullmatch(text) is None:
        raise ValueError(f"{quoted(text)} is not the name of a parameter; give e.g. token")
    return text


def _innocent(redactor: Redactor, text: str) -> str:
    if redactor.secret_name(text_value(text)):
        raise ValueError(f"{quoted(text)} looks like a secret; remove it")
    return text


def _answer(text: str) -> Answer:
    return Answer(choice(*Answer)(text))
