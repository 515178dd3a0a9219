"""The direction of a metric: `"max"` if larger values are better, `"min"` if smaller values are better."""

import re
from typing import Literal, cast

from cyclr._checks import did_you_mean, quoted

Direction = Literal["max", "min"]

# The last words of metrics, including Keras' metrics and their short names.
_LOW_IS_GOOD = """
    loss error mse rmse msle rmsle mae mape smape perplexity crossentropy cross_entropy bce nll
    negative_log_likelihood divergence hinge huber poisson logcosh log_cosh deviance brier brier_score wer cer
    false_positives false_negatives
"""
_HIGH_IS_GOOD = """
    accuracy acc auc auroc auprc ap map precision recall sensitivity specificity f1 f1_score fbeta_score r2 r2_score iou
    io_u dice jaccard kappa mcc correlation similarity bleu rouge psnr ssim true_positives true_negatives
    sensitivity_at_specificity specificity_at_sensitivity precision_at_recall recall_at_precision
"""


def direction_or_none(metric: str) -> Direction | None:
    """Return the direction of a metric by the last words of its name, or None; Keras may have appended a number."""
    name = "_" + re.sub(r"_\d+$", "", metric.lower())
    for words, direction in ((_LOW_IS_GOOD, "min"), (_HIGH_IS_GOOD, "max")):
        if any(name.endswith(f"_{word}") for word in words.split()):
            return cast(Direction, direction)
    return None


def direction_of(metric: str) -> Direction:
    """Return the direction of a metric by its name.

    Args:
        metric: its name in the logs, such as `"val_loss"` or `"val_accuracy_1"`.

    Raises:
        ValueError: the direction does not follow from the name.

    Example:
        >>> from cyclr.records.direction import direction_of
        >>> direction_of("val_sparse_categorical_crossentropy"), direction_of("val_auc_1")
        ('min', 'max')
    """
    if (direction := direction_or_none(metric)) is not None:
        return direction
    hint = did_you_mean(metric, ("val_accuracy", "val_loss"))
    raise ValueError(
        f"direction is needed, because it does not follow from the name of the metric; got metric={quoted(metric)}. "
        f'{hint and hint + " "}Set direction="max" if larger values are better, or direction="min" if smaller are.'
    )
