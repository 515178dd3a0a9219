"""How many steps of a schedule are drawn if nobody says so."""

import pytest

import cyclr

Figure = pytest.importorskip("matplotlib.figure").Figure


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (cyclr.OneCycle(0.01, 0.5, total_steps=50_000), 49_999),
        (cyclr.OneCycle(0.01, 0.5, total_steps=100), 99),
        (cyclr.Cyclical.over(101, 3, 0.01, 0.5), 100),
        (cyclr.Cyclical(0.01, 0.5, 100), 800),
        (cyclr.WarmRestarts(0.01, 0.5, 10, growth=2), 150),
        (cyclr.Warmup(cyclr.OneCycle(0.01, 0.5, total_steps=100), 20), 119),
        (cyclr.Sequence([cyclr.Constant(0.1), cyclr.Cyclical(0.01, 0.5, 5)], [30]), 70),
        (cyclr.Sequence([cyclr.Constant(0.1), cyclr.Constant(0.2)], [30, 5]), 34),
        (cyclr.Constant(0.1), 999),
        (cyclr.Anneal(0.1, 0.0, 5000, "cosine"), 5000),
        (cyclr.Anneal(0.0, 0.1, 5000), 5000),
        (cyclr.Anneal(0.1, 0.09, 10, "exponential", limit=0), 285),
        (0.8 * cyclr.Clock(cyclr.Anneal(1, 0.5, 1, "exponential", limit=0), every=30), 179),
        (0.1 * cyclr.Cyclical(0.01, 0.5, 5), 40),
        (cyclr.Cyclical(0.01, 0.5, 5).mirrored(0.8, 0.9), 40),
        (cyclr.Product(0.1, 0.5), 999),
        (cyclr.Anneal(0.1, 0.2, 50) * cyclr.Cyclical(0.01, 0.5, 5), 50),
        (cyclr.Clock(cyclr.Anneal(0.0, 0.1, 50), repeat=50), 199),
        (cyclr.Clock(cyclr.Cyclical(0.01, 0.5, 5), every=3), 122),
        (cyclr.Clock(cyclr.Cyclical(0.01, 0.5, 50), start=50), 400),
        (cyclr.WarmupStableDecay(0.1, 300, warmup=0.1), 299),
        (cyclr.WarmRestarts.over(101, 3, 0.01, 0.5, growth=2), 100),
        (cyclr.Warmup(cyclr.Anneal(0.1, 0.0, 50, "cosine"), 10), 60),
        (cyclr.Warmup(cyclr.Cyclical(0.01, 0.5, 5), 10, over=True), 40),
    ],
    ids=repr,
)
def test_the_whole_schedule_or_its_first_cycles_are_drawn(schedule, last):
    x, _ = schedule.plot(ax=Figure().add_subplot()).lines[0].get_data()
    assert (x[0], x[-1]) == (0, last)


@pytest.mark.parametrize("steps", [1, 2.0, "all"])
def test_an_illegal_number_of_steps_to_plot_is_refused(steps):
    with pytest.raises((TypeError, ValueError), match=r"^steps must be an integer"):
        cyclr.Constant(0.1).plot(steps)
