"""The decisions of AutoCycle, written from the text of docs/explanation/autocycle.md: slow, and in one piece.

Nothing of `cyclr.auto` is used here.
"""

import copy
import math
import statistics


class Reading:
    """The numbered list of the page."""

    def __init__(self):
        self.count, self.first = 0, []
        self.sum = self.rough = self.least_noise = 0.0
        self.before = self.best_rate = None
        self.best = math.inf
        self.high = []

    @property
    def level(self):
        return statistics.median_high(self.first)

    @property
    def yardstick(self):
        if not self.first or self.best == math.inf:
            return 0.0
        return max(self.level - self.best, 0) + 3 * self.least_noise + 1e-6 * abs(self.level)

    @property
    def mean(self):
        return self.sum / (1 - 0.875**self.count)

    @property
    def noise(self):
        return self.rough / (1 - 0.9 ** (self.count - 1))

    def above(self):
        return self.mean - self.best

    def risen(self):
        return self.high[-2:] == [True, True]

    def take(self, loss, rate):
        loss = max(-1e306, min(1e306, loss))
        if len(self.first) < 5:
            self.first.append(loss)
        self.count += 1
        if self.count >= 6 and self.yardstick > 0:
            loss = min(loss, self.best + 2 * self.yardstick)
        self.sum = 0.875 * self.sum + 0.125 * loss
        if self.count >= 2:
            self.rough = 0.9 * self.rough + 0.1 * (0.886 * abs(loss - self.before))
        self.before = loss
        if self.count < 5:
            return
        if self.mean < self.best:
            self.best, self.best_rate = self.mean, rate
            self.least_noise = max(self.noise, 0.95 * self.least_noise)
        elif self.count <= 15:
            self.least_noise = max(self.least_noise, self.noise)
        self.high.append(self.above() > 0.35 * self.yardstick > 0)

    def is_outlier(self, loss):
        if self.count >= 5:
            return loss > self.best + 10 * self.yardstick and self.yardstick > 0
        if len(self.first) < 2:
            return False
        low, high = min(self.first), max(self.first)
        early = loss > high + 10 * (high - low)
        return early and (len(self.first) >= 5 or loss > self.level + 3 * abs(self.level))


class Reference:
    """A run that follows the page. `rates` are those of the schedule, one for each update.

    Attributes:
        restored: for each return, the update whose state is restored, −1 for the start.
    """

    def __init__(self, rates, *, eager=False):
        self.plan, self.total, self.eager = rates, len(rates), eager
        self.factor, self.t = 1.0, 0
        self.reading = Reading()
        self.start, self.copy, self.copied = Reading(), None, -1
        self.settled = -1
        self.last_bad, self.row, self.fresh = -math.inf, 0, False
        self.lowerings, self.vain, self.lowest = 0, 0, math.inf
        self.ignored, self.looking = False, True
        self.pieces, self.piece, self.summed = [], [], 0.0
        self.events, self.restored = [], []

    def rate(self):
        return self.factor * self.plan[self.t]

    def event(self, what, before=False):
        self.events.append((self.t - before, what))

    def go_back(self):
        kept = self.start if self.copy is None else self.copy
        self.restored.append(-1 if self.copy is None else self.copied)
        first = self.reading.first
        self.reading = copy.deepcopy(kept)
        self.reading.high = []
        if len(self.reading.first) < 5:
            self.reading.first = list(first)
        self.looking, self.fresh = False, True

    def lower(self, spoiled, before=False):
        r = self.reading
        in_vain = not r.best < self.lowest - 0.1 * r.yardstick
        self.vain = self.vain + 1 if in_vain else 0
        self.lowest = min(self.lowest, r.best)
        if self.lowerings == 6 or self.vain == 4:
            self.ignored, self.looking, self.factor = True, False, 1.0
            self.event("ignored", before)
            if spoiled:
                self.go_back()
            return
        q = self.rate() if r.best_rate is None else max(r.best_rate, 0.1 * self.rate())
        rest = self.plan[self.t + (not before) :] or self.plan[-1:]
        self.factor = min(self.factor, q / 3 / max(rest))
        self.lowerings += 1
        self.settled = self.t + 16
        self.event("lowered", before)
        self.go_back()

    def settling(self):
        return self.t <= self.settled

    def tolerant(self):
        return self.settling() and self.copy is not None

    def bad(self, loss, before):
        self.row += 1
        soon = self.t - self.last_bad <= 16 and not self.tolerant() and not self.ignored
        self.last_bad = self.t
        spoiled = self.row == 3 if before else True
        to_blame = self.row == 3 if before else math.isfinite(loss) or self.row == 1
        lower = soon and to_blame
        if lower:
            self.lower(True, before)
            return
        if self.row <= 10:
            self.event("left_out", before)
        if spoiled:
            self.go_back()

    def is_bad(self, loss, before):
        if not math.isfinite(loss):
            return True
        if self.ignored or (not before and self.tolerant()):
            return False
        return self.reading.is_outlier(loss)

    def skip(self, loss):
        if not self.is_bad(loss, True):
            return False
        self.bad(loss, True)
        return True

    def step(self, loss):
        self.decide(loss)
        self.t += 1

    def decide(self, loss):
        if self.is_bad(loss, False):
            self.bad(loss, False)
            return
        self.row = 0
        rate = self.rate()
        self.reading.take(loss, rate)
        if self.reading.risen() and not self.ignored:
            if not self.settling():
                self.lower(False)
            elif self.t < 0.35 * self.total and self.copy is not None:
                self.copy, self.copied = None, -1
                self.settled = self.t + 16
                self.event("went_back")
                self.go_back()
            else:
                self.reading.best, self.reading.best_rate = self.reading.mean, rate
                self.reading.high = []
                self.looking = False
                self.event("accepted")
            return
        if self.looking and self.look(loss, rate):
            return
        r = self.reading
        calm = r.count < 5 or (r.above() < 0.1 * r.yardstick and not r.high[-1]) or not r.yardstick
        if self.t >= 0.2 * self.total and self.t % max(1, self.total // 64) == 0 and (calm or self.ignored):
            self.copy, self.copied = copy.deepcopy(r), self.t

    def look(self, loss, rate):
        """The section on a rate that is too low. Return True if it was raised."""
        length = max(4, self.total // 20)
        self.summed += rate
        self.piece.append((loss, self.summed))
        if len(self.piece) < length:
            return False
        self.pieces.append([sum(column) / length for column in zip(*self.piece, strict=True)])
        self.piece = []
        shares = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4) if self.eager else (0.15, 0.2, 0.25, 0.3)
        if not any(abs(self.t + 1 - share * self.total) < length / 2 for share in shares) or len(self.pieces) < 3:
            return False
        pairs = list(zip(self.pieces, self.pieces[1:], strict=False))
        if any(later[1] <= earlier[1] for earlier, later in pairs):
            return False
        paces = [(earlier[0] - later[0]) / (later[1] - earlier[1]) for earlier, later in pairs]
        error = math.sqrt(2 / length) * self.reading.rough / (self.pieces[-1][1] - self.pieces[-2][1])
        rest = self.factor * sum(self.plan[self.t + 1 :])
        if self.pieces[-1][0] <= 0 or paces[-1] < 0.4 * max(paces):
            return False
        far = (paces[-1] + 2 * error) * rest / self.pieces[-1][0]
        if not 0 < far < (3 if self.eager else 2):
            return False
        self.event("raised")
        self.factor *= min(10, max(2, 10 / far))
        self.pieces, self.summed = [], 0.0
        return True
