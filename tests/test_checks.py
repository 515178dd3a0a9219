"""What argument checks share: values are quoted briefly, and one number is one number of any kind."""

import math

import numpy as np
import pytest

from cyclr import _checks


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def shared(depth):
    """A list that holds another one twice, and so on: it is printed as 2 to the power of `depth` lists."""
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        10**400,
        10**5000,
        nested(100_000),
        list(range(10**5)),
        shared(60),
        np.arange(900.0),
        {"a": "b" * 500},
    ],
    ids=["text", "integer", "longer integer", "nested", "list", "shared", "array", "dict"],
)
def test_a_message_quotes_at_most_200_characters_of_a_value(value):
    assert len(_checks.quoted(value)) <= 220


@pytest.mark.parametrize("value", [0.1, "text", None, [1, 2], 10**100], ids=repr)
def test_a_short_value_is_quoted_as_it_is(value):
    assert _checks.quoted(value) == repr(value)


@pytest.mark.parametrize("value", [1.5, np.float32(1.5), np.array([[1.5]]), np.float64("nan"), math.inf])
def test_one_number_of_any_kind_is_a_float(value):
    assert repr(_checks.scalar("loss", value)) == repr(float(np.asarray(value).item()))


def test_several_losses_ask_for_their_mean():
    with pytest.raises(TypeError, match=r"^loss must be a number, .*; got loss of shape \(3,\)\. Take its mean\?$"):
        _checks.scalar("loss", np.ones(3))


class Loss:
    def __call__(self, outputs, targets):
        return 0.0


def test_a_class_in_place_of_its_object_is_an_error():
    with pytest.raises(TypeError, match=r"^loss_fn must be a function of x; got the class Loss\. Write Loss\(\)\.$"):
        _checks.function("loss_fn", Loss, "of x")
    assert _checks.function("fn", float, "of x") is float
    assert isinstance(_checks.function("fn", Loss(), "of x"), Loss)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("Addam", "Did you mean 'Adam'?"),
        ("adam", "Did you mean 'Adam'?"),
        ("one-cycle", "Did you mean 'one_cycle'?"),
        ("x", ""),
        (None, ""),
        (3, ""),
        ("Adam" * 10**6, ""),
    ],
)
def test_the_closest_name_is_offered(given, hint):
    assert _checks.did_you_mean(given, ["SGD", "Adam", "one_cycle"]) == hint
    with pytest.raises(ValueError, match=f"got optimizer=.*{hint.replace('?', '[?]')}$"):
        _checks.choice("optimizer", given, ["SGD", "Adam", "one_cycle"])
