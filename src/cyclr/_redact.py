"""Removes credentials, hosts, users and home folders from stored, logged and printed data, because it may be shared.

Text is searched for typical credentials (in URIs, after names such as `password` and `token`, in known formats). It is
also searched for the credentials and hosts in the command line and in the environment of this process.
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
"""Endings of the names of credentials."""
_SECRET = re.compile(rf"{_WORD}$|_key$", re.IGNORECASE)
_PLACE = re.compile(
    r"(?:^|[_-])(?:address|host(?:name)?|mlflow|(?:base|database|registry|tracking)[_-]ur[il]|endpoint|ip)$",
    re.IGNORECASE,
)
"""Names of entries and options whose value is a host."""
_WITHIN = re.compile(
    r"(?i:auto|local|databricks|none|\*\*\*|(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d+)?)?|[./~].*", re.DOTALL
)
"""Values of such entries that are not hosts: keywords and paths."""

_VALUE = (
    r"(?!\*\*\*|None\b|True\b|False\b|null\b)(?:\\+[\"'][^\"'\n]*[\"']?|"
    r"[bfru]{0,2}\"(?:\\.|[^\"\\\n])*\"?|[bfru]{0,2}'(?:\\.|[^'\\\n])*'?|[(\[{][^\n)\]}]*[)\]}]?|"
    r"(?:bearer|basic|digest|token)[ \t]+[^\s\"'][^\s,;\"']*|[^\s\"'][^\s,;&\"')\]}>]*)"
)
_OF_TEXTS = (
    r"token[\"']?[ \t]*[=:][ \t]*(?:[-+]?(?:\d{1,4}|\d*\.\d+)(?:e[-+]?\d+)?(?![\w-]|\.\w)|[\"']?(?:</?\w+>|\[\w+\]))"
)
"""Tokens of language models, which must not be masked: `loss_per_token: 0.25`, `eos_token: "</s>"`."""
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
"""Names of accounts that do not identify a person."""
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
"""Patterns of credentials. A pattern is searched only if the text contains one of its strings, which is faster."""


class _Context(NamedTuple):
    """Patterns of the private data of this process: its credentials, hosts, home folder and user name."""

    secrets: re.Pattern[str]
    hosts: re.Pattern[str]
    home: re.Pattern[str]
    user: re.Pattern[str]


def redact(value: Any) -> Any:
    """Return JSON data without the credentials, hosts, users and home folders in its text.

    The following becomes `***`:

    - in a URI, also if percent-encoded: the user part, the query and the fragment; the host if there is a user part or
      a port, or if the host has no dot,
    - the value after a name such as `password=`, `"api_key":` or `--token`,
    - tokens of known formats,
    - values of environment variables with such names, and credentials of URIs in the environment and on the command
      line,
    - the host of this machine, and the hosts after `--address` and `--mlflow`.

    Home folders become `~`, and the name of this user becomes `$USER`.

    Args:
        value: text, or lists and dicts of text. The values of entries such as `password` and `host` are masked
            completely.

    Returns:
        The masked data. In names of policies and optimizers (the entry `name` of a dict), only credentials are masked.

    Example:
        >>> from cyclr._redact import redact
        >>> redact(["--mlflow", "https://bob:secret@tracker.example/?token=1", "/home/bob/model.py"])
        ['--mlflow', 'https://***', '~/model.py']
    """
    return _redacted(value, _context())


def _redacted(value: Any, context: _Context) -> Any:
    # A comprehension would use one more frame of Python's recursion limit at each level.
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
    """Return text without credentials, but with hosts and folders, for messages that may name these."""
    return _credentials(text, _context())


def shell(words: Iterable[str]) -> str:
    """Return a redacted command for the shell, which expands `~` in it.

    Example:
        >>> shell(["cyclr", "report", "/home/bob/my run"])
        "cyclr report ~/'my run'"
    """
    typed: list[str] = redact([*words])
    return " ".join(f"~/{shlex.quote(one[2:])}" if one[:2] == "~/" and one[2:] else shlex.quote(one) for one in typed)


def restore(path: str) -> str:
    """Return a path from `redact` with `~` replaced by the home folder, and `$USER` by the user."""
    # `Path` would also change ./x to x, and so change the ids of trials.
    return os.path.expanduser(path.replace("$USER", _user() or "$USER"))  # noqa: PTH111


def _named(name: Any, value: Any) -> Any:
    """Return the value of an option or an entry, masked if the name is one of a credential or a host."""
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
        """Return a word unchanged, or decoded and redacted if the decoded word contains private data."""
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
    """Return text without strings that look like credentials. Call `found` with each of these strings."""

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
        # A host without a dot or with a port does not belong to a public page.
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
    """Return text without home folders, users and hosts."""
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
    # The path of the home folder without symbolic links is private, too.
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
    """Return a pattern of the texts, which matches the longest text that fits. Without texts it matches nothing."""
    return f"(?:{'|'.join(map(re.escape, sorted(filter(None, texts), key=len, reverse=True))) or '(?!)'})"


def _user() -> str | None:
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run under a user id without a name.
        return None
    return name if len(name) > 2 and name.lower() not in _ACCOUNTS else None
