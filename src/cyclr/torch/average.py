"""One model with the averaged weights of members."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.optim.swa_utils import update_bn

from cyclr import _names
from cyclr.members import Member
from cyclr.members.kept import checked_members, shares
from cyclr.torch import _private
from cyclr.torch._states import STATES, own_copy, tensors_of
from cyclr.torch._update import to_device


@_names.hinted
def average(
    model: torch.nn.Module,
    members: Iterable[Member],
    data: Iterable[Any] | None = None,
    *,
    weights: Sequence[float] | None = None,
) -> torch.nn.Module:
    """Return a copy of a model with the averaged weights of members. It predicts at the cost of one model.

    The parameters are Σ wᵢ · parametersᵢ, with Σ wᵢ = 1. Other tensors, such as counters, are taken from the last
    member. Members of cycle ends give stochastic weight averaging (SWA); the last few members of one cycle give latest
    weight averaging (LAWA). The members' statistics of batch normalization do not fit the averaged weights. They are
    computed again from `data` by `torch.optim.swa_utils.update_bn`, as cumulative means over its batches in training
    mode.

    Args:
        model: the module that the members come from, in any state. It is not changed.
        members: the members, such as `snapshots.members`.
        data: batches of training data, such as a `DataLoader`; required if there is batch normalization. A batch is the
            inputs, a tuple or list whose first item is the inputs, or a dict for `model(**batch)`.
        weights: a number ≥ 0 for each member; by default all are equal.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; with batch normalization, data is
            missing, empty or not finite.
        MembersError: the members come from another model, or are not finite.

    Example:
        >>> import cyclr, torch
        >>> from cyclr import Member
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> members = [Member(step, 0.1, {"weight": torch.tensor([[float(step)]])}) for step in (4, 8)]
        >>> cyclr.torch.average(model, members).weight.item()
        6.0

    Source: Izmailov et al. 2018, *Averaging Weights Leads to Wider Optima and Better Generalization*, arXiv:1803.05407;
    Kaddour 2022, arXiv:2209.14981.
    """
    shapes = STATES.shapes(tensors_of(model))
    listed = checked_members(members, STATES, shapes)
    given = shares(weights, len(listed))
    averaged = own_copy(model)
    norms = _private.batch_norms(averaged)
    if norms and data is None:
        raise ValueError(
            "data must be given for a model with batch normalization, because its statistics do not fit averaged "
            f"weights; got data=None, and a {type(norms[0]).__name__}. Pass batches of training data: "
            "average(model, members, loader)."
        )
    parameters = [
        name
        for name, value in averaged.named_parameters(remove_duplicate=False)
        if name in shapes and (value.is_floating_point() or value.is_complex())
    ]
    sums: dict[str, torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    for share, member in zip(given, listed, strict=True):
        state = member.state
        for name in parameters:
            part = share * state[name].to("cpu", torch.promote_types(state[name].dtype, torch.float64))
            sums[name] = sums[name] + part if name in sums else part
    averaged.load_state_dict({**state, **sums})
    if norms and data is not None:
        _update_statistics(averaged, norms, data)
    return averaged


def _update_statistics(model: torch.nn.Module, norms: list[Any], data: Iterable[Any]) -> None:
    fed = _Fed(model, norms[0].running_mean.device)
    update_bn(data, fed)
    if not fed.batches:
        raise ValueError(
            "data must hold at least one batch; got none. Pass a DataLoader or a list, which can be read again, "
            "instead of an iterator that was read before."
        )
    for norm in norms:
        if not (torch.isfinite(norm.running_mean).all() and torch.isfinite(norm.running_var).all()):
            raise ValueError(
                "data must give finite statistics of batch normalization; got NaN or infinity. Check the inputs."
            )


class _Fed(torch.nn.Module):  # type: ignore[misc]
    """Calls a model with batches on its device, and counts them."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model, self.device, self.batches = model, device, 0

    def forward(self, batch: Any) -> Any:
        self.batches += 1
        batch = to_device(batch, self.device)
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(batch)
