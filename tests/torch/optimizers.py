"""Optimizers that the tests share."""

import torch


class TwoSteps(torch.optim.SGD):
    """An optimizer that computes the loss itself, twice in an update."""

    def step(self, closure):
        for _ in range(2):
            loss = closure()
            super().step()
        return loss


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization: a base optimizer updates with the gradient at a point uphill."""

    def __init__(self, params, base, rho=0.05, **arguments):
        super().__init__(params, {"rho": rho, **arguments})
        self.base_optimizer = base(self.param_groups, **arguments)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
        loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["before"] = p.clone()
                p.add_(p.grad, alpha=group["rho"])
        closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["before"])
        self.base_optimizer.step()
        return loss


class Lookahead(torch.optim.Optimizer):
    """Slow weights, which are attributes, follow those of the optimizer within."""

    def __init__(self, base, every=3):
        super().__init__([p for group in base.param_groups for p in group["params"]], {"lr": 0.0})
        self.base, self.every, self.made, self.param_groups = base, every, 0, base.param_groups
        self.slow = [p.detach().clone() for group in base.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure=None):
        self.base.step()
        self.made += 1
        if self.made % self.every == 0:
            for slow, p in zip(self.slow, [p for group in self.param_groups for p in group["params"]], strict=True):
                p.copy_(slow.lerp_(p, 0.5))


class ScheduleFree(torch.optim.Optimizer):
    """SGD without a schedule, as `schedulefree` has it: the weights differ between training and evaluation."""

    def __init__(self, params, lr=1e-3, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum, "train_mode": False, "made": 0})

    def train(self):
        self._go_to(True)

    def eval(self):
        self._go_to(False)

    @torch.no_grad()
    def _go_to(self, training):
        for group in self.param_groups:
            for p in group["params"] if group["train_mode"] != training else ():
                if "z" in self.state[p]:
                    weight = 1 - group["momentum"] if training else 1 - 1 / group["momentum"]
                    p.lerp_(self.state[p]["z"], weight)
            group["train_mode"] = training

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("not in train mode")
            group["made"] += 1
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, 1 / group["made"])
                p.add_(p.grad, alpha=group["lr"] * (group["momentum"] * (1 - 1 / group["made"]) - 1))
                z.sub_(p.grad, alpha=group["lr"])
