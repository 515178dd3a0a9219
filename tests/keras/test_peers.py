"""Keras' own schedules, and the schedules that docs/how-to/migrate.md writes for them."""

import keras
import pytest
from hypothesis import given, settings
from tests.conformance import peers

SYMBOLS = peers.symbols()
ROWS = [row for row in peers.rows() if row.peer.startswith("keras")]


def tolerance(row):
    """Keras computes in float32 on TensorFlow, and cosines on JAX, under float64 too."""
    backend = keras.backend.backend()
    return 3e-7 if backend == "tensorflow" or (backend == "jax" and "Cosine" in row.old) else peers.EXACT


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.old)
def test_the_page_gives_the_rates_of_keras(row):
    assert row.difference(SYMBOLS) <= tolerance(row)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="float64 in all schedules of Keras")
@settings(max_examples=15, deadline=None)
@given(symbols=peers.any_symbols())
def test_the_page_holds_for_any_arguments(symbols):
    differences = {row.old: row.difference(symbols) / tolerance(row) for row in ROWS}
    assert {old: found for old, found in differences.items() if not found <= 1} == {}
