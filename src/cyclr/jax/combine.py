"""Predictions with all members, and their averaged parameters."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from cyclr import _checks, _names
from cyclr.jax._states import JaxStates, is_array, is_key
from cyclr.members import Member
from cyclr.members.kept import checked_members, shares


@_names.hinted
def ensemble(
    apply: Callable[..., Any],
    members: Iterable[Member],
    *,
    activation: Callable[[Any], Any] | None = None,
    weights: Sequence[float] | None = None,
) -> Callable[..., Any]:
    """Return a function that predicts with all members: Σ wᵢ · activation(apply(paramsᵢ, inputs)).

    The members predict one after another. A prediction therefore costs as much as one prediction of every member, and
    only one member at a time is in the memory of the device. Pass a compiled `apply`. Members in a folder are read
    again for every prediction.

    Args:
        apply: function of the parameters and the inputs that returns the outputs, an array or a pytree of arrays.
        members: the members, such as `snapshots.members`.
        activation: function that is applied to the outputs of every member before averaging, such as `jax.nn.softmax`;
            by default the outputs themselves are averaged.
        weights: a number ≥ 0 for each member; by default all members have the same weight.

    Returns:
        A function that takes the inputs of `apply`, by position or by name.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        MembersError: a member has other parameters than the first member, or holds NaN or infinity.

    Example:
        >>> import cyclr, jax.numpy as jnp
        >>> members = [cyclr.Member(step, 0.1, {"weight": jnp.array(float(step))}) for step in (4, 8)]
        >>> predict = cyclr.jax.ensemble(lambda params, x: params["weight"] * x, members, activation=jnp.square)
        >>> float(predict(1.0))
        40.0

    Source: Huang et al. 2017, *Snapshot Ensembles: Train 1, get M for free*, arXiv:1704.00109.
    """
    _checks.function("apply", apply, "of the parameters and the inputs")
    if activation is not None:
        _checks.function("activation", activation, "of the outputs")
    listed = checked_members(members, JaxStates(), None)
    given = shares(weights, len(listed))

    def predict(*inputs: Any, **keywords: Any) -> Any:
        mean = None
        for share, member in zip(given, listed, strict=True):
            output = apply(member.state, *inputs, **keywords)
            output = output if activation is None else activation(output)
            weighted = jax.tree.map(lambda value, share=share: share * value, output)
            mean = weighted if mean is None else jax.tree.map(lambda one, other: one + other, mean, weighted)
        return mean

    return predict


@_names.hinted
def average(members: Iterable[Member], *, weights: Sequence[float] | None = None) -> Any:
    """Return the averaged parameters of members, Σ wᵢ · paramsᵢ. A prediction costs as much as with one model.

    Members from the ends of cycles give stochastic weight averaging (SWA). The last few members of one cycle give
    latest-weight averaging (LAWA). Leaves that are not floating-point numbers are copied from the last member.

    The members' statistics of batch normalization are wrong for averaged weights. Keep them out of the parameters, and
    compute them again with a pass over the training data in training mode.

    Args:
        members: the members, such as `snapshots.members`.
        weights: a number ≥ 0 for each member; by default all members have the same weight.

    Returns:
        A pytree of NumPy arrays, with the structure of the members' parameters.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        MembersError: a member has other parameters than the first member, or holds NaN or infinity.

    Example:
        >>> import cyclr, jax.numpy as jnp
        >>> members = [cyclr.Member(step, 0.1, {"weight": jnp.array([float(step)])}) for step in (4, 8)]
        >>> cyclr.jax.average(members)["weight"].tolist()
        [6.0]

    Source: Izmailov et al. 2018, *Averaging Weights Leads to Wider Optima and Better Generalization*, arXiv:1803.05407;
    Kaddour 2022, arXiv:2209.14981.
    """
    listed = checked_members(members, JaxStates(), None)
    leaves: list[Any] = []
    structure, sums = None, dict[int, Any]()
    for share, member in zip(shares(weights, len(listed)), listed, strict=True):
        leaves, structure = jax.tree.flatten(member.state)
        for number, leaf in enumerate(leaves):
            if is_array(leaf) and not is_key(leaf) and np.asarray(leaf).dtype.kind in "fcV":
                value = np.asarray(leaf)
                part = share * value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)
                sums[number] = sums[number] + part if number in sums else part
    return jax.tree.unflatten(
        structure,
        [np.asarray(sums[number], leaf.dtype) if number in sums else leaf for number, leaf in enumerate(leaves)],
    )
