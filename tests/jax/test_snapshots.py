"""Snapshots, ensemble and average for JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.processes import run_kills

import cyclr
from cyclr import Member, MembersError
from cyclr.jax import AutoCycle, Snapshots, average, ensemble

CYCLE = cyclr.Cyclical(0.125, 0.5, 2)
ENDS = [4, 8, 12]
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
IN = pytest.mark.parametrize("in_folder", [False, True], ids=["memory", "folder"])


def start():
    return {
        "dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2, jnp.bfloat16)},
        "list": [jnp.array(1.0), None, (jnp.arange(3),)],
        "key": jax.random.key(0),
        "static": "relu",
    }


def update(params, step, lr=None):
    """Lower everything that is floating-point by the rate."""
    lr = CYCLE(step) if lr is None else lr
    return jax.tree.map(
        lambda leaf: (
            leaf - jnp.asarray(lr, leaf.dtype)
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        params,
    )


def run(snapshots, steps, params=None):
    params, seen = start() if params is None else params, {}
    for step in steps:
        params = seen[step] = update(params, step)
        snapshots.after(step, params)
    return params, seen


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if not isinstance(a, str):
            a, b = (jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for v in (a, b))
            assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@IN
@pytest.mark.parametrize(
    ("arguments", "wanted"), [({}, ENDS), ({"keep": 2}, [8, 12]), ({"every": 3, "keep": 3}, [8, 11, 14])]
)
def test_members_are_the_parameters_after_their_updates(arguments, wanted, in_folder, tmp_path):
    snapshots = Snapshots(CYCLE, folder=tmp_path if in_folder else None, **arguments)
    _, seen = run(snapshots, range(16))
    assert [member.step for member in snapshots.members] == wanted
    for member in snapshots.members:
        assert member.lr == CYCLE(member.step)
        same(member.state, seen[member.step])


def test_an_update_may_donate_the_parameters():
    step_fn = jax.jit(lambda params, lr: params - lr, donate_argnums=0)
    snapshots, params, wanted = Snapshots(CYCLE), jnp.ones(3), []
    for step in range(16):
        params = step_fn(params, CYCLE(step))
        snapshots.after(jnp.asarray(step), params)
        wanted += [np.array(params)] if step in ENDS else []
    for member, value in zip(snapshots.members, wanted, strict=True):
        np.testing.assert_array_equal(member.state, value)


@pytest.mark.parametrize("at", [3, 5, 9])
@IN
def test_a_split_run_has_the_members_of_the_whole(at, in_folder, tmp_path):
    folder = tmp_path if in_folder else None
    whole = Snapshots(CYCLE)
    run(whole, range(16))
    first = Snapshots(CYCLE, folder=folder)
    params, _ = run(first, range(at))
    saved = first.state_dict()
    run(first, range(at, at + 4), params)
    second = Snapshots(CYCLE, folder=folder, like=params)
    second.load_state_dict(saved)
    run(second, range(at, 16), params)
    assert [member.step for member in second.members] == ENDS
    for one, other in zip(second.members, whole.members, strict=True):
        same(one.state, other.state)


def test_after_kills_the_members_are_those_of_the_whole_run():
    run_kills("jax")


def test_a_folder_that_is_found_again_needs_the_structure(tmp_path):
    run(Snapshots(CYCLE, folder=tmp_path), range(16))
    (first, *_) = Snapshots(CYCLE, folder=tmp_path).members
    with pytest.raises(MembersError, match=r"Create Snapshots\(schedule, folder=folder, like=params\)"):
        first.state  # noqa: B018
    same(Snapshots(CYCLE, folder=tmp_path, like=start()).members[0].state, run(Snapshots(CYCLE), range(5))[0])


def test_flax_and_equinox_models_are_kept(tmp_path):
    equinox, nnx = pytest.importorskip("equinox"), pytest.importorskip("flax.nnx")
    model = equinox.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    state = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    for params in (model, state):
        snapshots = Snapshots(CYCLE, folder=tmp_path / type(params).__name__, every=1)
        snapshots.after(0, params)
        found = snapshots.members[0].state
        assert jax.tree.structure(found) == jax.tree.structure(params)
    again = ensemble(lambda model, x: model(x), [Member(0, 0.1, model)] * 2)(X[0])
    np.testing.assert_allclose(again, model(X[0]), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning")
@pytest.mark.parametrize("schedule", [cyclr.Cyclical.over(60, 3, 0.001, 0.05), None], ids=["schedule", "range test"])
def test_an_auto_cycle_owns_the_step(schedule):
    total = 60 if schedule else 1500
    params = jnp.zeros(3)
    auto = AutoCycle(params, total_steps=total, schedule=schedule)
    ends, every, rates, undone = Snapshots(auto), Snapshots(auto, every=10), [], set()

    @jax.jit
    def step_fn(params, lr):
        loss, gradient = jax.value_and_grad(lambda p: jnp.mean((X @ p - 1) ** 2))(params)
        return params - lr * gradient, loss

    for step in range(total):
        rates.append(auto.lr)
        params, loss = step_fn(params, auto.lr)
        params = auto.step(math.nan if step == 39 and schedule else loss, params)
        undone |= {step} if auto.undone else set()
        ends.after(auto.last_step, params)
        every.after(auto.last_step, params)
    assert [member.step for member in ends.members] == ([19, 59] if schedule else [total - 1])
    assert {39} <= undone if schedule else undone >= set(range(len(auto.range_test.lr)))
    steps = [step for step in range(9, total, 10) if step not in undone]
    assert [member.step for member in every.members] == steps
    assert [member.lr for member in every.members] == [rates[step] for step in steps]


def members(count=3):
    return [
        Member(step, 0.1, {"weights": np.random.default_rng(step).normal(size=(3, 2)), "count": np.array(step)})
        for step in range(count)
    ]


@pytest.mark.parametrize(("weights", "activation"), [(None, None), ([1, 2, 5], jax.nn.softmax)])
def test_an_ensemble_predicts_the_weighted_mean_of_its_members(weights, activation):
    apply = jax.jit(lambda params, x: x @ params["weights"])
    found = [np.asarray((activation or (lambda v: v))(apply(member.state, X))) for member in members()]
    np.testing.assert_allclose(
        ensemble(apply, members(), activation=activation, weights=weights)(X),
        np.average(found, 0, weights),
        rtol=1e-4,
        atol=1e-6,
    )


def test_outputs_may_be_trees():
    output = ensemble(lambda params, x, scale: {"a": x @ params["weights"], "b": (scale * x,)}, members())(X, scale=2.0)
    np.testing.assert_allclose(
        output["a"], np.mean([X @ m.state["weights"] for m in members()], 0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(output["b"][0], 2 * X, rtol=1e-5)


def test_an_average_is_the_weighted_mean_and_that_of_optax():
    found = average(iter(members()), weights=[1, 0, 3])
    wanted = 0.25 * members()[0].state["weights"] + 0.75 * members()[2].state["weights"]
    np.testing.assert_allclose(found["weights"], wanted, rtol=1e-12)
    assert found["count"] == 2
    snapshots = Snapshots(CYCLE)
    run(snapshots, range(16))
    mean = average(snapshots.members)
    assert jax.tree.structure(mean) == jax.tree.structure(start())
    assert mean["dense"]["bias"].dtype == jnp.bfloat16
    running = snapshots.members[0].state["dense"]["kernel"]
    for number, member in enumerate(snapshots.members[1:], 2):
        running = optax.incremental_update(member.state["dense"]["kernel"], running, 1 / number)
    np.testing.assert_allclose(mean["dense"]["kernel"], running, rtol=1e-6)


# What is refused


def test_what_gives_no_members_is_refused():
    with pytest.raises(ValueError, match=r"Snapshots needs a schedule with cycle ends; got Constant.*pass every="):
        Snapshots(cyclr.Constant(0.1))
    with pytest.raises(TypeError, match=r"schedule must be a cyclr schedule; got schedule=0\.1"):
        Snapshots(0.1)
    with pytest.raises(TypeError, match="validate must be a function"):
        Snapshots(CYCLE, validate=3)
    snapshots = Snapshots(CYCLE, every=1)
    with pytest.raises(TypeError, match="step must be an integer"):
        snapshots.after(1.5, start())
    with pytest.raises(TypeError, match="params must hold arrays; got 'weights'"):
        snapshots.after(1, "weights")
    with pytest.raises(TypeError, match="must be called outside of compiled functions"):
        jax.jit(lambda step: snapshots.after(step, start()))(1)


@IN
def test_parameters_that_are_not_finite_or_of_another_model_are_refused(in_folder, tmp_path):
    snapshots = Snapshots(CYCLE, folder=tmp_path if in_folder else None, validate=lambda params: {"a": 1.0})
    run(snapshots, range(5))
    with pytest.raises(MembersError, match=r"NaN or infinity in \['dense'\]\['bias'\] after step 8"):
        snapshots.after(
            8, {**start(), "dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.full(2, jnp.nan, jnp.bfloat16)}}
        )
    with pytest.raises(MembersError, match=r"must be of this model, which has \['other'\] of shape \[1\]"):
        snapshots.after(8, {"other": jnp.ones(1)})
    assert [member.metrics for member in snapshots.members] == [{"a": 1.0}]
    if in_folder:
        with pytest.raises(MembersError, match="Choose another folder"):
            Snapshots(CYCLE, folder=tmp_path, like={"other": jnp.ones(1)})
        with pytest.raises(MembersError, match="Choose another folder"):
            Snapshots(CYCLE, folder=tmp_path).after(4, {"other": jnp.ones(1)})


def test_members_of_another_model_are_refused():
    other = Member(3, 0.1, {"weights": np.ones(2)})
    for combine in (functools.partial(ensemble, lambda params, x: x), average):
        with pytest.raises(MembersError, match="the member of step 3 must be of this model"):
            combine([*members(), other])
        with pytest.raises(ValueError, match="members must hold at least one"):
            combine([])
    with pytest.raises(TypeError, match="apply must be a function"):
        ensemble(3, members())
    with pytest.raises(TypeError, match="activation must be a function"):
        ensemble(lambda params, x: x, members(), activation="softmax")
