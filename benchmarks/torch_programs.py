"""Small forms of public torch programs, with the learning rates of the program and with cycles between cyclr's bounds.

    python benchmarks/torch_programs.py [SEEDS [PROGRAM ...]]

Each form has the kind of model, the optimizer, the loss and the learning rates of the public program with its name, on
data of scikit-learn and Python. A row has the bounds of the first seed, and then three checks to the last bit: training
after a range test equals training without a range test, each update has the learning rate of the schedule, and a run in
two parts equals an uninterrupted run. Then come the mean losses on test data over SEEDS (3), lower is better: with the
learning rates of the program, and with `bounds.schedule` after the same number of updates. The last column counts the
seeds for which `bounds.schedule` is lower.
"""

import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pydoc_data.topics import topics
from statistics import mean
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss, relu
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import cyclr
from cyclr.torch import Scheduler, layer_groups, range_test

DIGITS = load_digits()
IMAGES, LABELS = torch.tensor(DIGITS.data / 16, dtype=torch.float32), torch.tensor(DIGITS.target)
TEXT = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")))
TEST = "test"
"""The number of the batch that is left out of training."""


def images(number: int | str) -> Any:
    rows = torch.arange(1440, 1797) if number == TEST else torch.randint(1440, (64,), generator=generator_of(number))
    return IMAGES[rows], LABELS[rows]


def text(number: int | str) -> Any:
    first, last, count = (400_000, len(TEXT) - 33, 256) if number == TEST else (0, 400_000, 8)
    places = torch.randint(first, last, (count, 1), generator=generator_of(number)) + torch.arange(32)
    return TEXT[places], TEXT[places + 1]


def pairs(number: int | str) -> Any:
    first, last, count = (1440, 1797, 2048) if number == TEST else (0, 1440, 64)
    one = torch.randint(first, last, (count,), generator=generator_of(number))
    # The first of eight candidates that shows the same digit, so that more than half of the pairs are positive.
    others = torch.randint(first, last, (count, 8), generator=generator_of(number))
    two = others.gather(1, (LABELS[others] == LABELS[one, None]).int().argmax(1, keepdim=True)).squeeze(1)
    return IMAGES[one], IMAGES[two], (LABELS[one] == LABELS[two]).float()


def generator_of(number: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(10**6 if number == TEST else int(number))


def classification(model: nn.Module, batch: Any) -> torch.Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def warmup_cosine(update: int, peak: float, end: float) -> float:
    if update < 20:
        return peak * (update + 1) / 21
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * (update - 20) / 180))


@dataclass
class Program:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    own: Callable[[int], float]
    """The program's own learning rate at an update."""
    batch: Callable[[Any], Any] = images
    loss_of: Callable[[Any, Any], torch.Tensor] = classification
    updates: int = 200
    accumulate: int = 1
    clip_norm: float | None = None
    max_lr: float = 10.0
    step_fn: Callable[[Any], torch.Tensor] | None = None
    also: Sequence[Any] = ()
    """The state that step_fn trains in addition to model and optimizer."""
    score: Callable[[], torch.Tensor] | None = field(default=None)

    def find(self) -> cyclr.Bounds:
        batches = [self.batch(number) for number in range(self.updates * self.accumulate)]
        loop: dict[str, Any] = {"step_fn": self.step_fn}
        if self.step_fn is None:
            loop = {"loss_of": self.loss_of, "accumulate": self.accumulate, "clip_norm": self.clip_norm}
        return range_test(self.model, self.optimizer, None, batches, max_lr=self.max_lr, **loop).bounds

    def update(self, number: int) -> None:
        if self.step_fn is not None:
            self.step_fn(self.batch(number))
            return
        self.optimizer.zero_grad()
        for part in range(number * self.accumulate, (number + 1) * self.accumulate):
            (self.loss_of(self.model, self.batch(part)) / self.accumulate).backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()

    @torch.no_grad()
    def test_loss(self) -> float:
        self.model.eval()
        return (self.loss_of(self.model, self.batch(TEST)) if self.score is None else self.score()).item()


def mnist() -> Program:
    convolutions = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
    dense = nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)
    model = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *convolutions, *dense)
    return Program(model, torch.optim.Adadelta(model.parameters(), lr=1.0), lambda t: 0.7 ** (t // 22))


def imagenet() -> Program:
    blocks = [nn.Sequential(nn.Conv2d(n, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for n in (1, 16, 16)]
    head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    model = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *blocks, *head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return Program(model, optimizer, lambda t: 0.1)


def vae() -> Program:
    encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
    decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
    model = nn.ModuleList([encoder, decoder])

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        center, log_variance = model[0](batch[0]).chunk(2, dim=1)
        output = model[1](center + torch.randn_like(center) * (log_variance / 2).exp())
        reconstruction = binary_cross_entropy_with_logits(output, batch[0], reduction="sum")
        return (reconstruction + (center**2 + log_variance.exp() - 1 - log_variance).sum() / 2) / len(batch[0])

    return Program(model, torch.optim.Adam(model.parameters(), lr=1e-3), lambda t: 1e-3, loss_of=loss_of)


def siamese() -> Program:
    model = nn.ModuleList([nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32)), nn.Linear(32, 1)])

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        one, two, same = batch
        return binary_cross_entropy_with_logits(model[1]((model[0](one) - model[0](two)).abs()).squeeze(1), same)

    return Program(model, torch.optim.Adadelta(model.parameters()), lambda t: 0.7 ** (t // 50), pairs, loss_of)


def gcn() -> Program:
    nearest = torch.cdist(IMAGES, IMAGES).topk(5, largest=False).indices
    model = nn.ModuleList([nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10)])

    def batch(number: int | str) -> Any:
        return (IMAGES, nearest), LABELS, slice(1440, None) if number == TEST else slice(200)

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        (x, nearest), labels, rows = batch
        hidden = relu(model[0](x)[nearest].mean(1))
        return cross_entropy(model[2](model[1](hidden))[nearest[rows]].mean(1), labels[rows])

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    return Program(model, optimizer, lambda t: 0.01, batch, loss_of)


def dcgan() -> Program:
    critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
    generator = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    of_critic, of_generator = adam(critic.parameters()), adam(generator.parameters())

    def step(batch: Any) -> torch.Tensor:
        one, zero = torch.ones(len(batch[0]), 1), torch.zeros(len(batch[0]), 1)
        fake = generator(torch.randn(len(batch[0]), 16))
        loss = binary_cross_entropy_with_logits(critic(batch[0]), one)
        loss = loss + binary_cross_entropy_with_logits(critic(fake.detach()), zero)
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        of_generator.zero_grad()
        binary_cross_entropy_with_logits(critic(fake), one).backward()
        of_generator.step()
        return loss

    def distance() -> torch.Tensor:
        """Of the mean and the deviation of every pixel, from those of the data."""
        fake = generator(torch.randn(2048, 16))
        return sum((of(fake, 0) - of(IMAGES, 0)).abs().mean() for of in (torch.mean, torch.std))

    also = [generator, of_generator]
    return Program(critic, of_critic, lambda t: 2e-4, updates=600, step_fn=step, also=also, score=distance)


def nano_gpt() -> Program:
    layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = nn.ModuleList([nn.Embedding(128, 64), nn.Embedding(32, 64), layers, nn.Linear(64, 128, bias=False)])
    matrices, rest = ([p for p in model.parameters() if (p.dim() > 1) is many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        tokens, places, layers, head = model
        mask = nn.Transformer.generate_square_subsequent_mask(32)
        outputs = head(layers(tokens(batch[0]) + places.weight, mask, is_causal=True))
        return cross_entropy(outputs.transpose(1, 2), batch[1])

    own = partial(warmup_cosine, peak=1e-3, end=1e-4)
    return Program(model, optimizer, own, text, loss_of, accumulate=2, clip_norm=1.0)


def word_language_model() -> Program:
    model = nn.ModuleList([nn.Embedding(128, 64), nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 128)])

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        return cross_entropy(model[2](model[1](model[0](batch[0]))[0]).transpose(1, 2), batch[1])

    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
    return Program(model, optimizer, lambda t: 20.0, text, loss_of, clip_norm=0.25, max_lr=1000.0)


def autoencoder() -> Program:
    layers = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3), nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64)
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Program(model, optimizer, lambda t: 0.01, loss_of=lambda model, batch: mse_loss(model(batch[0]), batch[0]))


def timm() -> Program:
    blocks = [nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(3)]
    model = nn.Sequential(nn.Unflatten(1, (8, 8)), nn.Linear(8, 32), *blocks, nn.Flatten(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(layer_groups(model, decay=0.65, weight_decay=0.05), lr=1e-3)
    return Program(model, optimizer, partial(warmup_cosine, peak=1e-3, end=1e-5), clip_norm=1.0)


def ultralytics() -> Program:
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    weights, norm = [model[0].weight, model[3].weight], model[1]
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": [norm.weight]}]
    groups.append({"params": [model[0].bias, norm.bias, model[3].bias]})
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.937, nesterov=True)

    def step(batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = classification(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        average.update_parameters(model)
        return loss

    own, score = (lambda t: 0.01 * (1 - 0.99 * t / 200)), (lambda: classification(average.eval(), images(TEST)))
    return Program(model, optimizer, own, step_fn=step, also=[average], score=score)


PROGRAMS = (mnist, imagenet, vae, siamese, gcn, dcgan, nano_gpt, word_language_model)
PROGRAMS = {make.__name__: make for make in (*PROGRAMS, autoencoder, timm, ultralytics)}


class Run:
    """A program from a seed, with schedules for its optimizer and for its second optimizer, if it has two."""

    def __init__(self, name: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.program = PROGRAMS[name]()
        torch.manual_seed(seed)

    def follow(self, schedule: cyclr.Schedule) -> "Run":
        also = self.program.also
        optimizers = [self.program.optimizer, *(part for part in also if isinstance(part, torch.optim.Optimizer))]
        self.schedule, self.right = schedule, 0
        self.schedulers = [Scheduler(optimizer, schedule) for optimizer in optimizers]
        self.parts = [self.program.model, *optimizers, *also, *self.schedulers]
        return self

    def train(self, stop: int | None = None) -> "Run":
        for update in range(self.schedulers[0].last_epoch, stop or self.program.updates):
            groups = [group for scheduler in self.schedulers for group in scheduler.optimizer.param_groups]
            rate = self.schedule(update)
            self.right += all(group["lr"] == rate * group.get("lr_scale", 1) for group in groups)
            self.program.update(update)
            for scheduler in self.schedulers:
                scheduler.step()
        return self

    def states(self) -> list[Any]:
        return [torch.get_rng_state(), *(part.state_dict() for part in self.parts)]

    def load(self, saved: bytes) -> "Run":
        generator, *states = torch.load(io.BytesIO(saved), weights_only=True)
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(generator)
        return self


def saved(states: list[Any]) -> bytes:
    file = io.BytesIO()
    torch.save(states, file)
    return file.getvalue()


def content(state: Any) -> Any:
    """Return a state with bytes in place of tensors, for comparisons."""
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes()
    if isinstance(state, dict):
        return {key: content(value) for key, value in state.items()}
    return [*map(content, state)] if isinstance(state, list | tuple) else state


def row(name: str, seeds: range) -> list[str]:
    cells, losses = [], []
    for seed in seeds:
        bounds = Run(name, seed).program.find()
        schedule = bounds.schedule(total_steps=Run(name, seed).program.updates)
        own = Run(name, seed)
        own.follow(cyclr.Function(own.program.own)).train()
        own_loss = own.program.test_loss()
        run = Run(name, seed).follow(schedule).train()
        whole = content(run.states())
        losses.append((own_loss, run.program.test_loss()))
        if not cells:
            tested = Run(name, seed)
            tested.program.find()
            after = tested.follow(schedule).train().states()
            half = saved(Run(name, seed).follow(schedule).train(run.program.updates // 2).states())
            parts = Run(name, seed + 1).follow(schedule).load(half).train().states()
            equal = ["equal" if content(other) == whole else "differs" for other in (after, parts)]
            rates = f"{run.right} of {run.program.updates}"
            cells = [name, bounds.status, f"{bounds.base_lr:.2g} to {bounds.max_lr:.2g}", equal[0], rates, equal[1]]
    means = [f"{mean(column):.3g}" for column in zip(*losses, strict=True)]
    return [*cells, *means, f"{sum(new < old for old, new in losses)} of {len(seeds)}"]


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    print("| program | status | bounds | after a test | rates | in parts | own rates | cycle | lower |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments[1:] or PROGRAMS:
        print("|", " | ".join(row(name, range(int(arguments[0]) if arguments else 3))), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
