"""Trials of torch models."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cyclr.errors import CyclrError
from cyclr.experiments import optimizers
from cyclr.experiments.jobs.base import History, number_of_batches, shapes_of
from cyclr.experiments.policies import Ending, Plan
from cyclr.experiments.spec import Trial
from cyclr.members import Member
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.torch import AutoCycle, Scheduler, Snapshots, average, ensemble, range_test
from cyclr.torch._conditions import optimizer_call

_DEFAULT_OPTIMIZER = {"name": "SGD", "momentum": 0.9}
_VALIDATION_BATCH = 1000


class TorchJob:
    """A torch model and its data.

    Args:
        model: the model, on its device. Batches are moved to this device.
        training, validation: `(x, y)` of tensors or arrays, iterables of batches `(inputs, targets)`, or datasets of
            samples. Without a training, `validation` may be None.
        trial: the trial.
        optimizer: the user's optimizer. If the trial has an optimizer, it replaces the user's.
        loss: `loss(outputs, targets)`; by default cross-entropy for integer targets, else the squared error.

    Raises:
        CyclrError: the optimizer does not exist, or the data has no known length or can be read only once.
    """

    def __init__(
        self, model: Any, training: Any, validation: Any, trial: Trial, optimizer: Any = None, loss: Any = None
    ) -> None:
        if isinstance(loss, str):
            raise CyclrError(
                f"the loss of {trial.workload} must be a function in torch; got {loss!r}. "
                "Return a function, such as torch.nn.functional.cross_entropy."
            )
        self._model, self._trial, self._loss = model, trial, loss or default_loss
        if optimizer is None or trial.optimizer is not None:
            table = dict(trial.optimizer or _DEFAULT_OPTIMIZER)
            # A placeholder, because torch requires a learning rate here. It is replaced before the first update.
            optimizer = optimizers.make(torch.optim, table, model.parameters(), lr=0.01)
        self._optimizer = optimizer
        self.optimizer_call = optimizer_call(optimizer)
        self.optimizer_name = trial.optimizer_name or self.optimizer_call.removeprefix("torch.optim.")
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.batch_shapes = shapes_of(training)
        self._training = _batches(training, trial.batch_size, shuffle=True)
        self._validation = _batches(validation, _VALIDATION_BATCH)
        self.steps_per_epoch = number_of_batches(trial.workload, self._training)
        if isinstance(self._validation, Iterator):
            raise CyclrError(
                f"the validation data of {trial.workload} is read after every epoch; got a "
                f"{type(self._validation).__name__}, which can be read only once. Return a DataLoader or a list."
            )

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        return range_test(
            self._model,
            self._optimizer,
            self._loss,
            self._training,
            on_step=on_step,
            verbose=0,
            **self._trial.range_test_arguments(self.steps_per_epoch),
        )

    def train(self, plan: Plan, history: History) -> None:
        scheduler = self._scheduler(plan, history.total_steps)
        if plan.ending is not None:
            snapshots = Snapshots(self._model, scheduler, every=plan.ending.every, keep=plan.ending.keep)
        for _ in range(-(-history.total_steps // self.steps_per_epoch)):
            self._model.train()
            for inputs, targets in self._training:
                lr = float(self._optimizer.param_groups[0]["lr"])
                self._optimizer.zero_grad(set_to_none=True)
                loss = self._loss(self._model(self._to_device(inputs)), self._to_device(targets))
                loss.backward()
                self._optimizer.step()
                if plan.framework == "auto":
                    scheduler.step(loss)
                elif plan.framework != "plateau":
                    scheduler.step()
                history.lr.append(lr)
                history.add_step(float(loss.detach()))
                if history.is_over:
                    break
            metrics = self._evaluate(self._model.eval())
            history.add_epoch(metrics)
            if plan.framework == "plateau":
                scheduler.step(metrics[self._trial.metric])
            if history.diverged:
                break
        if plan.framework == "auto":
            history.events, history.range_test = scheduler.events, scheduler.range_test
        if not history.is_over:
            raise CyclrError(
                f"the training data of {self._trial.workload} ended early: it gave {len(history.loss)} batches in all; "
                f"by its length of {self.steps_per_epoch}, {history.total_steps} were expected. Correct its length."
            )
        if plan.ending is not None and not history.diverged:
            history.add_ending(*self._end(plan.ending, snapshots.members))

    def _scheduler(self, plan: Plan, total_steps: int) -> Any:
        if plan.schedule is not None:
            return Scheduler(self._optimizer, lr=plan.schedule)
        if plan.framework == "auto":
            return AutoCycle(self._model, self._optimizer, total_steps=total_steps, **plan.options)
        for group in self._optimizer.param_groups:
            group["lr"] = plan.lr
        schedulers = torch.optim.lr_scheduler
        if plan.framework == "cosine":
            return schedulers.CosineAnnealingLR(self._optimizer, T_max=total_steps)
        return schedulers.ReduceLROnPlateau(self._optimizer, mode=self._trial.direction, **plan.options)

    def _end(self, ending: Ending, members: list[Member]) -> tuple[dict[str, float], int]:
        """Return the metrics of an ensemble or average, and the number of models that one prediction evaluates."""
        weights = ending.weights(members)
        if ending.combine == "average":
            return self._evaluate(average(self._model, members, self._training, weights=weights).eval()), 1
        if self._loss is not default_loss or next(iter(self._validation))[1].is_floating_point():
            return self._evaluate(ensemble(self._model, members, weights=weights)), len(members)
        # The ensemble averages probabilities. The loss needs logits: the logarithms of the mean probabilities.
        together = ensemble(self._model, members, activation=lambda logits: logits.softmax(1), weights=weights)
        tiny = torch.finfo(torch.float32).tiny
        return self._evaluate(lambda inputs: together(inputs).clamp_min(tiny).log()), len(members)

    def _evaluate(self, predict: Callable[[Any], Any]) -> dict[str, float]:
        """Return the mean loss over the validation samples, and the accuracy if targets are classes."""
        loss, correct, count, classes = 0.0, 0, 0, True
        with torch.no_grad():
            for inputs, targets in self._validation:
                targets = self._to_device(targets)
                outputs = predict(self._to_device(inputs))
                loss += float(self._loss(outputs, targets)) * len(targets)
                classes = not targets.is_floating_point() and outputs.ndim == 2
                correct += int((outputs.argmax(1) == targets).sum()) if classes else 0
                count += len(targets)
        if count == 0:
            raise CyclrError(f"the validation data of {self._trial.workload} must hold at least one batch; got none.")
        return {"val_loss": loss / count, **({"val_accuracy": correct / count} if classes else {})}

    def _to_device(self, batch: Any) -> Any:
        return batch.to(self._device) if hasattr(batch, "to") else batch


def default_loss(outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy for integer targets, and the squared error for others."""
    if not targets.is_floating_point():
        return torch.nn.functional.cross_entropy(outputs, targets)
    if outputs.shape != targets.shape:
        raise CyclrError(
            f"the squared error needs outputs and targets of the same shape; got outputs of {tuple(outputs.shape)}, "
            f"targets of {tuple(targets.shape)}. Return targets[:, None] as targets, or outputs.squeeze(1) from the "
            "model."
        )
    return torch.nn.functional.mse_loss(outputs, targets)


def _batches(data: Any, batch_size: int, shuffle: bool = False) -> Any:
    """Return an iterable of batches from a pair (x, y), a dataset of samples, or an iterable of batches."""
    if isinstance(data, tuple | list) and len(data) == 2:
        data = TensorDataset(*(torch.as_tensor(np.asarray(part)) for part in data))
    is_samples = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    return DataLoader(data, batch_size, shuffle=shuffle) if is_samples else data
