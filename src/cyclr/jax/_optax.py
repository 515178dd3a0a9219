"""A training step from a loss and an Optax optimizer."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax

from cyclr import _checks


class OptaxStep:
    """A training step whose state is (trained parameters, other variables of the model, `rest`, optimizer state).

    Every update calls `optimizer` with the learning rate of the update, a traced number. So the update equals an update
    of an optimizer that was created with this learning rate, and everything else (weight decay, clipping, Python
    constants) keeps its value. Only leaves that are floating-point arrays are trained.

    Args:
        loss_of, params, optimizer, rest: as for `cyclr.jax.range_test`.
        lr: the first learning rate, for the optimizer's initial state.
    """

    def __init__(self, loss_of: Any, params: Any, optimizer: Any, rest: Any, lr: float) -> None:
        _check_optimizer(optimizer)
        self._loss_of, self._optimizer, self._has_rest = loss_of, optimizer, rest is not None
        nnx: Any = sys.modules.get("flax.nnx")
        self._join: Callable[[Any, Any], Any]
        self._changed: Callable[[Any], Any]
        if nnx is not None and _holds(params, nnx.Module):
            graph, trained, changed = nnx.split(params, nnx.Param, ...)
            self._join = lambda trained, changed: nnx.merge(graph, trained, changed, copy=True)
            self._changed = lambda model: nnx.state(model, nnx.Not(nnx.Param))
        else:
            trained, changed = _trained(params), ()
            self._join = lambda trained, changed: jax.tree.map(
                lambda new, old: old if new is None else new, trained, params, is_leaf=lambda leaf: leaf is None
            )
            self._changed = lambda params: ()
        if not jax.tree.leaves(trained):
            raise TypeError(f"params must hold arrays of floating-point numbers; got {_checks.quoted(params)}.")
        self.initial = trained, changed, rest, self._transform(lr).init(trained)

    def __call__(self, state: Any, batch: Any, lr: Any) -> tuple[Any, Any]:
        """Make one update, as a `step_fn` of `range_test` does."""
        trained, changed, rest, inner = state

        def loss_of(trained: Any) -> Any:
            params = self._join(trained, changed)
            # NNX lets a function change only variables that were created inside it.
            own = jax.tree.map(lambda leaf: leaf, rest)
            returned = self._loss_of(params, own, batch) if self._has_rest else self._loss_of(params, batch)
            loss, new_rest = self._loss_and_rest(returned)
            return loss, (self._changed(params), new_rest)

        (loss, (changed, rest)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
        transform = self._transform(lr)
        # Line searches and Polyak's learning rate take the first three arguments, and SAM takes the last.
        extra = {
            "value": loss,
            "grad": gradient,
            "value_fn": lambda trained: loss_of(trained)[0],
            "grad_fn": lambda trained, number: jax.grad(loss_of, has_aux=True)(trained)[0],
        }
        accepted = inspect.signature(transform.update).parameters
        takes_all = any(parameter.kind == parameter.VAR_KEYWORD for parameter in accepted.values())
        taken = {name: value for name, value in extra.items() if takes_all or name in accepted}
        updates, inner = transform.update(gradient, inner, trained, **taken)
        # The formula of optax.apply_updates.
        trained = jax.tree.map(lambda old, update: (old + update).astype(old.dtype), trained, updates)
        return (trained, changed, rest, inner), loss

    def evaluate(self, evaluate: Callable[..., Any], state: Any) -> Any:
        """Call the user's `evaluate(params)` or `evaluate(params, rest)`."""
        trained, changed, rest, _ = state
        params = self._join(trained, changed)
        return evaluate(params, rest) if self._has_rest else evaluate(params)

    def _transform(self, lr: Any) -> Any:
        try:
            transform = self._optimizer(lr)
        except jax.errors.ConcretizationTypeError as error:
            raise TypeError(
                "optimizer must be a function that JAX can trace, without float() or if on the learning rate; got "
                f"{_checks.quoted(self._optimizer)}. If it creates a schedule, such as "
                "optax.warmup_cosine_decay_schedule, create the schedule with peak 1 and multiply it by lr: "
                "lambda lr: optax.adamw(lambda count: lr * schedule(count)). Or pass chunk=None to compile nothing."
            ) from error
        if not hasattr(transform, "init") or not hasattr(transform, "update"):
            raise TypeError(
                "optimizer must be a function of the learning rate that returns an Optax optimizer; got a function "
                f"that returns {_checks.quoted(transform)}."
            )
        return transform

    def _loss_and_rest(self, returned: Any) -> tuple[Any, Any]:
        """Split the values that `loss_of` returned into the loss and the next `rest`, which is None without `rest`."""
        pair = isinstance(returned, tuple | list) and len(returned) == 2
        loss, rest = returned if pair else (returned, None)
        if getattr(loss, "shape", None) != () or pair < self._has_rest:
            legal = "(loss, rest) with a number as loss" if self._has_rest else "the loss as a number, or (loss, other)"
            got = type(loss).__name__ if not hasattr(loss, "shape") else f"an array of shape {loss.shape}"
            got = f"{type(returned).__name__} of {len(returned)}" if isinstance(returned, tuple | list) else got
            raise TypeError(f"loss_of must return {legal}; got {got}. If each sample has a loss, return the mean.")
        return loss, rest if self._has_rest else None


def _holds(params: Any, kind: type) -> bool:
    parts = jax.tree.leaves(params, is_leaf=lambda part: isinstance(part, kind))
    return any(isinstance(part, kind) for part in parts)


def check_takes(name: str, function: Any, arguments: str, fix: str) -> None:
    """Raise if `function` cannot be called with `arguments`, the names of the arguments separated by commas."""
    _checks.function(name, function, f"of {arguments}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    given = arguments.split(", ")
    try:
        signature.bind(*given)
    except TypeError as error:
        count = ("one argument", "two arguments", "three arguments")[len(given) - 1]
        raise TypeError(f"{name} must take {count}, ({arguments}); got {str(signature)[:100]}. {fix}") from error


def _trained(params: Any) -> Any:
    """Return `params` with None for every leaf that is not trained: functions, keys, integers, booleans."""

    def is_float(leaf: Any) -> bool:
        return hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)

    leaves = jax.tree.leaves(params)
    # If all leaves are floats, Python floats are parameters, as for jax.grad. Otherwise they are settings, as in
    # Equinox.
    floats = float if all(isinstance(leaf, float) or is_float(leaf) for leaf in leaves) else ()
    return jax.tree.map(
        lambda leaf: jax.numpy.asarray(leaf) if is_float(leaf) or isinstance(leaf, floats) else None, params
    )


def _check_optimizer(optimizer: Any) -> None:
    legal = "optimizer must be a function of the learning rate that returns an Optax optimizer"
    fix = (
        "Pass optax.adamw, or lambda lr: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr, weight_decay=0.1))"
    )
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        raise TypeError(f"{legal}; got an Optax optimizer, whose learning rate is fixed. {fix}.")
    if not callable(optimizer):
        raise TypeError(f"{legal}; got {_checks.quoted(optimizer)}. {fix}.")
    check_takes("optimizer", optimizer, "lr", f"It returns an Optax optimizer. {fix}.")
