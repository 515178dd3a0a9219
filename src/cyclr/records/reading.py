"""Read files and folders that cyclr wrote. Errors describe other files, and name the command that takes them."""

import os
from pathlib import Path
from typing import Any

from cyclr import _files, _plain
from cyclr._checks import did_you_mean, quoted
from cyclr.bounds import Bounds
from cyclr.errors import CyclrError
from cyclr.range_test import RangeTestResult
from cyclr.records.folder import RunFolder
from cyclr.schedules import Schedule

_RECORDS = "holds records of trials. Name the folder of their run, which has run.json and records.jsonl."
_MEMBERS = "holds the members of a Snapshots, which are weights. Predict with them: ensemble(model, snapshots.members)."
_SUFFIXES = {
    (".html", ".htm"): "is a page already. Open it in a browser.",
    (".png", ".jpg", ".jpeg", ".svg", ".pdf"): "is a picture. Name the run folder or the .json file beside it.",
    (".jsonl",): _RECORDS,
    (".csv",): "is a table. Name the run folder that it was made from.",
    (".toml",): "describes a comparison that may not have run. Run it: cyclr compare {path}",
    (".py",): "is a Python file. Test the model of a function in it: cyclr range-test --model {path}:function",
    (".npz", ".idx", ".gz"): "is data. Train a small network on it: cyclr demo --data {path}",
    (".h5", ".keras", ".safetensors", ".pt", ".pth", ".ckpt"): "holds the weights of a model, which have no page.",
}

_TAKEN_BY = {
    RunFolder: "a run. Look at it: cyclr report {path}",
    RangeTestResult: "the result of a range test. Look at it: cyclr report {path}",
    Schedule: "a schedule. Draw it: cyclr plot --schedule {path}",
    Bounds: "bounds. Train between them: cyclr compare --policy schedule:{path} --epochs 8",
}


def read(path: str | os.PathLike[str]) -> RunFolder | RangeTestResult | Schedule | Bounds:
    """Read a run, the result of a range test, a schedule or bounds, as cyclr wrote them.

    Args:
        path: a run folder or its run.json or records.jsonl, the folder of a range test, or the JSON file of a range
            test, of a schedule or of bounds (their `to_dict()`).

    Raises:
        CyclrError: the path does not exist or holds something else. The message describes the content, and names a
            command that takes it.
        RunFolderError: the files of a run folder are invalid.
        OSError: the file cannot be read.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from cyclr import OneCycle
        >>> from cyclr.records.reading import read
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "schedule.json")
        ...     _ = file.write_text(json.dumps(OneCycle(0.01, 0.1, 100).to_dict()))
        ...     read(file) == OneCycle(0.01, 0.1, 100)
        True
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = did_you_mean(path.name, names)
        raise CyclrError(f"{str(path)!r} does not exist. {close or 'Check the path.'}")
    if path.name in ("run.json", "records.jsonl"):
        return _read_folder(path.parent)
    _files.check_regular(path)
    for suffixes, what in _SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            raise CyclrError(f"{str(path)!r} {what.format(path=path)}")
    try:
        description = _plain.read_json(path)
    except UnicodeDecodeError:
        raise CyclrError(f"{str(path)!r} must be a JSON file that cyclr wrote; it holds binary data.") from None
    except ValueError as error:
        raise CyclrError(f"{str(path)!r} must be a JSON file that cyclr wrote; it is not JSON: {error}.") from error
    return _described(path, description)


def unfit(path: str | os.PathLike[str], found: object) -> CyclrError:
    """Return the error for a command that cannot take what `read` found. The message names a command that can."""
    what = next(what for kind, what in _TAKEN_BY.items() if isinstance(found, kind))
    return CyclrError(f"{os.fspath(path)!r} holds {what.format(path=path)}")


def _described(path: Path, description: Any) -> RangeTestResult | Schedule | Bounds:
    """Return the object that the content of a JSON file describes."""
    keys = description.keys() if isinstance(description, dict) else set()
    if {"spec", "versions"} <= keys:
        raise CyclrError(f"{str(path)!r} describes a run, but holds no results. Name the folder of the run.")
    if {"trial", "policy"} <= keys:
        raise CyclrError(f"{str(path)!r} {_RECORDS}")
    if {"members", "shapes"} <= keys:
        raise CyclrError(f"{str(path)!r} {_MEMBERS}")
    if isinstance(of_demo := description.get("range_test") if keys else None, dict):
        # results.json of a demo of version 0.1.
        return RangeTestResult.from_dict(of_demo)
    try:
        if "schedule" in keys:
            return Schedule.from_dict(description)
        if {"lr", "loss"} & keys:
            return RangeTestResult.from_dict(description)
        if {"base_lr", "max_lr", "status"} <= keys:
            return Bounds(**description)
    except (ValueError, TypeError) as error:
        raise CyclrError(f"{str(path)!r} cannot be read: {error}") from error
    found = f"the entries {', '.join(map(quoted, [*keys][:5]))}" if keys else f"a {type(description).__name__}"
    raise CyclrError(f"{str(path)!r} must be the JSON of a range test, a schedule, bounds or a run; it holds {found}.")


def _read_folder(folder: Path) -> RunFolder | RangeTestResult:
    if (folder / "run.json").is_file():
        return RunFolder.read(folder)
    if (folder / "range_test.json").is_file():
        return RangeTestResult.load(folder / "range_test.json")
    if (folder / "members.json").is_file():
        raise CyclrError(f"{str(folder)!r} {_MEMBERS}")
    if (folder / "records.jsonl").is_file():
        raise CyclrError(f"{str(folder)!r} has records.jsonl, but no run.json, its description. Restore run.json.")
    entries = sorted(folder.iterdir())
    if not entries:
        raise CyclrError(f"{str(folder)!r} is an empty folder. Was a command interrupted before its first result?")
    within = [*(file for name in ("run.json", "range_test.json") for file in sorted(folder.glob(f"*/{name}")))]
    readable = [file.parent for file in within] or [entry for entry in entries if entry.suffix == ".json"]
    named = ", ".join(repr(entry.name) for entry in readable[:5] or entries[:5])
    remedy = f"Name one of these: {', '.join(map(str, readable[:5]))}." if readable else "Check the path."
    raise CyclrError(f"{str(folder)!r} holds neither a run nor a range test, but {named}. {remedy}")
