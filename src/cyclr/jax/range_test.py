"""The range test of a JAX training step."""

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from cyclr import _checks, _names
from cyclr.errors import RangeTestError
from cyclr.jax import _batches
from cyclr.jax._conditions import conditions_of
from cyclr.jax._leaves import copied
from cyclr.jax._optax import OptaxStep, check_takes
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing
from cyclr.range_test.progress import Verbose
from cyclr.range_test.refine import TrialTest
from cyclr.range_test.repeats import Sweep
from cyclr.schedules import Run


@_names.hinted
def range_test(
    step_fn: Callable[..., Any],
    state: Any,
    batches: Iterable[Any],
    *,
    optimizer: Callable[[Any], Any] | None = None,
    rest: Any = None,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    updates_per_rate: int = 1,
    evaluate: Callable[..., Any] | None = None,
    total_steps: int | Run | None = None,
    refine: int | None = None,
    chunk: int | None = 10,
    on_step: Callable[[RangeTest], None] | None = None,
    verbose: Verbose = "auto",
) -> RangeTestResult:
    """Train for `steps` updates with a rising learning rate, and record each update's loss.

    With an Optax optimizer, pass a loss, the parameters, and a function that returns the optimizer for a learning rate:
    `range_test(loss_of, params, batches, optimizer=optax.adamw)`. For any other training step, pass the step and its
    state: `range_test(step_fn, state, batches)`.

    `state` is not changed: training continues from it as if there had been no test. With `chunk=None`, the step gets a
    copy of the state, so it may change its state in place, or be compiled with a donated state. The global generators
    of Python, NumPy and torch (if torch is loaded) are restored. Generators and torch loaders that `batches` holds as
    attributes, or that its `__iter__` uses, are restored too. You must restore other generators, the position of an
    iterator, and a model or optimizer that `step_fn` changes although it is not in the state.

    Several updates run in one compiled call (`jax.lax.scan`), and their losses are recorded after the call. This saves
    the overhead of single calls, which would slow a small model. Updates after the one that stops the test are
    discarded. A broken batch is left out, and `result.bounds.reason` names it; see `cyclr.RangeTest`. To check that the
    learning rate is used, the updates are also made at twice the learning rates until both the losses and the state
    differ, usually only in the first chunk.

    Args:
        step_fn: `step_fn(state, batch, lr)` returns the next state and the loss of the batch before the update. It must
            be a pure function of pytrees of arrays. The learning rate is weakly typed, like a Python number: an array
            that is multiplied by it keeps its dtype, also bfloat16. With `optimizer`, pass a loss instead:
            `loss_of(params, batch)` returns the loss, or `(loss, other)`, where `other` is ignored.
        state: parameters, optimizer state, a random key: any pytree of arrays. With `optimizer`, the parameters only:
            a pytree of arrays, an Equinox model, or a Flax NNX model. Floating-point arrays are trained; in an NNX
            model, every `nnx.Param`. Other variables of an NNX model (batch statistics, dropout keys) change as in
            training.
        batches: any iterable of pytrees of arrays of JAX or NumPy. When it ends, it is read again. An iterator can be
            read only once.
        optimizer: a function of the learning rate that returns an Optax optimizer, such as `optax.adamw`,
            `functools.partial(optax.sgd, momentum=0.9)` or `lambda lr: optax.chain(optax.clip_by_global_norm(1.0),
            optax.adamw(lr, weight_decay=0.1))`. It is called with a traced number, so that everything is compiled only
            once. Updates are the same as with an optimizer created with this number. Schedules inside follow the
            optimizer's count. An existing Optax optimizer is an error, because its learning rate is fixed.
        rest: with `optimizer`, other values that the loss uses and changes, as a pytree of arrays: a random key, batch
            statistics. Then `loss_of(params, rest, batch)` returns `(loss, next rest)`.
        min_lr, max_lr, steps, spacing, stop_factor, smoothing: as for `cyclr.RangeTest`.
        updates_per_rate: updates at every learning rate; their mean loss makes one point. See `cyclr.RangeTest`.
        evaluate: function that returns the number to record after the last update at every learning rate, instead of
            the mean loss of the batches: a loss on validation data, or 1 − accuracy. It is called as `evaluate(state)`,
            with `optimizer` as `evaluate(params)`, and with `rest` as `evaluate(params, rest)`. A chunk then has the
            updates of one learning rate.
        total_steps: length of the training run in optimizer updates, ≥ 1, or a `Run`. The test then chooses max_lr for
            a run of this length: after the sweep, it makes a second sweep around the bounds, and up to four trial
            cycles from the same start.
        refine: maximum number of updates for the second sweep and the trial cycles, 0 or at least 50. If it is below
            232 (200 with evaluate), or total_steps is below 200, there is only the second sweep. A trial cycle has at
            least 100 updates and at most total_steps / 2. After it, the loss is measured on up to 16 batches that no
            trial cycle trains on, or with `evaluate`. By default, 5 % of total_steps, or 0 if 5 % is fewer than 600
            updates. Ctrl-C ends the trial cycles; the result then contains the finished ones. For data that can be read
            only once, it must be 0.
        chunk: number of updates in one compiled call, ≥ 1. With None, step_fn is called for every single update, and is
            not compiled by the test.
        on_step: function that is called with the running test after every update.
        verbose: 1 shows a line with the learning rate, the loss and the remaining time, 0 shows nothing, and `"auto"`
            shows the line in a terminal or a notebook, but not in a log. Needs tqdm.

    Returns:
        The result; `result.bounds` are the bounds to train with. To repeat a noisy test, change the order of the
        batches or a random key in the state, and combine the results with `RangeTestResult.of_repeats`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        RangeTestError: no loss was recorded; or the losses are bit for bit independent of the learning rate, because
            `step_fn` or `optimizer` does not use the learning rate, or `step_fn` returns its state unchanged.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from cyclr.jax import range_test
        >>> x = jax.random.normal(jax.random.key(0), (256, 4))
        >>> y = x @ jnp.array([1.0, -2.0, 0.5, 3.0])
        >>> batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)]
        >>> def loss_of(weights, batch):
        ...     return jnp.mean((batch[0] @ weights - batch[1]) ** 2)
        >>> range_test(loss_of, jnp.zeros(4), batches, optimizer=optax.sgd).bounds.status
        'ok'

        The same test with a training step:

        >>> def step(weights, batch, lr):
        ...     loss, gradient = jax.value_and_grad(loss_of)(weights, batch)
        ...     return weights - lr * gradient, loss
        >>> range_test(step, jnp.zeros(4), batches).bounds.status
        'ok'

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    others = {name: (value, lambda value: True) for name, value in (("state", state), ("batches", batches))}
    _names.check_order("range_test", {"step_fn": (step_fn, callable), **others})
    _check_functions(step_fn, optimizer, rest, evaluate)
    _batches.check_batches(batches, state)
    size = 1 if chunk is None else _checks.integer("chunk", chunk, at_least=1)
    arguments = min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate
    sweep = Sweep(*arguments, seed=None, total_steps=total_steps, refine=refine, verbose=verbose)
    if not jax.tree.leaves(state):
        raise TypeError(f"state must hold the parameters that step_fn changes; got {_checks.quoted(state)}.")
    params, trained = state, None
    if optimizer is not None:
        step_fn = OptaxStep(step_fn, state, optimizer, rest, min_lr)
        state = step_fn.initial
        trained = state[0]
        evaluate = None if evaluate is None else functools.partial(step_fn.evaluate, evaluate)
    if chunk is not None and evaluate is not None:
        size = updates_per_rate
    advance = _uncompiled(step_fn) if chunk is None else _compiled(step_fn)
    start = state
    # The state after the same updates at twice the learning rates; None once losses and state have differed.
    other = state

    def drive(seed: int | None, test: RangeTest, careful: bool) -> None:
        nonlocal state, other
        with contextlib.ExitStack() as undo:
            restore = _batches.copy_generators(batches)
            undo.callback(restore)

            def one_pass() -> Iterable[Any]:
                restore()
                return batches

            source = test.batches(one_pass) if isinstance(test, TrialTest) else _batches.repeated(batches)
            # With chunk=None, a batch may be anything that the step accepts.
            source, pending = source if chunk is None else map(_batches.checked, source), list[Any]()
            state, made = start, 0
            while not test.stopped:
                # With `evaluate`, a chunk may have ended early at a batch of another shape. Then this chunk has the
                # remaining updates at the same learning rate.
                rates = test.upcoming(size - made)
                taken, pending = _batches.take_same_shape(source, pending, len(rates))
                if not taken:
                    test.stop("data_exhausted")
                    break
                rates = rates[: len(taken)]
                if not test.updates:
                    test.tested |= conditions_of(params, trained, optimizer, taken[0])
                before, made_before = state, made
                made = 0 if evaluate is None else (made + len(taken)) % size
                state, losses = advance(state, taken, rates)
                if other is not None:
                    other, other_losses = advance(other, taken, 2 * rates)
                    if not np.array_equal(losses, other_losses, equal_nan=True) and not _equal(state, other):
                        other = None
                for number, (loss, _) in enumerate(zip(losses, test, strict=False)):
                    test.record(loss)
                    if test.in_doubt:
                        # Continue after the broken batch, from the state before it.
                        source, pending = itertools.chain(taken[number + 1 :], pending, source), []
                        state, made = before, made_before + number if evaluate is not None else 0
                        if number:
                            state, _ = advance(state, taken[:number], rates[:number])
                        other = None if other is None else state
                        break

    # When this is called, `state` is the state after the chunk.
    value = None if evaluate is None else lambda: evaluate(state)
    result = sweep.run(drive, value, read_once=isinstance(batches, Iterator), on_step=on_step)
    if other is not None and np.ptp(result.loss) > 0 and result.bounds.status != "too_few_points":
        fix = (
            "step_fn must use its argument lr and return the state that it changes"
            if optimizer is None
            else "optimizer must use the learning rate that it is called with, as lambda lr: optax.adamw(lr) does"
        )
        raise RangeTestError(
            f"{fix}; got the same losses or the same state, bit for bit, at twice the learning rates. If it does, the "
            "updates are too small to change them: raise max_lr."
        )
    return result


def _uncompiled(step_fn: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Return a function that makes one update on copies, because the step may change or donate its arguments."""

    def advance(state: Any, taken: Any, rates: Any) -> tuple[Any, Any]:
        batch = jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, jax.Array | np.ndarray) else leaf, taken[0])
        state, loss = _pair(step_fn(jax.tree.map(copied, state), batch, jax.numpy.asarray(float(rates[0]))))
        return state, [_checks.scalar("loss", loss)]

    return advance


def _compiled(step_fn: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Return a function that makes all updates of a chunk in one call. It is compiled for each length and shape."""

    def scanned(state: Any, batches: Any, rates: Any) -> Any:
        # Filled with a Python number first, which makes the array weakly typed.
        given = batches, jax.numpy.full(rates.shape, 0.0).at[:].set(rates)
        return jax.lax.scan(lambda state, given: step_fn(state, *given), state, given)

    scan = jax.jit(scanned)
    flax: Any = sys.modules.get("flax.errors")
    explained = (TypeError, ValueError) if flax is None else (TypeError, ValueError, flax.TraceContextError)

    def advance(state: Any, taken: Any, rates: Any) -> tuple[Any, Any]:
        try:
            state, losses = scan(state, jax.tree.map(_batches.stack, *taken), rates)
        except explained as error:
            _explain(error, step_fn, state, taken[0])
            raise
        if not _batches.is_array(losses):
            raise TypeError(
                f"step_fn must return (state, loss), where loss is a number; got a {type(losses).__name__} as "
                "loss. Return other values as part of the state, or not at all."
            )
        return state, np.asarray(losses, dtype=np.float64)

    return advance


def _equal(state: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(state), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(
        bool(jax.numpy.array_equal(leaf, another)) if _batches.is_array(leaf) else leaf == another
        for leaf, another in zip(leaves, others, strict=True)
    )


def _check_functions(step_fn: Any, optimizer: Any, rest: Any, evaluate: Any) -> None:
    if optimizer is None and rest is not None:
        raise ValueError("rest= needs optimizer=; got rest= without optimizer=. Put it into the state of step_fn.")
    name, of = ("step_fn", "state") if optimizer is None else ("loss_of", "params" if rest is None else "params, rest")
    if optimizer is None:
        arguments = "state, batch, lr"
        fix = "For a loss of (params, batch), pass optimizer=, such as optimizer=optax.adamw."
    elif rest is None:
        arguments = "params, batch"
        fix = "Write lambda params, batch: loss_of(params, *batch). Pass other values that it changes as rest=."
    else:
        arguments, fix = "params, rest, batch", "The second argument is the value of rest=."
    check_takes(name, step_fn, arguments, fix)
    nnx: Any = sys.modules.get("flax.nnx")
    for variable, value in _batches.used_by(step_fn).items() if nnx is not None else ():
        if isinstance(value, nnx.Optimizer):
            raise TypeError(
                f"{name} must change only its arguments; got a function that uses {variable}, an nnx.Optimizer, from "
                "outside. Pass it in the state: range_test(step_fn, (model, optimizer), batches)."
            )
    if evaluate is not None:
        check_takes("evaluate", evaluate, of, "It returns the number to record.")


def _pair(returned: Any) -> Any:
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        kind = f"{type(returned).__name__} of {len(returned)}" if isinstance(returned, tuple | list) else None
        raise TypeError(
            f"step_fn must return two values, the next state and the loss; got {kind or type(returned).__name__}. "
            "Write: return state, loss"
        )
    return returned


def _explain(error: Exception, step_fn: Any, state: Any, batch: Any) -> None:
    """Raise an error that names the requirement that `step_fn` breaks, if this is why it cannot be compiled."""
    of_loss = isinstance(step_fn, OptaxStep)
    name = "loss_of" if of_loss else "step_fn"
    for leaf in jax.tree.leaves(state):
        if not _batches.is_array(leaf) and not isinstance(leaf, int | float | complex):
            raise TypeError(
                f"state must be a pytree of arrays; got one with {_checks.quoted(leaf)}. The order of arguments is "
                "step_fn, state, batches. Leave out everything else, for example with eqx.partition(model, "
                "eqx.is_array), or pass optimizer=, which takes such a model. With chunk=None, any state is allowed."
            ) from error
    if isinstance(error, jax.errors.JAXTypeError):
        raise TypeError(
            f"{name} must be a function that JAX can compile, without float(), bool(), if or NumPy on values that "
            f"depend on its arguments; got {type(error).__name__}. Use jax.numpy"
            f"{'' if of_loss else ', or pass chunk=None to call it uncompiled'}."
        ) from error
    if "different trace level" in str(error):
        raise TypeError(
            f"{name} must change only NNX objects in its arguments; got an object from outside. Pass it in "
            f"{'the parameters or as rest=' if of_loss else 'the state'}."
        ) from error
    if not isinstance(error, TypeError):
        return
    try:
        returned = jax.eval_shape(step_fn, state, batch, 0.0)
    except TypeError:
        # The function itself raises, and its own error shows the place.
        return
    new, _ = _pair(returned)
    if of_loss and _batches.shape_of(new[2]) != _batches.shape_of(state[2]):
        raise TypeError(
            "loss_of must return (loss, rest), with the structure, shapes and dtypes of its argument rest, "
            f"{_describe(state[2])}; got {_describe(new[2])}."
        ) from error
    if not of_loss and _batches.shape_of(new) != _batches.shape_of(state):
        raise TypeError(
            "step_fn must return the next state first, with the structure, shapes and dtypes of its argument state, "
            f"{_describe(state)}; got {_describe(new)}. Write: return state, loss"
        ) from error


def _describe(tree: Any, named: int = 4) -> str:
    structure, leaves = _batches.shape_of(tree)
    if len(leaves) > named or not leaves:
        return str(structure)
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in leaves)
