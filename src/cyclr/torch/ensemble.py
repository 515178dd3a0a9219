"""A module that predicts with all members, one after the other."""

import copy
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch

from cyclr import _checks, _files, _names, _plain
from cyclr.members import Member
from cyclr.members.kept import checked_members, shares
from cyclr.members.member import Description, described
from cyclr.torch._states import STATES, own_copy, tensors_of

FORMAT_VERSION = 1


class Ensemble(torch.nn.Module):  # type: ignore[misc]
    """A module that returns the weighted mean of its members' outputs, Σ wᵢ · activation(modelᵢ(inputs)).

    `ensemble` creates it. The device holds the module's own copy of the model and one member at a time. The module is
    always in evaluation mode. `state_dict()` includes the members.

    Attributes:
        members: the members.
        weights: their weights, whose sum is 1.

    Args:
        model, members, activation, weights: as for `ensemble`.

    Raises:
        TypeError, ValueError, MembersError: as for `ensemble`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        members: Iterable[Member],
        *,
        activation: Callable[[Any], Any] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.members = checked_members(members, STATES, STATES.shapes(tensors_of(model)))
        self.weights = shares(weights, len(self.members))
        self.activation = (
            activation if activation is None else _checks.function("activation", activation, "of the model's output")
        )
        self.model = own_copy(model).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, because batch normalization must use the statistics of the members."""
        super().train(False)
        return self

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Return the weighted mean of the members' outputs. It takes the arguments of the model's `forward`.

        Raises:
            TypeError: the outputs cannot be averaged, such as integers.
            MembersError: the file of a member does not exist any more.
        """
        own, mean = tensors_of(self.model), None
        for share, member in zip(self.weights, self.members, strict=True):
            state = {name: value.to(own[name]) for name, value in member.state.items()}
            # Tied weights are in the state under both names, with equal values.
            output = torch.func.functional_call(self.model, state, inputs, keywords, tie_weights=False)
            mean = _added(mean, output if self.activation is None else self.activation(output), share)
        return mean

    def get_extra_state(self) -> dict[str, Any]:
        """Return members and weights. `state_dict()` includes them."""
        return {
            "version": FORMAT_VERSION,
            "weights": [*self.weights],
            "members": [{**described(member), "state": member.state} for member in self.members],
        }

    def set_extra_state(self, state: Any) -> None:
        """Set members and weights from a saved state. `load_state_dict()` calls it.

        Raises:
            ValueError: the state is not the state of an `Ensemble`.
            MembersError: the members come from another model.
        """
        members, weights = _saved(state)
        self.members = checked_members(members, STATES, STATES.shapes(tensors_of(self.model)))
        self.weights = shares(weights, len(members))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all members and their weights to one file. The file is never left incomplete.

        Args:
            path: the file, such as `"ensemble.pt"`.

        Raises:
            OSError: the file cannot be written.
        """
        _files.write_atomically(path, lambda file: torch.save(self.get_extra_state(), file))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: torch.nn.Module,
        *,
        activation: Callable[[Any], Any] | None = None,
    ) -> Self:
        """Return the ensemble that `save` wrote. Nothing in the file is executed.

        Args:
            path: the file.
            model: a module of the same architecture as the members, in any state.
            activation: as for `ensemble`; it is not saved in the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file was not written by `Ensemble.save`.
            MembersError: the members come from another model.
        """
        try:
            _files.check_regular(path)
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    _files.check_unpacked(archive)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # Damaged bytes surface as errors of any kind.
            raise ValueError(
                f"path must be a file that Ensemble.save wrote; got path={os.fspath(path)!r} "
                f"({type(error).__name__}: {error!s:.100})."
            ) from error
        members, weights = _saved(state)
        return cls(model, members, activation=activation, weights=weights)


@_names.hinted
def ensemble(
    model: torch.nn.Module,
    members: Iterable[Member],
    *,
    activation: Callable[[Any], Any] | None = None,
    weights: Sequence[float] | None = None,
) -> Ensemble:
    """Return a module that predicts with all members: the weighted mean of their outputs.

    The members predict one after the other, so the cost is the sum of their costs. The device holds the module's own
    copy of the model and one member at a time. Members in a folder are read again for every prediction.

    Args:
        model: the module that the members come from, in any state. It is not changed.
        members: the members, such as `snapshots.members`.
        activation: function of the model's output whose results are averaged, such as
            `lambda logits: logits.softmax(-1)`. By default the outputs are averaged.
        weights: a number ≥ 0 for each member; by default all are equal.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        MembersError: the members come from another model, or are not finite.

    Example:
        >>> import cyclr, torch
        >>> from cyclr import Member
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> members = [Member(step, 0.1, {"weight": torch.tensor([[float(step)]])}) for step in (4, 8)]
        >>> both = cyclr.torch.ensemble(model, members, activation=torch.square)
        >>> both(torch.ones(1, 1)).item()
        40.0

    Source: Huang et al. 2017, *Snapshot Ensembles: Train 1, get M for free*, arXiv:1704.00109.
    """
    return Ensemble(model, members, activation=activation, weights=weights)


def _saved(state: Any) -> tuple[list[Member], list[float]]:
    """Return the members and weights of a saved ensemble."""
    if not _plain.is_version(state, FORMAT_VERSION, "members"):
        raise ValueError(
            f"the state must come from an Ensemble of cyclr.torch of version {FORMAT_VERSION}; got "
            f"{_plain.described(state)}."
        )
    saved = _plain.read("the state", state, _State)
    return [entry.member() for entry in saved.members], saved.weights


class _State(NamedTuple):
    """The saved state of an `Ensemble`."""

    version: int
    members: list[Description]
    weights: list[float]


def _added(mean: Any, output: Any, share: float) -> Any:
    """Return mean + share · output, also for tensors in tuples, lists and dicts. A mean of None counts as 0."""
    if isinstance(output, torch.Tensor) and (output.is_floating_point() or output.is_complex()):
        return share * output if mean is None else mean + share * output
    if output is None:
        return None
    if isinstance(output, Mapping):
        added: Any = copy.copy(output)
        for key, value in output.items():
            added[key] = _added(None if mean is None else mean[key], value, share)
        return added
    if isinstance(output, list | tuple):
        means = [None] * len(output) if mean is None else mean
        parts = [_added(one, other, share) for one, other in zip(means, output, strict=True)]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    kind = getattr(output, "dtype", type(output).__name__)
    raise TypeError(
        f"the model's output must be floating-point tensors to be averaged; got {kind}. Pass activation=, a function "
        "of the output that returns the tensors to average, such as lambda output: output.logits.softmax(-1)."
    )
