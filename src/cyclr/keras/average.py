"""One model with the averaged weights of members."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from cyclr import _names
from cyclr.keras import _private
from cyclr.keras._states import KerasStates, weights_of
from cyclr.members import Member
from cyclr.members.kept import checked_members, shares


@_names.hinted
def average(
    model: Any,
    members: Iterable[Member],
    data: Any = None,
    *,
    weights: Sequence[float] | None = None,
) -> Any:
    """Return a copy of a model with the averaged weights of members. A prediction costs as much as with one model.

    The trainable weights are Σ wᵢ · weightsᵢ, with Σ wᵢ = 1. All other weights are copied from the last member. Members
    from the ends of cycles give stochastic weight averaging (SWA). The last few members of one cycle give latest-weight
    averaging (LAWA).

    The members' statistics of batch normalization are wrong for averaged weights. They are computed again from `data`,
    as cumulative means over its batches in training mode. Frozen layers keep the statistics of the last member.

    The copy is not compiled. To evaluate it, compile it with a loss and metrics.

    Args:
        model: the `keras.Model` that the members come from, in any state; it is not changed.
        members: the members, such as `snapshots.members`.
        data: training data in any form that `fit` takes as `x`, required if the model has batch normalization. If the
            batches are tuples, their first item is the inputs. Arrays are read in batches of 32.
        weights: a number ≥ 0 for each member; by default all members have the same weight.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; batch normalization without data; data
            that is empty or not finite; a model that cannot be copied from its config.
        MembersError: members of another model, or members with NaN or infinity.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from cyclr import Member
        >>> from cyclr.keras import average
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> members = [Member(step, 0.1, [np.array([[float(step)]])]) for step in (4, 8)]
        >>> float(average(model, members).get_weights()[0].item())
        6.0

    Source: Izmailov et al. 2018, *Averaging Weights Leads to Wider Optima and Better Generalization*, arXiv:1803.05407;
    Kaddour 2022, arXiv:2209.14981.
    """
    states = KerasStates()
    listed = checked_members(members, states, states.shapes(weights_of(model)))
    given = shares(weights, len(listed))
    kind = keras.layers.BatchNormalization
    if data is None and any(isinstance(layer, kind) and layer.trainable for layer in _private.layers(model)):
        raise ValueError(
            "data must be given for a model with batch normalization, whose statistics must be computed again for "
            "averaged weights; got data=None. Pass training data: average(model, members, x)."
        )
    averaged = _copy_of(model)
    trainable = {id(variable) for variable in model.trainable_variables}
    sums: dict[int, Any] = {}
    state: list[Any] = []
    for share, member in zip(given, listed, strict=True):
        state = member.state
        for number, variable in enumerate(model.weights):
            if id(variable) in trainable:
                sums[number] = sums.get(number, 0.0) + share * state[number].astype(
                    np.result_type(state[number], float)
                )
    averaged.set_weights([sums.get(number, value) for number, value in enumerate(state)])
    norms = [layer for layer in _private.layers(averaged) if isinstance(layer, kind) and layer.trainable]
    if norms:
        _update_statistics(averaged, norms, data)
    return averaged


def _copy_of(model: Any) -> Any:
    try:
        copied = keras.models.clone_model(model)
        if not _private.has_weights(copied):
            copied.build_from_config(model.get_build_config())
        if [weight.shape for weight in copied.weights] != [weight.shape for weight in model.weights]:
            raise ValueError("the copy has other weights")
    except Exception as error:
        raise ValueError(
            f"Keras cannot copy the model from its config; got {type(model).__name__} ({error!s:.200}). Add "
            "get_config() to its class, and let its __init__ pass **kwargs to super().__init__()."
        ) from error
    for own, other in zip(_private.layers(model), _private.layers(copied), strict=True):
        other.trainable = own.trainable
    return copied


def _update_statistics(model: Any, norms: list[Any], data: Any) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.moving_mean.assign(np.zeros(norm.moving_mean.shape))
        norm.moving_variance.assign(np.ones(norm.moving_variance.shape))
    batches = 0
    try:
        for batch in _private.batches(
            data,
            None,
            sample_weight=None,
            validation_split=0,
            batch_size=32,
            steps_per_epoch=None,
            shuffle=False,
            class_weight=None,
        ):
            for norm in norms:
                norm.momentum = batches / (batches + 1)
            inputs = batch[0] if isinstance(batch, list | tuple) else batch
            _private.without_gradients(model)(inputs, **_private.mode(model, True))
            batches += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if not batches:
        raise ValueError(
            "data must contain at least one batch; got none. Pass arrays or a data set, and not an iterator that was "
            "read before."
        )
    for norm in norms:
        if not all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in (norm.moving_mean, norm.moving_variance)):
            raise ValueError(
                "the statistics of batch normalization computed from data must be finite; got NaN or infinity. Look "
                "for NaN or infinity in data."
            )
