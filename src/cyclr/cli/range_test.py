"""`cyclr range-test`: the learning-rate bounds of a model."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cyclr import RangeTest, RangeTestResult
from cyclr.cli.live import bar_width
from cyclr.cli.options import (
    BackendOption,
    DataOption,
    Exit,
    OverwriteOption,
    check_folder,
    check_new,
    err,
    out,
    print_bounds,
    save_picture,
    say,
)
from cyclr.experiments import Spec, environment, workloads
from cyclr.experiments.trial import find_bounds
from cyclr.range_test.driver import Spacing
from cyclr.range_test.refine import TrialTest


def range_test(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "--workload",
            help="FILE.py:function that returns a Keras or torch model, with or without data, optimizer and loss, as "
            "for compare; or **mlp** or **cnn**.",
        ),
    ],
    data: DataOption = None,
    backend: BackendOption = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Optimizer by name; by default the model's, or SGD with momentum 0.9.")
    ] = None,
    min_lr: Annotated[float, typer.Option(help="First learning rate.")] = 1e-6,
    max_lr: Annotated[float, typer.Option(help="Last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(min=2, help="Number of updates, each at another learning rate.")] = 150,
    spacing: Annotated[Spacing, typer.Option(help="How the learning rate rises.")] = "exponential",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per update, as in your training.")] = 32,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Length of your training in epochs; trial cycles then find bounds for this length."),
    ] = None,
    total_steps: Annotated[
        int | None, typer.Option(min=1, help="Length of your training in optimizer updates, instead of --epochs.")
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            min=0, help="Updates to spend on trial cycles; by default 5 % of the training, if that is at least 600."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial weights and of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for the picture and the JSON.")] = Path("cyclr-range-test"),
    overwrite: OverwriteOption = False,
) -> None:
    """Find the learning-rate bounds of your own model.

    Example: cyclr range-test --model model.py:build --data mnist --batch-size 64

    For a training of known length: cyclr range-test --model model.py:build --epochs 20 --refine 600

    Ctrl-C ends the test. The bounds are then read from the losses recorded so far.
    """
    has_length = epochs is not None or total_steps is not None
    if epochs is not None and total_steps is not None:
        raise typer.BadParameter("give the length of the training as --epochs or as --total-steps, not both.")
    if refine is not None and not has_length:
        raise typer.BadParameter("--refine needs the length of the training: --epochs or --total-steps.")
    check_folder(output)
    written = output / "range_test.png", output / "range_test.json"
    check_new(overwrite, *written, made=output)
    (trial,) = Spec(
        [{"kind": "triangular"}],
        workload=model,
        data=data,
        optimizer=optimizer,
        epochs=epochs if has_length else 1,
        steps=total_steps,
        seeds=[seed],
        batch_size=batch_size,
        range_test={"min_lr": min_lr, "max_lr": max_lr, "steps": steps, "spacing": spacing}
        | ({"refine": refine} if has_length else {}),
        metric="val_loss",
    ).trials()
    workloads.check(trial)
    if backend is not None or trial.file is None or importlib.util.find_spec("keras") is not None:
        environment.select_backend(backend)
    with Bar(steps) as bar:
        try:
            result = find_bounds(trial, bar.show)
        except KeyboardInterrupt:
            result = bar.interrupted()
    print_bounds(result, "steps", "total_steps", "refine")
    output.mkdir(parents=True, exist_ok=True)
    result.save(written[1])
    save_picture(result.plot(), written[0])
    say(f"Written: {written[0]}, {written[1]}")
    if not bar.tests[-1].stopped:
        test = bar.tests[-1]
        err.print(
            f"Interrupted at {test.recorded} of {len(test)} updates. The bounds were read from the losses so far.",
            highlight=False,
        )
        raise typer.Exit(Exit.INTERRUPTED)
    if not result.bounds.usable:
        raise typer.Exit(Exit.NO_BOUNDS)


class Bar(Progress):
    """A bar with the learning rate and the loss of a range test. Without a terminal, a line after every quarter.

    Args:
        steps: number of learning rates of the test.

    Attributes:
        tests: the tests so far, including repeats and trial cycles.
    """

    def __init__(self, steps: int) -> None:
        self.tests: list[RangeTest] = []
        self._quarter = 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(1, bar_width(out, 60))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=out, transient=True, disable=not out.is_terminal)
        self._bar = self.add_task("range test", total=steps, values="")

    def show(self, test: RangeTest) -> None:
        """Show a test after an update."""
        if test not in self.tests[-1:]:
            self.tests.append(test)
            self._quarter = 0
            self.reset(self._bar, total=len(test))
        sweeps = sum(not isinstance(one, TrialTest) for one in self.tests)
        name = f"range test {sweeps}" if sweeps > 1 else "range test"
        name = f"trial up to {test.top:.2g}" if isinstance(test, TrialTest) else name
        values = "lr {:.2g}, loss {:.3g}".format(*test.last)
        self.update(self._bar, description=name, completed=test.recorded, values=values)
        if self.disable and 4 * test.recorded // len(test) > self._quarter:
            self._quarter = 4 * test.recorded // len(test)
            say(f"{name}: {test.recorded} of {len(test)}, {values}")

    def interrupted(self) -> RangeTestResult:
        """Return the result of the completed repeats, or else the result of the first test so far.

        Raises:
            KeyboardInterrupt: nothing was recorded.
        """
        completed = [test.result() for test in self.tests if test.stopped]
        if completed:
            return RangeTestResult.of_repeats(completed)
        if not self.tests or not self.tests[-1].recorded:
            raise KeyboardInterrupt
        return self.tests[-1].result()
