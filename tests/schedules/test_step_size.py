"""Smith's rule for half a cycle: 2 to 10 epochs."""

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Cyclical, Run, step_size


@pytest.mark.parametrize(("epochs", "expected"), [(2, 480), (4, 960), (10, 2400), (2.5, 600)])
def test_half_a_cycle_of_mnist_in_batches_of_250(epochs, expected):
    assert step_size(60_000, 250, epochs) == expected


def test_four_epochs_by_default():
    # CIFAR-10 in the paper: 50,000 images, batches of 100, 500 steps in an epoch; a stepsize of 2000 is 4 epochs.
    assert step_size(50_000, 100) == 2000


def test_a_last_batch_that_is_not_full_is_a_step_too():
    assert step_size(101, 50, epochs=2) == 6


@given(samples=st.integers(1, 10**9), batch_size=st.integers(1, 10**5), epochs=st.floats(2, 10))
def test_is_a_whole_number_of_steps_nearest_to_the_epochs_and_fit_for_a_schedule(samples, batch_size, epochs):
    length = step_size(samples, batch_size, epochs)
    assert type(length) is int
    assert abs(length - epochs * math.ceil(samples / batch_size)) <= 0.5 * (1 + 1e-6)
    assert Cyclical(0.001, 0.1, length)(length) == 0.1


@pytest.mark.parametrize("epochs", [1.99, 10.01, 0.1, 100])
def test_warns_outside_two_to_ten_epochs(epochs):
    with pytest.warns(UserWarning, match=f"half a cycle of {epochs:g} epochs is outside the 2 to 10") as caught:
        length = step_size(1000, 10, epochs)
    assert length == max(1, round(100 * epochs))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("epochs", [2, 2.0, 7, 10])
def test_is_quiet_within_two_to_ten_epochs(epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step_size(1000, 10, epochs)


def test_is_never_shorter_than_a_step():
    with pytest.warns(UserWarning, match="outside"):
        assert step_size(1, 1, epochs=0.01) == 1


@given(
    samples=st.integers(1, 10**6),
    batch_size=st.integers(1, 512),
    hundredths=st.integers(200, 1000),
)
def test_is_the_length_that_a_run_gives(samples, batch_size, hundredths):
    run = Run.of(samples=samples, batch_size=batch_size, epochs=20)
    assert step_size(samples, batch_size, epochs=hundredths / 100) == run.steps(f"{hundredths / 100} epochs")


@pytest.mark.parametrize("epochs", [0, -1, math.inf])
def test_half_a_cycle_without_a_length_is_a_value_error(epochs):
    with pytest.raises(ValueError, match=r"^epochs must be a finite number greater than 0; got epochs="):
        step_size(100, 10, epochs)
