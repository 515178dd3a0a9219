"""AutoCycle for JAX. Arrays of JAX do not change, so an earlier state can be kept as a reference."""

from numbers import Number
from typing import Any, Literal

import jax

import cyclr
from cyclr import _checks, _names
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError
from cyclr.jax._leaves import copied
from cyclr.jax._states import is_key
from cyclr.schedules import Run, Schedule


class AutoCycle(cyclr.AutoCycle):
    """A cyclical learning rate that corrects itself, for any training step in JAX.

    It is a `cyclr.AutoCycle` whose `step(loss, state)` returns the state to continue with: the given state, or an
    earlier state. Pass the Python number `auto.lr` to the compiled step as an argument, so that the step is compiled
    only once. With Optax, `optax.inject_hyperparams` makes the learning rate a part of the optimizer's state.

    Arrays of JAX do not change, so an earlier state is kept as a reference. If the first update donates the state
    (`donate_argnums`), AutoCycle notices this and copies states on the device instead. NumPy arrays and random number
    generators in the state are always copied.

    Args:
        state: everything that training changes, before the first update: parameters, optimizer state, batch
            statistics, a random key. A pytree, such as a Flax `TrainState`, an Equinox model or an NNX model. Leave out
            a random key that chooses the data. Otherwise AutoCycle would restore it, and a broken batch would be read
            again at once.
        total_steps: number of optimizer updates of the whole run, an int or a `Run`, ≥ 3.
        schedule: a `Schedule` or `Bounds`. By default, the first updates of the run are a range test, or a run of fewer
            than 160 updates starts from usual_lr, as for `cyclr.AutoCycle`.
        usual_lr: as for `cyclr.AutoCycle`, > 0.

    Raises:
        TypeError, ValueError, BoundsError, ScheduleError: as for `cyclr.AutoCycle`; a state without arrays.
        AutoCycleError: as for `cyclr.AutoCycle`; an earlier state was donated, although the first update donated
            nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import cyclr
        >>> from cyclr.jax import AutoCycle
        >>> x = jax.random.normal(jax.random.key(0), (256, 4))
        >>> y = x @ jnp.array([1.0, -2.0, 0.5, 3.0])
        >>> @jax.jit
        ... def update(weights, lr):
        ...     loss, gradient = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(weights)
        ...     return weights - lr * gradient, loss
        >>> weights = jnp.zeros(4)
        >>> auto = AutoCycle(weights, total_steps=100, schedule=cyclr.Cyclical.over(100, 1, 0.01, 0.3))
        >>> for _ in range(100):
        ...     weights, loss = update(weights, auto.lr)
        ...     weights = auto.step(loss, weights)
        >>> auto.events, bool(loss < 1e-3)
        ((), True)

    Source: Smith 2017, *Cyclical learning rates for training neural networks*, arXiv:1506.01186, for the cycle;
    Chowdhery et al. 2022, *PaLM*, arXiv:2204.02311, for restoring an earlier state and leaving batches out.
    """

    @_names.hinted
    def __init__(
        self,
        state: Any,
        *,
        total_steps: int | Run,
        schedule: Schedule | Bounds | None = None,
        usual_lr: float = 1e-3,
    ) -> None:
        if not any(map(_is_array, jax.tree.leaves(state))):
            raise TypeError(f"state must hold the arrays that training changes; got {_checks.quoted(state)}.")
        self._values = _Values(state)
        super().__init__(total_steps, schedule, state=self._values, usual_lr=usual_lr)

    @property
    def state(self) -> Any:
        """The state to continue with after `step` or `skip`."""
        self._values.unread = False
        return self._values.current

    def skip(self, loss: Any) -> bool:
        """Return True if the batch must be left out. Then make no update, and continue with `auto.state`.

        The third bad loss in a row shows that the state is bad, so `auto.state` is then an earlier state.

        Args:
            loss: loss of the next batch, before its update: a number, or an array of one element.

        Raises:
            AutoCycleError: the last `skip` restored an earlier state, but `auto.state` was not read.
            TypeError: the loss is not a number.
        """
        self._values.check_read()
        return super().skip(loss)

    def step(self, loss: Any, state: Any) -> Any:  # type: ignore[override]
        """Read the loss of the last update, and return the state to continue with.

        Args:
            loss: loss of the update's batch: a number, or an array of one element. Reading it waits for the update.
            state: the state after the update.

        Raises:
            AutoCycleError: `lr` was not read before, all updates of the run were made, or the earlier state was
                donated.
            TypeError: the loss is not a number. Nothing is changed.
        """
        self._values.check_read()
        self._values.update(state)
        super().step(loss)
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Literal["same", "new"] = "same") -> None:
        """Continue at the saved step, with the training state that this AutoCycle was created with.

        So restore the training state first, and create the AutoCycle with the restored state.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: as for `cyclr.AutoCycle`.

        Raises:
            AutoCycleError: this AutoCycle has made updates, so it holds another training state.
            ValueError: as for `cyclr.AutoCycle`. Nothing is changed.
        """
        if self._values.donated is not None or self._values.unread:
            raise AutoCycleError(
                "load_state_dict() must be called before the first update, because AutoCycle holds the training state; "
                f"got a call after step {self.last_step}. Create a new AutoCycle(state, ...) with the restored state, "
                "and load into it."
            )
        super().load_state_dict(state_dict, schedules)


class _Values:
    """The training state, with the methods that `cyclr.AutoCycle` calls.

    Attributes:
        current: the state to continue with.
        donated: True if updates donate the state; None before the first update.
        unread: True if the loop did not read the restored state yet.
    """

    def __init__(self, state: Any) -> None:
        self.current = state
        self.donated: bool | None = None
        self.unread = False

    def update(self, state: Any) -> None:
        """Set the state after an update."""
        if self.donated is None:
            self.donated = _is_donated(self.current)
        self.current = state

    def copy(self) -> Any:
        return jax.tree.map(self._kept, self.current)

    def is_finite(self) -> bool:
        # Infinity is allowed: an optimizer's state may hold it, for example as the lowest loss so far.
        leaves = [leaf for leaf in jax.tree.leaves(self.current) if _is_array(leaf)]
        floats = [leaf for leaf in leaves if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)]
        return not any(bool(jax.numpy.isnan(leaf).any()) for leaf in floats)

    def restore(self, copy: Any) -> None:
        if _is_donated(copy):
            raise AutoCycleError(
                "The earlier state that must be restored was donated. It was not copied, because the first update "
                "donated nothing. Use the same donate_argnums for all updates."
            )
        self.current = jax.tree.map(self._kept, copy)
        self.unread = True

    def check_read(self) -> None:
        """Raise if the loop continues with another state than the one that was restored."""
        if self.unread:
            raise AutoCycleError(
                "skip(loss) restored an earlier state, but the loop did not read auto.state before the next "
                "call. Write: if auto.skip(loss): state = auto.state; continue."
            )

    def check_copy(self, copy: Any) -> None:
        own, saved = _shapes(self.current), _shapes(copy)
        for name in [*own, *saved]:
            if own.get(name) != saved.get(name):
                raise ValueError(
                    "state_dict must hold copies of the state of this AutoCycle; got a copy in which "
                    f"{name or 'the state':.100} has shape {_checks.quoted(saved.get(name))} instead of "
                    f"{_checks.quoted(own.get(name))}. Create AutoCycle with the state of that run."
                )

    def _kept(self, leaf: Any) -> Any:
        # The first copy is made before the first update, when it is not known if updates donate the state.
        return leaf if self.donated is False and isinstance(leaf, jax.Array) else copied(leaf)


def _shapes(state: Any) -> dict[str, Any]:
    """Return the shape of each leaf by its path, or its type if it is not a number."""
    return {
        jax.tree_util.keystr(place): () if isinstance(leaf, Number) else _shape(leaf)
        for place, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }


def _shape(leaf: Any) -> Any:
    return f"{leaf.shape} of keys" if is_key(leaf) else getattr(leaf, "shape", type(leaf).__name__)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _is_donated(state: Any) -> bool:
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state))
