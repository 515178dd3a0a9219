"""Small networks as pure functions, so that hundreds of training runs fit into one compiled call.

A model is `init(key) -> (parameters, state)` and `apply(parameters, state, x, key, train) -> (output, state)`. The
state holds the running statistics of batch normalization, and the key is for dropout. Convolutions are matrix products
of shifted images, so many networks together are one batched product, which is fast on a CPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Model(NamedTuple):
    init: Callable[[Any], Any]
    apply: Callable[..., Any]


def _dense(key: Any, inputs: int, outputs: int, gain: float = 2.0) -> dict[str, Any]:
    return {"w": jax.random.normal(key, (inputs, outputs)) * (gain / inputs) ** 0.5, "b": jnp.zeros(outputs)}


def _linear(p: Any, x: Any) -> Any:
    return x @ p["w"] + p["b"]


def _normalized(p: Any, state: Any, x: Any, train: bool) -> Any:
    """Batch normalization over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    mean, var = (x.mean(axes), x.var(axes)) if train else (state["mean"], state["var"])
    new = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * var}
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * p["scale"] + p["shift"], new if train else state


def _norm(width: int) -> Any:
    return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}, {"mean": jnp.zeros(width), "var": jnp.ones(width)}


def _dropped(x: Any, key: Any, rate: float, train: bool) -> Any:
    if not train or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def _layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def mlp(
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
    activation: Callable[[Any], Any] = jax.nn.relu,
) -> Model:
    widths = (inputs, *hidden, outputs)

    def init(key: Any) -> Any:
        keys = jax.random.split(key, len(widths))
        layers = [
            _dense(k, a, b, 2.0 if b != outputs else 1.0)
            for k, a, b in zip(keys, widths[:-1], widths[1:], strict=False)
        ]
        norms = [_norm(width) for width in hidden] if batch_norm else []
        return {"layers": layers, "norms": [p for p, _ in norms]}, [s for _, s in norms]

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        new = []
        x = x.reshape(x.shape[0], -1)
        for number, layer in enumerate(p["layers"][:-1]):
            x = _linear(layer, x)
            if batch_norm:
                x, changed = _normalized(p["norms"][number], state[number], x, train)
                new.append(changed)
            x = _dropped(activation(x), jax.random.fold_in(key, number), dropout, train)
        return _linear(p["layers"][-1], x), new

    return Model(init, apply)


def _convolved(p: Any, x: Any) -> Any:
    """A 3 × 3 convolution that keeps the size of the image."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ p["w"] + p["b"]


def _pooled(x: Any) -> Any:
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def cnn(
    shape: tuple[int, int, int],
    channels: tuple[int, ...],
    dense: int,
    outputs: int,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Model:
    def init(key: Any) -> Any:
        keys = jax.random.split(key, len(channels) + 2)
        depths = (shape[2], *channels)
        convolutions = [_dense(k, 9 * a, b) for k, a, b in zip(keys, depths[:-1], depths[1:], strict=False)]
        size = (shape[0] >> len(channels)) * (shape[1] >> len(channels)) * channels[-1]
        norms = [_norm(width) for width in channels] if batch_norm else []
        head = [_dense(keys[-2], size, dense), _dense(keys[-1], dense, outputs, 1.0)]
        return {"convolutions": convolutions, "head": head, "norms": [p for p, _ in norms]}, [s for _, s in norms]

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        new = []
        x = x.reshape(x.shape[0], *shape)
        for number, layer in enumerate(p["convolutions"]):
            x = _convolved(layer, x)
            if batch_norm:
                x, changed = _normalized(p["norms"][number], state[number], x, train)
                new.append(changed)
            x = _pooled(jax.nn.relu(x))
        x = _dropped(jax.nn.relu(_linear(p["head"][0], x.reshape(x.shape[0], -1))), key, dropout, train)
        return _linear(p["head"][1], x), new

    return Model(init, apply)


def gru(tokens: int, features: int, width: int, outputs: int, *, every: bool = False) -> Model:
    """A gated recurrent unit over the rows of an image. The output uses the last state, or `every` state."""

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 3)
        return {
            "gates": _dense(keys[0], features + width, 2 * width, 1.0),
            "candidate": _dense(keys[1], features + width, width, 1.0),
            "out": _dense(keys[2], width, outputs, 1.0),
        }, []

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        x = x.reshape(x.shape[0], tokens, features)
        h = jnp.zeros((x.shape[0], width))
        states = []
        for t in range(tokens):
            reset, update = jnp.split(jax.nn.sigmoid(_linear(p["gates"], jnp.concatenate([x[:, t], h], -1))), 2, -1)
            candidate = jnp.tanh(_linear(p["candidate"], jnp.concatenate([x[:, t], reset * h], -1)))
            h = update * h + (1 - update) * candidate
            states.append(h)
        return _linear(p["out"], jnp.stack(states, 1) if every else h), state

    return Model(init, apply)


def attention(tokens: int, features: int, width: int, outputs: int, *, blocks: int = 1, causal: bool = False) -> Model:
    """A small transformer over the rows of an image: single-headed, normalized before each part.

    A causal transformer sees only earlier tokens, and has an output for every token.
    """
    seen = jnp.tril(jnp.ones((tokens, tokens), bool)) if causal else True

    def init(key: Any) -> Any:
        keys = iter(jax.random.split(key, 3 + 4 * blocks))
        return {
            "embed": _dense(next(keys), features, width, 1.0),
            "position": 0.02 * jax.random.normal(next(keys), (tokens, width)),
            "blocks": [
                {
                    "qkv": _dense(next(keys), width, 3 * width, 1.0),
                    "mix": _dense(next(keys), width, width, 1.0),
                    "up": _dense(next(keys), width, 2 * width),
                    "down": _dense(next(keys), 2 * width, width, 1.0),
                }
                for _ in range(blocks)
            ],
            "out": _dense(next(keys), width, outputs, 1.0),
        }, []

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        x = _linear(p["embed"], x.reshape(x.shape[0], tokens, features)) + p["position"]
        for block in p["blocks"]:
            q, k, v = jnp.split(_linear(block["qkv"], _layer_norm(x)), 3, -1)
            weights = jax.nn.softmax(jnp.where(seen, q @ jnp.swapaxes(k, -1, -2) / width**0.5, -jnp.inf), -1)
            x = x + _linear(block["mix"], weights @ v)
            x = x + _linear(block["down"], jax.nn.gelu(_linear(block["up"], _layer_norm(x))))
        x = _layer_norm(x)
        return _linear(p["out"], x if causal else x.mean(1)), state

    return Model(init, apply)


def residual(inputs: int, width: int, blocks: int, outputs: int, *, normalized: bool) -> Model:
    """Blocks of two layers, each added to its input; normalized before, or with small weights at the start."""

    def init(key: Any) -> Any:
        keys = iter(jax.random.split(key, 2 + 2 * blocks))
        gain = 1.0 if normalized else 1 / blocks
        return {
            "in": _dense(next(keys), inputs, width),
            "blocks": [
                (_dense(next(keys), width, width), _dense(next(keys), width, width, gain)) for _ in range(blocks)
            ],
            "out": _dense(next(keys), width, outputs, 1.0),
        }, []

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        x = _linear(p["in"], x.reshape(x.shape[0], -1))
        for first, second in p["blocks"]:
            inner = _layer_norm(x) if normalized else x
            x = x + _linear(second, jax.nn.relu(_linear(first, inner)))
        return _linear(p["out"], _layer_norm(x) if normalized else x), state

    return Model(init, apply)


def residual_cnn(shape: tuple[int, int, int], channels: int, blocks: int, outputs: int) -> Model:
    """Convolutions with batch normalization, each added to its input after the first, which halves the image."""

    def init(key: Any) -> Any:
        keys = iter(jax.random.split(key, 2 + blocks))
        norms = [_norm(channels) for _ in range(blocks + 1)]
        convolutions = [_dense(next(keys), 9 * depth, channels) for depth in (shape[2], *[channels] * blocks)]
        out = _dense(next(keys), channels, outputs, 1.0)
        return {"convolutions": convolutions, "norms": [p for p, _ in norms], "out": out}, [s for _, s in norms]

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        new = []
        x = x.reshape(x.shape[0], *shape)
        for number, (convolution, norm, old) in enumerate(zip(p["convolutions"], p["norms"], state, strict=True)):
            inner, changed = _normalized(norm, old, _convolved(convolution, x), train)
            new.append(changed)
            x = x + jax.nn.relu(inner) if number else _pooled(jax.nn.relu(inner))
        return _linear(p["out"], x.mean((1, 2))), new

    return Model(init, apply)


def per_pixel(shape: tuple[int, int, int], channels: tuple[int, ...], outputs: int) -> Model:
    """Convolutions that keep the size of the image, and `outputs` values for every pixel: (count, pixels, outputs).

    One value for every pixel has the shape (count, pixels).
    """

    def init(key: Any) -> Any:
        keys = jax.random.split(key, len(channels) + 1)
        depths = (shape[2], *channels)
        layers = [_dense(k, 9 * a, b) for k, a, b in zip(keys, depths[:-1], depths[1:], strict=False)]
        return {"layers": [*layers, _dense(keys[-1], depths[-1], outputs, 1.0)]}, []

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        x = x.reshape(x.shape[0], *shape)
        for layer in p["layers"][:-1]:
            x = jax.nn.relu(_convolved(layer, x))
        out = _linear(p["layers"][-1], x)
        return out.reshape((x.shape[0], -1, outputs) if outputs > 1 else (x.shape[0], -1)), state

    return Model(init, apply)


def two_views(encoder: Model, noise: float) -> Model:
    """Train an encoder on two views of each sample, with a fifth of the values erased and with normal noise.

    In training the output has the first views of all samples, and then the second views.
    """

    def view(key: Any, x: Any) -> Any:
        kept, noisy = jax.random.split(key)
        return jax.random.bernoulli(kept, 0.8, x.shape) * x + noise * jax.random.normal(noisy, x.shape)

    def apply(p: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
        if train:
            x = jnp.concatenate([view(one, x) for one in jax.random.split(key)])
        return encoder.apply(p, state, x, key, train)

    return Model(encoder.init, apply)
