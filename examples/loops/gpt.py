"""A small character-level GPT: gradient accumulation, clipping, warm-up, and resuming a stopped run.

    python examples/loops/gpt.py --stop-after 100    # stops after 100 updates, as in a crash
    python examples/loops/gpt.py                     # continues at update 100

The text is the language reference that is installed with Python.
Needs: pip install "cyclr[torch]".
"""

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn

import cyclr
from cyclr.torch import Scheduler, range_test

UPDATES, WARMUP, ACCUMULATE, BATCH, CONTEXT, WIDTH, LETTERS = 200, 20, 2, 8, 32, 64, 128
BOUNDS, CHECKPOINT = Path("range_test.json"), Path("checkpoint.pt")
TOKENS = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(LETTERS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, LETTERS, bias=False)

    def forward(self, x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        logits = self.head(self.layers(self.tokens(x) + self.positions.weight, mask, is_causal=True))
        return logits, nn.functional.cross_entropy(logits.transpose(1, 2), targets)


def make_batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)  # the same number gives the same batch, also after a restart
    positions = torch.randint(len(TOKENS) - CONTEXT, (BATCH, 1), generator=generator) + torch.arange(CONTEXT)
    return TOKENS[positions], TOKENS[positions + 1]


parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=UPDATES, help="updates")
stop = min(parser.parse_args().stop_after, UPDATES)

torch.manual_seed(0)
model = GPT()
matrices = [weight for weight in model.parameters() if weight.dim() > 1]
vectors = [weight for weight in model.parameters() if weight.dim() == 1]
groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

if not BOUNDS.exists():
    loop = {"loss_of": lambda model, batch: model(*batch)[1], "accumulate": ACCUMULATE, "clip_norm": 1.0}
    range_test(model, optimizer, loader=[make_batch(number) for number in range(300)], **loop).save(BOUNDS)
bounds = cyclr.RangeTestResult.load(BOUNDS).bounds
print(bounds.reason)
schedule = cyclr.Warmup(cyclr.Anneal(bounds.max_lr, bounds.base_lr, UPDATES - WARMUP, "cosine"), WARMUP)
scheduler = Scheduler(optimizer, schedule)

parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
if CHECKPOINT.exists():
    for name, state in torch.load(CHECKPOINT, weights_only=True).items():
        parts[name].load_state_dict(state)

for update in range(scheduler.last_epoch, stop):
    for part in range(ACCUMULATE):
        _, loss = model(*make_batch(ACCUMULATE * update + part))
        (loss / ACCUMULATE).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
torch.save({name: part.state_dict() for name, part in parts.items()}, CHECKPOINT)

weights = nn.utils.parameters_to_vector(model.parameters())
print(f"updates {scheduler.last_epoch}, of {UPDATES}; mean weight {weights.double().mean().item()!r}; loss {loss:.2f}")
