"""Which members of a JSON document are secrets, and the document without them (design §4, "Secrets")."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial

from proxy.core.cachecontrol import http_date
from proxy.core.jsontext import Path, without_members

# Words and joined words. A name is secret where whole words of it, put together, make one of these, so
# `apiKey`, `API-key` and `user.api_keys2` are, while `passenger`, `saltwater` and `pinned` are not. Plural
# forms and digits between need no line of their own.
_BY_USE = {
    "what a password is kept as": (
        "password passwd pwd pswd passphrase passcode userpass hash hashed salt secret credential "
        "passwort kennwort contrasena motdepasse"
    ),
    "second factors, and ways around the first": (
        "totp hotp otp otpauth mfa 2fa twofactor passkey recoverycode recoverykey recoverytoken "
        "recoveryphrase recoveryanswer backupcode backupkey scratchcode seedphrase securityanswer"
    ),
    "keys": "privatekey apikey accesskey secretkey signingkey encryptionkey masterkey authkey",
    "what logs its bearer in (token_type and token_version do not)": (
        "accesstoken refreshtoken sessiontoken idtoken authtoken apitoken bearertoken resettoken "
        "remembertoken verificationtoken confirmationtoken activationtoken invitationtoken csrftoken "
        "xsrftoken devicetoken pushtoken jwt sessionid sessionkey"
    ),
    "what opens a person's accounts elsewhere": (
        "ssn socialsecurity cvv cvc creditcard cardnumber userpin cardpin atmpin"
    ),
}
_SECRET = frozenset(word for words in _BY_USE.values() for word in words.split())
# Secret only as the whole name: parts of too many innocent ones. `pin_code` is a postal code in India.
_SECRET_ALONE = frozenset({"pass", "pin", "token", "tokens", "recovery"})
# Names without any gap: long enough to mean nothing else wherever they stand.
_FRAGMENTS = re.compile(
    "passwd|password|passphrase|passcode|apikey|accesstoken|refreshtoken|sessiontoken|privatekey|secretkey"
    "|backupcode|recoverycode|clientsecret|totpsecret|otpsecret|mfasecret|pwdhash|passhash|creditcard"
    "|passwort|kennwort"
)
# Taken out before the words are judged.
_INNOCENT = frozenset(
    {
        *("hashtag", "hashtags", "passwordless"),
        *(f"{what}hash" for what in ("avatar", "banner", "image", "file", "content", "commit", "blur")),
    }
)

# Facts about a secret are none: `password_changed_at`, `mfa_enabled`, `has_password`, `token_expires_in`.
_FACT_FIRST = frozenset(
    {"has", "is", "must", "needs", "requires", "require", "force", "can", "should", "was"}
)
_FACT_LAST = frozenset(
    {
        *(
            "at",
            "on",
            "date",
            "count",
            "enabled",
            "disabled",
            "required",
            "policy",
            "set",
            "verified",
            "expired",
        ),
        *("change", "changed", "updated", "modified", "strength", "age"),
    }
)
_FACT_WITHIN = "expire"
# All of the above as text: another list takes out something else.
BUILT_IN = repr(
    [sorted(one) for one in (_SECRET, _SECRET_ALONE, _INNOCENT, _FACT_FIRST, _FACT_LAST)]
    + [_FRAGMENTS.pattern, _FACT_WITHIN]
)
_ISO_DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?( ?(Z|UTC|[+-]\d\d:?\d\d))?)?", re.ASCII
)

_LONGEST_DATE = 40  # characters

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_A-Za-z0-9]+")
# What a path shows: members may be called by e-mail addresses, phone numbers and ids, which no log may hold.
_PLAIN_NAME = re.compile(r"\[\]|[A-Za-z_$][A-Za-z0-9_$. -]{0,63}")
_PLAIN_LEAF = re.compile(r"[A-Za-z0-9_$. -]{1,64}")
_LONGEST_SECRET = max(map(len, _SECRET)) + 2  # with a plural
MAX_NAME = 256  # characters; no field is called that, and judging it would take long
_REMEMBERED = 4096  # names


class _Kind(Enum):
    INNOCENT = 0
    SECRET = 1
    FACT = 2
    NAMED = 3


class Redactor:
    """Finds and takes out secret-looking members by their names, at any depth.

    `extra` are names of the settings: they match as whole names in any spelling and have no exemptions.
    Values are looked at only where a name speaks of a fact about a secret (`password_set`), which is
    believed of a number, a truth value, null or a date, and of nothing else. Text that holds JSON itself is
    text: it is not looked into. Letters of other alphabets that look like Latin ones are not recognised.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = frozenset("".join(_words(name)) for name in extra) - {""}
        self._kinds: dict[str, _Kind] = {}

    def secret_name(self, name: str) -> bool:
        """Whether a member of that name is a secret whatever its value."""
        return self._kind(name) in (_Kind.SECRET, _Kind.NAMED)

    def strip(self, document: object) -> tuple[object, tuple[str, ...]]:
        """A copy without secret members, and their dotted paths (`[]` in arrays); the document itself and ()
        when there are none."""
        taken = tuple(dict.fromkeys(self._paths(document)))
        return (self._copied(document), taken) if taken else (document, ())

    def find(self, document: object) -> str | None:
        """The dotted path of a secret member, of the outermost first; None when there is none."""
        return next(self._paths(document), None)

    def secret(self, name: str, value: object) -> bool:
        """Whether this member is a secret."""
        kind = self._kind(name)
        return kind is not _Kind.INNOCENT and (kind is not _Kind.FACT or not _is_fact(value))

    def _paths(self, document: object) -> Iterator[str]:
        todo: deque[tuple[object, Path]] = deque([(document, None)])
        while todo:
            node, path = todo.popleft()
            if isinstance(node, dict):
                for name, value in node.items():
                    if self._takes(name, value):
                        yield dotted(path, name)
                    elif isinstance(value, dict | list | tuple):
                        todo.append((value, (path, str(name))))
            elif isinstance(node, list | tuple):
                inside = (path, "[]")
                todo.extend((item, inside) for item in node if isinstance(item, dict | list | tuple))

    def _copied(self, document: object) -> object:
        root: list[object] = []
        # What is still to be copied, and how the copy is put into its parent.
        todo: list[tuple[object, Callable[[object], None]]] = [(document, root.append)]
        while todo:
            node, put = todo.pop()
            if isinstance(node, dict):
                # All names first, so that members keep their order whenever their values arrive.
                members = {name: value for name, value in node.items() if not self._takes(name, value)}
                put(members)
                todo += [(value, partial(members.__setitem__, name)) for name, value in members.items()]
            elif isinstance(node, list | tuple):
                items = list(node)
                put(items)
                todo += [(item, partial(items.__setitem__, index)) for index, item in enumerate(items)]
            else:
                put(node)
        return root[0]

    def _takes(self, name: object, value: object) -> bool:
        return isinstance(name, str) and self.secret(name, value)

    def _kind(self, name: str) -> _Kind:
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._judged(name)
            if len(self._kinds) >= _REMEMBERED:
                self._kinds.clear()
            self._kinds[name] = kind
        return kind

    def _judged(self, name: str) -> _Kind:
        if len(name) > MAX_NAME:
            return _Kind.NAMED
        words = _words(name)
        if "".join(words) in self._extra:
            return _Kind.NAMED
        if not _names_secret(words):
            return _Kind.INNOCENT
        letters = [word for word in words if not word.isdigit()]
        fact = letters and (letters[0] in _FACT_FIRST or letters[-1] in _FACT_LAST)
        fact = fact or any(word.startswith(_FACT_WITHIN) for word in letters)
        return _Kind.FACT if fact else _Kind.SECRET


def strip_json(redactor: Redactor, body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A JSON text without secret members, every other byte as it was, and their dotted paths.

    `body` must be JSON that orjson reads.
    """
    taken: dict[str, None] = {}

    def unwanted(path: Path, name: str, value: object) -> bool:
        secret = redactor.secret(name, value)
        if secret:
            taken[dotted(path, name)] = None
        return secret

    return without_members(body, unwanted), tuple(taken)


def dotted(path: Path, name: str) -> str:
    """`user.devices.[].pin`; names that may be personal data are shown as `*`."""
    names = [name if _PLAIN_LEAF.fullmatch(name) else "*"]
    while path is not None:
        path, parent = path
        names.append(parent if _PLAIN_NAME.fullmatch(parent) else "*")
    return ".".join(reversed(names))


def _words(name: str) -> list[str]:
    """The lower-case words and numbers of a name in snake, camel, kebab or any other case.

    Compatibility forms (full-width letters), accents and invisible characters are undone first.
    """
    if not name.isascii():
        marks = ("M", "C")
        decomposed = unicodedata.normalize("NFKD", name)
        name = "".join(char for char in decomposed if unicodedata.category(char)[0] not in marks)
    return [word.lower() for word in _WORD.findall(name)]


def _names_secret(words: list[str]) -> bool:
    if "".join(words) in _SECRET_ALONE:
        return True
    letters = [word for word in words if not word.isdigit()]
    return _runs_secret(letters) or (len(letters) < len(words) and _runs_secret(words))


def _runs_secret(words: list[str]) -> bool:
    """Whether words in a row, put together, are a secret's name, or all of them hold a fragment of one."""
    rest: list[str] = []
    at = 0
    while at < len(words):
        runs = _runs(words, at)
        innocent = next((length for length, run in runs if run in _INNOCENT), 0)
        if innocent:
            rest.append(" ")
        elif any(_is_secret_word(run) for _, run in runs):
            return True
        else:
            rest.append(words[at])
        at += innocent or 1
    return _FRAGMENTS.search("".join(rest)) is not None


def _runs(words: list[str], at: int) -> list[tuple[int, str]]:
    """(number of words, the words put together) for every row of words that begins there."""
    runs = []
    run = ""
    for length, word in enumerate(words[at : at + _LONGEST_SECRET], start=1):
        run += word
        if len(run) > _LONGEST_SECRET:
            break
        runs.append((length, run))
    return runs


def _is_secret_word(word: str) -> bool:
    return not _SECRET.isdisjoint((word, word.removesuffix("s"), word.removesuffix("es")))


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_DATE and (
            _ISO_DATE.fullmatch(value) is not None or http_date(value) is not None
        )
    return value is None or isinstance(value, bool | int | float)
