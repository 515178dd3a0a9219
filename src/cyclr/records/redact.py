"""Removes credentials and home folders from text that is stored or shown: records and pages are shared."""

import re
from pathlib import Path
from typing import Any

_URI = re.compile(r"(?<=://)\S*")
_USER = re.compile(r"^[^/?#\"]*@")
_QUERY = re.compile(r"([?&;#][^=&;#]*=)[^&;#\"')>]*")
_HOME = re.compile(
    r"(?<![\w.~-])(?:/home/[^/\s:'\"]+|/Users/[^/\s:'\"]+|/root|[A-Za-z]:\\Users\\[^\\\s'\"]+)(?![\w.-])"
)


def redact(value: Any) -> Any:
    """Return JSON data whose text holds no credentials of URIs and no home folder.

    Args:
        value: text, or lists and dicts that hold text.

    Returns:
        The same data, in which the user part of a URI and every value of its query are `***`, and home folders (the
        home folder of this process, `/home/NAME`, `/Users/NAME`, `/root`) are `~`.

    Example:
        >>> from cyclr.records.redact import redact
        >>> redact(["--mlflow", "https://bob:secret@tracker.example/?token=1", "/home/bob/model.py"])
        ['--mlflow', 'https://***@tracker.example/?token=***', '~/model.py']
    """
    if isinstance(value, str):
        text = _URI.sub(lambda uri: _QUERY.sub(r"\1***", _USER.sub("***@", uri[0])), value)
        home = str(Path.home())
        return _HOME.sub("~", re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text)
    # No comprehension, which takes a frame of Python's recursion limit at each level.
    if isinstance(value, dict):
        return dict(zip(map(redact, value), map(redact, value.values()), strict=True))
    return [*map(redact, value)] if isinstance(value, list | tuple) else value
