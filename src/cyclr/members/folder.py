"""The members of a run in a folder.

    FOLDER/member-<step>.safetensors   the weights of one member (Keras: .weights.h5)
    FOLDER/members.json                shapes of the model, and step, rate and metrics of every member

Each file appears whole or not at all, and members.json last: only the members that it lists count. A process that is
killed leaves at most a file that is not listed, which the next writer removes.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cyclr import _checks, _files, _plain
from cyclr.errors import CyclrError, MembersError
from cyclr.members.member import Description, Member, Shapes, StateFile, StateFormat, check_steps, described

VERSION = 1


class MemberFolder:
    """A folder of members, made by the first that is written.

    Args:
        path: the folder.
        format: of the files.
        writes: False in every process of a run but one.
    """

    def __init__(self, path: Path, format: StateFormat, *, writes: bool) -> None:
        self.path = path
        self._format = format
        self._writes = writes
        self._listing = path / "members.json"
        self._known: list[bytes | None] = [None]
        """What the list may hold if no other run writes. After an error, it is the old or the new content."""

    def read(self) -> tuple[Shapes | None, list[Member]]:
        """Return the shapes of the model, None if there are none yet, and the members, the oldest first.

        Raises:
            MembersError: members.json is damaged, or lists files that are not there.
        """
        listing = self._listing
        try:
            if not listing.exists():
                return None, []
            read = _files.read_regular(listing)
            self._known = [read]
            content = _plain.read("it", _plain.parse(read), _Listing)
            if content.version != VERSION or content.suffix != self._format.suffix:
                raise ValueError(f"version {content.version} with files {_checks.quoted(content.suffix)}.")
            members = [self._listed(entry.member()) for entry in content.members]
            check_steps(members)
        except OSError as error:
            raise MembersError(
                f"{str(listing)!r} cannot be read: {error.strerror or error}. Check the disk and your rights, or "
                "choose another folder."
            ) from error
        except ValueError as error:
            raise MembersError(
                f"{str(listing)!r} must be a list of members with files {self._format.suffix}, as Snapshots writes it; "
                f"got {type(error).__name__}: {error} Choose another folder."
            ) from error
        missing = [member.step for member in members if not self._file(member.step).is_file()]
        if missing:
            raise MembersError(
                f"{str(listing)!r} lists {self._file(missing[0]).name}, which is not in the folder. Restore the file, "
                "or choose another folder."
            )
        return content.shapes, members

    def add(self, member: Member, others: Sequence[Member], shapes: Shapes) -> Member:
        """Write a member's file, then the list of the members, and return the member as one that reads its file.

        Raises:
            MembersError: another run wrote to the folder, or it cannot be written. Its members are those before.
        """
        added = self._listed(member)
        if not self._writes:
            return added
        try:
            if not self._is_own():
                # Its members would be lost.
                raise MembersError(
                    f"{str(self._listing)!r} was changed by another run since this one read it. Give each Snapshots a "
                    "folder of its own."
                )
            _files.make_folder(self.path)
            with _files.replacing(self._file(member.step), ending=self._format.suffix) as path:
                self._format.save(member.state, path)
            self._write([*others, added], shapes)
        except CyclrError:
            raise
        except Exception as error:
            # The libraries that write the files have errors of their own.
            said = getattr(error, "strerror", None) or f"{error!s:.200}"
            raise MembersError(
                f"the member of step {member.step} cannot be saved in {str(self.path)!r}: {said}. Make room on the "
                "disk, check your rights, or choose another folder."
            ) from error
        return added

    def _write(self, members: Sequence[Member], shapes: Shapes) -> None:
        """Write the list of the members, then remove the files that it does not list."""
        content = _files.as_json(
            {
                "version": VERSION,
                "suffix": self._format.suffix,
                "shapes": shapes,
                "members": [described(member) for member in members],
            }
        )
        self._known.append(content)
        _files.write_atomically(self._listing, content)
        self._known = [content]
        self.remove_unlisted(members)

    def remove_unlisted(self, members: Sequence[Member]) -> None:
        """Remove the files that a killed run left, if they can be removed, but none of another run."""
        listed = {self._file(member.step) for member in members}
        # safetensors writes to a file .tmp123abc first.
        own = re.compile(rf"member-\d+{re.escape(self._format.suffix)}|\.member(-\d+|s\.json).*\.tmp.*|\.tmp\w{{6}}")
        with contextlib.suppress(OSError):
            for file in self.path.iterdir() if self._writes and self._is_own() else ():
                if own.fullmatch(file.name) and file not in listed:
                    file.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        """Return False if another run wrote to the folder."""
        return (_files.read_regular(self._listing) if self._listing.exists() else None) in self._known

    def _file(self, step: int) -> Path:
        return self.path / f"member-{step}{self._format.suffix}"

    def _listed(self, member: Member) -> Member:
        return Member(member.step, member.lr, StateFile(self._file(member.step), self._format), member.metrics)


class _Listing(NamedTuple):
    """The content of members.json."""

    version: int
    suffix: str
    shapes: Shapes
    members: list[Description]
