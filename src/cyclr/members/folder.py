"""The members of a run in a folder.

    FOLDER/member-<step>.safetensors   the weights of one member (Keras: .weights.h5)
    FOLDER/members.json                shapes of the model, and step, learning rate and metrics of every member

Each file is written atomically, and members.json last. Only the members in members.json are read. A killed process
leaves at most a file that is not listed, which the next writer removes.
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
    """A folder of members, which is created when the first member is written.

    Args:
        path: the folder.
        format: format of the files.
        writes: True in one process of a run, and False in all other processes.
    """

    def __init__(self, path: Path, format: StateFormat, *, writes: bool) -> None:
        self.path = path
        self._format = format
        self._writes = writes
        self._listing = path / "members.json"
        self._known: list[bytes | None] = [None]
        """Contents that members.json can have unless another run writes. After an error, it is the old or the new."""

    def read(self) -> tuple[Shapes | None, list[Member]]:
        """Return the shapes of the model (None before the first member), and the members, oldest first.

        Raises:
            MembersError: members.json is damaged, or lists files that do not exist.
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
                f"{str(listing)!r} cannot be read: {error.strerror or error}. Check the disk and the permissions, or "
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
        """Write a member's file, then the list of members. Return a member that reads its state from the file.

        Raises:
            MembersError: another run wrote to the folder, or the folder cannot be written. Its members are unchanged.
        """
        added = self._listed(member)
        if not self._writes:
            return added
        try:
            if not self._is_own():
                # Otherwise the members of the other run would be lost.
                raise MembersError(
                    f"{str(self._listing)!r} was changed by another run after this run read it. Give each Snapshots "
                    "its own folder."
                )
            _files.make_folder(self.path)
            with _files.replacing(self._file(member.step), ending=self._format.suffix) as path:
                self._format.save(member.state, path)
            self._write([*others, added], shapes)
        except CyclrError:
            raise
        except Exception as error:
            # The libraries that write the files raise their own types of errors.
            said = getattr(error, "strerror", None) or f"{error!s:.200}"
            raise MembersError(
                f"the member of step {member.step} cannot be saved in {str(self.path)!r}: {said}. Free space on the "
                "disk, check the permissions, or choose another folder."
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
        """Remove the files that a killed run left, as far as possible. Do nothing in a folder of another run."""
        listed = {self._file(member.step) for member in members}
        # safetensors writes to a temporary file first, such as .tmp123abc.
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
