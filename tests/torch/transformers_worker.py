"""A process of several that train together: a range test of a Trainer, and the training after it.

Usage: torchrun ... transformers_worker.py FOLDER
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from tests.torch import range_test_transformers_parts as parts


def run(folder, test):
    trainer = parts.trainer(folder, gradient_accumulation_steps=2)
    result = parts.range_test(trainer, steps=20, max_lr=1.0, repeats=1) if test else None
    torch.manual_seed(torch.distributed.get_rank())
    trainer.train()
    weights = torch.nn.utils.parameters_to_vector(trainer.model.parameters())
    return result, weights.double().sum().item(), type(trainer.model_wrapped).__name__


folder = Path(sys.argv[1])
_, plain, _ = run(folder, test=False)
result, tested, wrapped = run(folder, test=True)
found = {
    "losses": result.loss.tolist(),
    "tested": dict(result.tested),
    "weights": [plain, tested],
    "wrapped": wrapped,
}
(folder / f"{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
