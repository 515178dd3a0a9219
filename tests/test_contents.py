"""What objects hold in Python is restored in place."""

import random

import numpy as np
import pytest

from cyclr._contents import Contents


class Stored(list):
    """A list that keeps its items in an attribute, as those of TensorFlow do."""

    def __init__(self, items):
        super().__init__(items)
        self.storage = list(items)

    def append(self, item):
        super().append(item)
        self.storage.append(item)


def test_the_attributes_of_a_container_are_restored():
    value = Stored([1, 2])
    contents = Contents()
    contents.add({"held": [value]})
    value.append(3)
    contents.restore()
    assert list(value) == value.storage == [1, 2]


GENERATORS = {
    "numpy": (lambda: np.random.default_rng(0), lambda generator: generator.normal()),
    "numpy, old": (lambda: np.random.RandomState(0), lambda generator: generator.normal()),
    "python": (lambda: random.Random(0), lambda generator: generator.random()),
    "array": (lambda: np.zeros(2), lambda array: array.__iadd__(1).sum()),
}


@pytest.mark.parametrize(("make", "draw"), GENERATORS.values(), ids=GENERATORS)
def test_generators_and_arrays_are_restored_with_their_values(make, draw):
    value = make()
    draw(value)
    contents = Contents(copy=lambda value: None)
    contents.add((value,))
    drawn = draw(value)
    contents.restore()
    assert draw(value) == drawn


def test_a_read_only_array_is_left_alone():
    array = np.zeros(2)
    array.setflags(write=False)
    contents = Contents(copy=lambda value: None)
    contents.add([array])
    contents.restore()
