"""What the tests of the schedules draw from: `st.from_type` of a schedule or `Decay` gives any legal one.

Every schedule drawn here can be written to JSON; decays that hold a function are tested by themselves.
"""

from hypothesis import strategies as st

from cyclr import Anneal, Cyclical, Decay, Exponential, Halving, OneCycle, WarmRestarts
from cyclr.schedules.anneal import CURVES
from cyclr.schedules.shape import SHAPES

WAVES = st.sampled_from(list(SHAPES))
BOUNDS = st.tuples(st.floats(0, 1e3), st.floats(0, 1e3)).filter(lambda pair: pair[0] != pair[1]).map(sorted)
LENGTHS = st.integers(1, 12) | st.integers(1, 10**7)
DECAYS = st.just(Halving()) | st.builds(
    Exponential,
    st.floats(0.5, 1) | st.floats(0, 1, exclude_min=True),
    st.sampled_from(["max", "both"]),
    st.sampled_from(["step", "cycle"]),
)
GROWTHS = st.sampled_from([1, 1.1, 1.5, 2, 3]) | st.floats(1.2, 50)


@st.composite
def cyclicals(draw):
    base_lr, max_lr = draw(BOUNDS)
    style = {"shape": draw(WAVES), "decay": draw(st.none() | DECAYS)}
    if draw(st.booleans()):
        return Cyclical(base_lr, max_lr, draw(LENGTHS), step_size_down=draw(st.none() | LENGTHS), **style)
    cycles = draw(st.integers(1, 50))
    total = 2 * cycles + 1 + draw(st.integers(0, 10**4))
    rise = draw(st.floats(0, 1, exclude_min=True, exclude_max=True))
    return Cyclical.over(total, cycles, base_lr, max_lr, rise=rise, stays=draw(st.booleans()), **style)


@st.composite
def one_cycles(draw):
    base_lr, max_lr = draw(BOUNDS)
    total = draw(st.integers(4, 30) | st.integers(4, 10**7))
    up = draw(st.integers(1, total - 3))
    fall = draw(st.none() | st.integers(1, total - 2 - up))
    final_lr = draw(st.none() | st.floats(0, max_lr, exclude_max=True))
    return OneCycle(base_lr, max_lr, total, rise=up, fall=fall, final_lr=final_lr, shape=draw(WAVES))


@st.composite
def warm_restarts(draw):
    base_lr, max_lr = draw(BOUNDS)
    style = {"growth": draw(GROWTHS), "shape": draw(WAVES), "decay": draw(st.none() | DECAYS)}
    if draw(st.booleans()):
        return WarmRestarts(base_lr, max_lr, draw(LENGTHS), **style)
    cycles = draw(st.integers(1, 8))
    return WarmRestarts.over(draw(st.integers(50**9, 10**16)), cycles, base_lr, max_lr, **style)


@st.composite
def anneals(draw):
    curve = draw(st.sampled_from(list(CURVES)))
    values = st.floats(0, 1e3) if CURVES[curve] is None else st.floats(1e-9, 1e3)
    start, end = draw(values), draw(values)
    if curve != "cosine" and draw(st.booleans()):
        limit = draw(st.floats(0, 1)) * start if end <= start else start * draw(st.floats(1, 100))
        return Anneal(start, end, draw(LENGTHS), curve, limit=limit)
    powers = st.floats(0.1, 5) if CURVES[curve] is None else st.just(1.0)
    return Anneal(start, end, draw(LENGTHS), curve, power=draw(powers), warp=draw(powers))


st.register_type_strategy(Cyclical, cyclicals())
st.register_type_strategy(OneCycle, one_cycles())
st.register_type_strategy(WarmRestarts, warm_restarts())
st.register_type_strategy(Anneal, anneals())
st.register_type_strategy(Decay, DECAYS)
