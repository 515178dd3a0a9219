"""`UpdateCounter`, state by state, without a model: an optimizer's counter that the tests move."""

from types import SimpleNamespace

import keras
import pytest

from cyclr.keras import _private
from cyclr.keras._updates import UpdateCounter

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def make(optimizer, *, steps=None, per_call=1, **arguments):
    model = SimpleNamespace(optimizer=optimizer, steps_per_execution=per_call, _flatten_layers=list)
    return UpdateCounter(SimpleNamespace(model=model, params={"steps": steps}), **arguments)


def move(optimizer, batches=1):
    _private.counter(optimizer).assign(_private.batches_seen(optimizer) + batches)


def test_micro_batches_belong_to_one_update():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    counter = make(optimizer)
    move(optimizer, 4)
    counter.begin_epoch()
    updates = []
    for batch in range(5):
        counter.begin_batch(batch)
        move(optimizer)
        updates.append((counter.end_batch(batch), counter.made(counter.end_batch(batch))))
    assert updates == [(1, False), (1, True), (2, False), (2, False), (2, True)]
    assert (_private.accumulation(optimizer), _private.updates_done(optimizer), counter.end_epoch()) == (3, 3, 3)


def test_a_call_of_several_steps_that_is_cut_short_ends_with_the_last_batch():
    optimizer = keras.optimizers.SGD(0.1)
    counter = make(optimizer, steps=6, per_call=4)
    counter.begin_epoch()
    counter.begin_batch(0)
    move(optimizer, 4)
    assert counter.end_batch(3) == 3
    counter.begin_batch(4)
    move(optimizer, 2)
    assert counter.end_batch(7) == 5
    assert counter.end_epoch() == 6


@pytest.mark.parametrize("every_batch", [False, True])
def test_a_phantom_update_is_undone_at_the_end_of_the_epoch(every_batch):
    optimizer = keras.optimizers.SGD(0.1)
    counter = make(optimizer, every_batch=every_batch)
    for epoch in range(2):
        counter.begin_epoch()
        for batch in range(3):
            counter.begin_batch()
            move(optimizer)
            if batch < 2:
                counter.end_batch()
        wanted = 2 * epoch + 2
        if not ON_TENSORFLOW and not every_batch:
            # Only TensorFlow counts a batch without data: here it is a batch that another callback has stopped.
            wanted = 3 * epoch + 3
        assert counter.end_epoch() == wanted == _private.batches_seen(optimizer)


def test_an_epoch_that_ends_between_batches_leaves_the_counter():
    optimizer = keras.optimizers.SGD(0.1)
    counter = make(optimizer)
    counter.begin_epoch()
    counter.begin_batch()
    move(optimizer, 3)  # a training step that makes three updates
    counter.end_batch()
    assert counter.end_epoch() == 3


def test_loss_scaling_is_asked_for_the_update_of_every_batch():
    optimizer = keras.optimizers.SGD(0.1)
    counter = make(keras.optimizers.LossScaleOptimizer(optimizer))
    counter.begin_epoch()
    updates = []
    for batch, skipped in enumerate([True, False, True, False]):
        counter.begin_batch(batch)
        if not skipped:
            move(optimizer)
        update = counter.end_batch(batch)
        updates.append((update, counter.made(update)))
    assert updates == [(0, False), (0, True), (1, False), (1, True)]


def test_the_values_of_micro_batches_are_gathered_until_the_update_is_made():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    counter = make(optimizer, every_batch=True)
    gathered = []
    for value in "abcde":
        counter.begin_batch()
        move(optimizer)
        gathered.append((counter.gather(value, last=value == "e"), counter.within_update))
    assert gathered == [([], True), (["a", "b"], False), ([], True), (["c", "d"], False), (["e"], False)]
    counter.begin_batch()
    counter.gather("f")
    counter.restart()
    assert not counter.within_update
