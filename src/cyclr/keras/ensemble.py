"""A model that predicts with all members in turn, and averages their outputs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import keras
import numpy as np

from cyclr import _names, _plain
from cyclr.keras import _private
from cyclr.keras._states import KerasStates, weights_of
from cyclr.members import Member
from cyclr.members.kept import checked_members, shares
from cyclr.members.member import Description, described


@keras.saving.register_keras_serializable(package="cyclr")
class Ensemble(keras.Model):  # type: ignore[misc]
    """The model that `ensemble` returns: the weighted mean of the members' outputs, Σ wᵢ · activation(modelᵢ(inputs)).

    It predicts and evaluates like any other model, and `save("ensemble.keras")` saves it with all members. It has no
    weights of its own and cannot be trained.

    Attributes:
        members: the members.
        shares: the weights of the members, with a sum of 1.

    Args:
        model, members, activation, weights: as for `ensemble`.

    Raises:
        TypeError, ValueError, MembersError: as for `ensemble`.
    """

    def __init__(
        self,
        model: Any,
        members: Iterable[Member],
        *,
        activation: str | Callable[[Any], Any] | None = None,
        weights: Sequence[float] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        # In a function, because Keras would treat an attribute as a layer of this model.
        self._of: Callable[[], Any] = lambda: model
        states = KerasStates()
        self._combined = _Combined(
            listed := checked_members(members, states, states.shapes(weights_of(model))), shares(weights, len(listed))
        )
        self.activation = keras.activations.get(activation)
        self._predict_with = _private.compiled(self._output)
        self.built = True

    @property
    def members(self) -> list[Member]:
        return [*self._combined.members]

    @property
    def shares(self) -> list[float]:
        return [*self._combined.shares]

    @property
    def run_eagerly(self) -> bool:
        """True: only the prediction of one member is compiled. A compiled loop would hold all members in memory."""
        return True

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        """Ignore the value that `compile` sets."""

    def train_step(self, *arguments: Any, **keywords: Any) -> Any:
        """Raise: an ensemble cannot be trained."""
        raise TypeError("an Ensemble cannot be trained. Train the model of its members.")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the weighted mean of the members' outputs."""
        model, mean = self._of(), None
        places = {id(variable): number for number, variable in enumerate(model.weights)}
        for share, member in zip(self._combined.shares, self._combined.members, strict=True):
            state = member.state
            trainable, others = (
                [
                    keras.ops.convert_to_tensor(state[places[id(v)]], v.dtype) if id(v) in places else v.value
                    for v in variables
                ]
                for variables in (model.trainable_variables, model.non_trainable_variables)
            )
            output = self._predict_with(trainable, others, inputs)
            weighted = keras.tree.map_structure(lambda value, share=share: share * value, output)
            mean = weighted if mean is None else keras.tree.map_structure(keras.ops.add, mean, weighted)
        return mean

    def _output(self, trainable: Any, others: Any, inputs: Any) -> Any:
        model = self._of()
        outputs, _ = model.stateless_call(trainable, others, inputs, **_private.mode(model, False))
        return self.activation(outputs) if self.activation is not keras.activations.linear else outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self._of()),
            "members": [described(member) for member in self._combined.members],
            "weights": self.shares,
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        if missing := [name for name in ("model", "members", "weights", "activation") if name not in config]:
            raise ValueError(
                f"the config of an Ensemble must have an entry {missing[0]!r}; got {_plain.described(config)}."
            )
        try:
            model = keras.saving.deserialize_keras_object(config.pop("model"), custom_objects)
            state = weights_of(model)
            listed = _plain.read("members", config.pop("members"), list[Description])
            members = [entry._replace(state=state).member() for entry in listed]
            activation = keras.activations.deserialize(config.pop("activation"), custom_objects)
            return cls(model, members, activation=activation, **config)
        except (TypeError, ValueError) as error:
            # Keras quotes entries whole, and prints the whole config below a TypeError.
            raise ValueError(f"{error!s:.500}") from error

    def save_own_variables(self, store: Any) -> None:
        """Write the members' weights."""
        for number, member in enumerate(self._combined.members):
            for place, value in enumerate(member.state):
                store[f"{number}.{place}"] = value

    def load_own_variables(self, store: Any) -> None:
        """Read the members' weights."""
        members = []
        for number, member in enumerate(self._combined.members):
            held = [store[f"{number}.{place}"] for place in range(len(member.state))]
            for place, (value, own) in enumerate(zip(held, member.state, strict=True)):
                if value.shape != own.shape:
                    raise ValueError(f"weight {place} must have shape {own.shape}; got shape {value.shape}.")
            state = [np.asarray(value) for value in held]
            members.append(Member(member.step, member.lr, state, member.metrics))
        self._combined = _Combined(checked_members(members, KerasStates(), None), self._combined.shares)


class _Combined:
    """Members and their shares, in an object whose contents Keras does not track."""

    def __init__(self, members: list[Member], shares: list[float]) -> None:
        self.members, self.shares = members, shares


@_names.hinted
def ensemble(
    model: Any,
    members: Iterable[Member],
    *,
    activation: str | Callable[[Any], Any] | None = None,
    weights: Sequence[float] | None = None,
) -> Ensemble:
    """Return a model that predicts the weighted mean of the outputs of all members.

    The members predict one after another. A prediction therefore costs as much as one prediction of every member, and
    only one member at a time is in the memory of the device. Members in a folder are read again for every batch. To
    evaluate the ensemble, compile it with a loss and metrics.

    Args:
        model: the `keras.Model` that the members come from, in any state; it is not changed.
        members: the members, such as `snapshots.members`.
        activation: function that is applied to the output of every member before averaging, or its name in Keras, such
            as `"softmax"`; by default the outputs themselves are averaged.
        weights: a number ≥ 0 for each member; by default all members have the same weight.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
        MembersError: members of another model, or members with NaN or infinity.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from cyclr import Member
        >>> from cyclr.keras import ensemble
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> members = [Member(step, 0.1, [np.array([[float(step)]])]) for step in (4, 8)]
        >>> ensemble(model, members, activation=keras.ops.square).predict(np.ones((1, 1)), verbose=0).item()
        40.0

    Source: Huang et al. 2017, *Snapshot Ensembles: Train 1, get M for free*, arXiv:1704.00109.
    """
    return Ensemble(model, members, activation=activation, weights=weights)
