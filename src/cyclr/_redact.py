"""Removes credentials, hosts, users and home folders from what is stored, logged or printed, because it is shared.

Text is searched for what credentials look like (in URIs, beside names such as `password` and `token`, in known
formats), and for the credentials and hosts that the command line and the environment of this process hold.
"""

import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

_MASK = "***"
_WORD = (
    r"(?:pass(?:word|wd|phrase|code)s?|secrets?|token|credentials?|cookie|dsn|bearer|"
    r"(?:api|access|account|private|secret|shared)[_-]?keys?(?:[_-]?id)?|auth(?:orization)?|(?:_|\b)pwd|"
    r"session[_-]?(?:id|token|key))"
)
"""What the name of a credential ends in."""
_SECRET = re.compile(rf"{_WORD}$|_key$", re.IGNORECASE)
_PLACE = re.compile(
    r"(?:^|[_-])(?:address|host(?:name)?|mlflow|(?:base|database|registry|tracking)[_-]ur[il]|endpoint|ip)$",
    re.IGNORECASE,
)
"""Names of values that name a host."""
_WITHIN = re.compile(
    r"(?i:auto|local|databricks|none|\*\*\*|(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d+)?)?|[./~].*", re.DOTALL
)
"""Values of such names that name none: keywords and paths."""

_VALUE = (
    r"(?!\*\*\*|None\b|True\b|False\b|null\b)(?:\\+[\"'][^\"'\n]*[\"']?|"
    r"[bfru]{0,2}\"(?:\\.|[^\"\\\n])*\"?|[bfru]{0,2}'(?:\\.|[^'\\\n])*'?|[(\[{][^\n)\]}]*[)\]}]?|"
    r"(?:bearer|basic|digest|token)[ \t]+[^\s\"'][^\s,;\"']*|[^\s\"'][^\s,;&\"')\]}>]*)"
)
_OF_TEXTS = (
    r"token[\"']?[ \t]*[=:][ \t]*(?:[-+]?(?:\d{1,4}|\d*\.\d+)(?:e[-+]?\d+)?(?![\w-]|\.\w)|[\"']?(?:</?\w+>|\[\w+\]))"
)
"""Tokens of language models, which are no credentials: `loss_per_token: 0.25`, `eos_token: "</s>"`."""
_NAMED = re.compile(
    rf"(?i)(?!{_OF_TEXTS})({_WORD}\\?[\"'`]?\]?[ \t]*(?:=>?|:)[ \t]*|(?<![\w-])--?[\w-]{{0,40}}{_WORD}[ \t]+|"
    rf"\bhost(?:name)?=(?=[\"']))({_VALUE})"
)
_BEARER = re.compile(r"(?i)(\bbearer[ \t]+)([\w.~+/=-]{8,})")
_URI = re.compile(r"(://)([^\s\"'<>`]*[^\s\"'<>`).,:\]}])")
_WHOLE_URI = re.compile(r"(?s)((?:--?[\w-]+=)?[\w+.-]+://)((?:(?!://).)+)")
_PART = re.compile(r"([?#&;](?:[^=?#&;]*=)?)([^?#&;]+)")
_USER = re.compile(r"()((?<![\w:/.%+-])[\w.%+-]+:[^\s/\"']{0,500}[^\s/\"'\]]@[\w\[][\w.:\]-]*)")
_FORMATS = re.compile(
    r"()(\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|"
    r"A[KS]IA[0-9A-Z]{16}|AIza[\w-]{35}|local-[0-9a-f]{40}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)|"
    r"(?s:(?<=-----BEGIN )[A-Z ]*PRIVATE KEY-----.*?(?=-----END|$)))"
)
_ADDRESS = re.compile(
    r"(?i)(\b(?:ip|address|host|node)(?:['\"]?[ \t]*[:=]|[ \t])[ \t]*['\"]?|)"
    r"(?<![\d.])(?!127\.|0\.0)((?:\d{1,3}\.){3}\d{1,3})(?=(:\d)?)"
)
_HOMES = re.compile(
    r"(?<![\w.~-])(?:/(?:export|nfs|var|usr|mnt|net/[^/\s]+|(?:mnt/|cygdrive/)?[a-z]))?/(?:home|Users)"
    r"/(?![~*])[^/\\\s:'\"`,;()<>\[\]{}|]+"
    r"|(?<![\w.~-])/root(?![\w.-])|\b[A-Za-z]:[\\/]+Users[\\/]+(?:[^\\/:*?\"'<>|\n]+(?=[\\/])|[^\\/\s:*?\"'<>|]+)"
)
_ACCOUNTS = {"admin", "app", "build", "data", "docker", "guest", "home", "jovyan", "nobody", "root", "runner", "test"}
_ACCOUNTS |= {"debian", "ubuntu", "user", "users", "model"}
"""Names of accounts that name nobody."""
_KEYWORDS = {"basic", "localhost", "bearer", "default", "disabled", "enabled", "false", "offline", "online", "shared"}
_SEARCHES = (
    (
        _NAMED,
        ("pass", "secret", "token", "credential", "cookie", "dsn", "key", "auth", "pwd", "session", "bearer", "host"),
    ),
    (_BEARER, ("bearer",)),
    (_USER, ("@",)),
    (_FORMATS, ("_", "-", "AKIA", "ASIA", "AIza", "eyJ")),
)
"""Patterns of credentials, and texts of which one must be there: looking for these is quicker."""


class _Context(NamedTuple):
    """What is private in this process: patterns of credentials, hosts and the home folder, and the name of its user."""

    secrets: re.Pattern[str]
    hosts: re.Pattern[str]
    home: re.Pattern[str]
    user: re.Pattern[str]


def redact(value: Any) -> Any:
    """Return JSON data whose text holds no credentials, no host, no user and no home folder.

    Credentials become `***`: the user part, the query and the fragment of a URI (percent-encoded ones too), with its
    host if that has a user part, a port or no dot; what follows a name such as `password=`, `"api_key":` or `--token`;
    tokens of known formats; and what environment variables of such names, and URIs in the environment and on the
    command line, hold. So do the host of this machine and those of `--address` and `--mlflow`. Home folders become `~`,
    the name of this user `$USER`.

    Args:
        value: text, or lists and dicts that hold text. The values of names like `password` and `host` are masked whole.

    Returns:
        The same data, masked. Names of policies and optimizers (the entry `name` of a dict) lose only credentials.

    Example:
        >>> from cyclr._redact import redact
        >>> redact(["--mlflow", "https://bob:secret@tracker.example/?token=1", "/home/bob/model.py"])
        ['--mlflow', 'https://***', '~/model.py']
    """
    return _redacted(value, _context())


def _redacted(value: Any, context: _Context) -> Any:
    # No comprehension, which takes a frame of Python's recursion limit at each level.
    if isinstance(value, str):
        return _text(value, context)
    if isinstance(value, dict):
        table: dict[Any, Any] = {}
        for name, entry in value.items():
            if name == "name" and isinstance(entry, str):
                table[name] = _credentials(entry, context)
            else:
                table[_redacted(name, context)] = _redacted(_named(name, entry), context)
        return table
    if isinstance(value, list | tuple):
        words: list[Any] = []
        option: Any = ""
        for entry in value:
            word = _named(option, entry)
            option, separator, given = ("",) * 3
            if isinstance(word, str) and word.startswith("-"):
                option, separator, given = word.partition("=")
            if separator:
                word, option = f"{option}={_named(option, given)}", ""
            words.append(_redacted(word, context))
        return words
    return value


def credentials(text: str) -> str:
    """Return text without credentials, for a message that may name a host or a folder."""
    return _credentials(text, _context())


def shell(words: Iterable[str]) -> str:
    """Return a command to be typed, redacted; the shell expands `~` in it.

    Example:
        >>> shell(["cyclr", "report", "/home/bob/my run"])
        "cyclr report ~/'my run'"
    """
    typed: list[str] = redact([*words])
    return " ".join(f"~/{shlex.quote(one[2:])}" if one[:2] == "~/" and one[2:] else shlex.quote(one) for one in typed)


def restore(path: str) -> str:
    """Return a path with the home folder for `~` and the user for `$USER`, as `redact` wrote them."""
    # Path would also write ./x as x, and so change the ids of trials.
    return os.path.expanduser(path.replace("$USER", _user() or "$USER"))  # noqa: PTH111


def _named(name: Any, value: Any) -> Any:
    """Return the value of an option or an entry, masked if its name says that it is a credential or a host."""
    if not isinstance(name, str) or not name or value is None or isinstance(value, bool) or value in ("", [], {}):
        return value
    if _SECRET.search(name) and (not isinstance(value, int | float) or "pass" in name.lower()):
        return _MASK
    return _place(value) if isinstance(value, str) and _PLACE.search(name) else value


def _place(value: str) -> str:
    if _WITHIN.fullmatch(value):
        return value
    scheme, separator, rest = value.partition("://")
    return value if rest.startswith("/") else f"{scheme}{separator}{_MASK}" if separator else _MASK


@functools.lru_cache(maxsize=256)
def _text(text: str, context: _Context) -> str:
    return _places(_credentials(text, context), context)


def _credentials(text: str, context: _Context) -> str:
    def decoded(word: re.Match[str]) -> str:
        """Return a word as it is, or decoded and redacted if there is something to redact in it."""
        plain = word[0]
        for _ in range(5):
            plain, before = unquote(plain), plain
            if plain == before:
                break
            if (clean := _places(_mask(plain), context)) != plain:
                return clean
        return word[0]

    text = _mask(context.secrets.sub(_MASK, text))
    return re.sub(r"[^\s\"'<>]+", decoded, text) if "%" in text else text


def _mask(text: str, found: Callable[[str], Any] = bool) -> str:
    """Return text without what looks like a credential, and report each that is found."""

    def masked(match: re.Match[str]) -> str:
        found(match[2])
        return match[1] + _MASK

    def uri(match: re.Match[str]) -> str:
        rest = match[2]
        user, at, place = rest.rpartition("@")
        is_private = bool(at) and ("/" not in user or ":" in user.partition("/")[0])
        if is_private:
            found(user)
            rest = place
        host = re.split(r"[/?#]", rest, maxsplit=1)[0]
        # A host without a dot or with a port is none of a public page.
        if is_private or not (_WITHIN.fullmatch(host) or re.fullmatch(r"[^.:]+\.[^:]+", host)):
            rest = _MASK + rest[len(host) :]
        return match[1] + _PART.sub(masked, rest)

    if "://" in text:
        text = _WHOLE_URI.sub(uri, text) if _WHOLE_URI.fullmatch(text) else _URI.sub(uri, text)
    lower = text.lower()
    for pattern, signs in _SEARCHES:
        if any(sign.lower() in lower for sign in signs):
            text = pattern.sub(masked, text)
    return text


def _places(text: str, context: _Context) -> str:
    """Return text without the home folders, users and hosts that it names."""
    text = context.user.sub("$USER", context.home.sub("~", text))
    if "home/" in text or "Users" in text or "/root" in text:
        text = _HOMES.sub(lambda match: match[0] if match[0].endswith("$USER") else "~", text)
    text = context.hosts.sub(_MASK, text)
    return _ADDRESS.sub(lambda match: match[1] + _MASK if match[1] or match[3] else match[0], text)


def _context() -> _Context:
    home = os.path.expanduser("~")  # noqa: PTH111
    return _made_context(tuple(sys.argv), tuple(os.environ.items()), home, _user())


@functools.lru_cache(maxsize=4)
def _made_context(
    arguments: tuple[str, ...], variables: tuple[tuple[str, str], ...], home: str, user: str | None
) -> _Context:
    import socket

    secrets = [value for name, value in variables if _SECRET.search(name) and name not in ("PWD", "OLDPWD")]
    places = [value for name, value in variables if _PLACE.search(name)]
    for text in filter(_WHOLE_URI.fullmatch, (*arguments, *(value for _, value in variables))):
        _mask(text, secrets.append)
    for option, following in zip(arguments, (*arguments[1:], ""), strict=True):
        name, separator, rest = option.partition("=")
        if name.startswith("-"):
            value = rest if separator else following
            secrets += [value] if _SECRET.search(name) else []
            places += [value] if _PLACE.search(name) else []
    wholes = {form for one in secrets for form in (one, unquote(one))}
    parts = {part for whole in wholes for part in (whole, *whole.split(":", 1))}
    hosts = {socket.gethostname()}
    for place in places:
        if not _WITHIN.fullmatch(place):
            host = re.split(r"[/?#]", place.rpartition("://")[2])[0].rpartition("@")[2]
            hosts.add(re.sub(r":\d+$", "", host))
    # A home folder is known by its path without symbolic links, too.
    homes = {path.rstrip("/\\") for path in (home, os.path.realpath(home)) if os.path.isabs(path)}  # noqa: PTH117
    return _Context(
        secrets=_words({one.strip("\"'") for one in parts if len(one) > 4} - _KEYWORDS),
        hosts=_words({one for one in hosts if len(one) > 1} - _KEYWORDS),
        home=re.compile(rf"{_either(homes)}(?![\w-]|\.\w)"),
        user=_words({user} if user else ()),
    )


def _words(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){_either(texts)}(?![^\W_])")


def _either(texts: Iterable[str]) -> str:
    """Return a pattern of one of these texts, the longest if several fit; without texts it matches nothing."""
    return f"(?:{'|'.join(map(re.escape, sorted(filter(None, texts), key=len, reverse=True))) or '(?!)'})"


def _user() -> str | None:
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run as a number without a name.
        return None
    return name if len(name) > 2 and name.lower() not in _ACCOUNTS else None
