"""Whether more or less of a metric is better."""

import re
from typing import Literal, cast

Direction = Literal["max", "min"]

# The last words of metrics, those of Keras and their short names among them.
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
    """The direction of a metric by the last words of its name, or None; Keras may have put a number behind."""
    name = "_" + re.sub(r"_\d+$", "", metric.lower())
    for words, direction in ((_LOW_IS_GOOD, "min"), (_HIGH_IS_GOOD, "max")):
        if any(name.endswith(f"_{word}") for word in words.split()):
            return cast(Direction, direction)
    return None


def direction_of(metric: str) -> Direction:
    """The direction of a metric, as `direction_or_none` knows it.

    Args:
        metric: its name in the logs, such as `"val_loss"` or `"val_accuracy_1"`.

    Raises:
        ValueError: the name does not tell.

    Example:
        >>> from cyclr.records.direction import direction_of
        >>> direction_of("val_sparse_categorical_crossentropy"), direction_of("val_auc_1")
        ('min', 'max')
    """
    if (direction := direction_or_none(metric)) is not None:
        return direction
    raise ValueError(
        f"direction must be given for a metric whose name does not tell it; got metric={metric!r}. "
        'Say direction = "max" if more of it is better, "min" if less.'
    )
