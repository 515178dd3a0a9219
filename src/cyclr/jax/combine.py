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

    A prediction costs as much as one of every member, one after another, so there is one member at a time in the memory
    of the device. Pass a compiled `apply`. Members in a folder are read for every prediction.

    Args:
        apply: function of the parameters and the inputs that returns the outputs, an array or a pytree of them.
        members: such as `snapshots.members`.
        activation: function of the outputs whose results are averaged, such as `jax.nn.softmax`; by default the
            outputs as they are.
        weights: a number ≥ 0 for each member; by default all the same.

    Returns:
        A function of the inputs of `apply`, positional or by name.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
        MembersError: members of other parameters than the first, or not finite.

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
    """Return the averaged parameters of members, Σ wᵢ · paramsᵢ: they cost as much as one model to predict with.

    Members of cycle ends give stochastic weight averaging (SWA), the last few of one cycle latest-weight averaging
    (LAWA). Leaves that are not floating-point numbers are those of the last member.

    Statistics of batch normalization do not belong to averaged weights. Keep them out of the parameters, and compute
    them again by a pass over training data in training mode.

    Args:
        members: such as `snapshots.members`.
        weights: a number ≥ 0 for each member; by default all the same.

    Returns:
        A pytree of the structure of the members' parameters, with NumPy arrays.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
        MembersError: members of other parameters than the first, or not finite.

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
