"""The decisions of AutoCycle, written from the text of docs/explanation/autocycle.md: slow, and in one piece.

Nothing of `cyclr.auto` is used here.
"""

import copy
import math
import statistics

import numpy as np


class Reading:
    """The numbered list of the page."""

    def __init__(self):
        self.count, self.first = 0, []
        self.sum = self.noise = self.least_noise = 0.0
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
        return max(self.level - self.best, 3 * self.least_noise) + 3 * self.least_noise + 1e-6 * abs(self.level)

    @property
    def mean(self):
        return self.sum / (1 - 0.875**self.count)

    def above(self):
        return self.mean - self.best

    def risen(self):
        return self.high[-3:] == [True, True, True]

    def take(self, loss, rate):
        loss = max(-1e306, min(1e306, loss))
        if len(self.first) < 5:
            self.first.append(loss)
        self.count += 1
        if self.count >= 6 and self.yardstick > 0:
            loss = min(loss, self.best + 2 * self.yardstick)
        self.sum = 0.875 * self.sum + 0.125 * loss
        if self.count >= 2:
            n = self.count - 1
            share = 1 / n if n <= 10 else 0.1 if n <= 40 else 4 / n
            self.noise = (1 - share) * self.noise + share * 0.886 * abs(loss - self.before)
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
    """A run that follows the page.

    Args:
        rates: those of the schedule, one for each update.
        returns: False for a run without a training state.

    Attributes:
        restored: for each return, the update whose state is restored, −1 for the start.
    """

    def __init__(self, rates, returns=True):
        self.plan, self.total, self.returns = rates, len(rates), returns
        self.factor, self.t = 1.0, 0
        self.reading = Reading()
        self.start, self.copy, self.copied = Reading(), None, -1
        self.settled = -1
        self.last_bad, self.row, self.fresh = -math.inf, 0, False
        self.lowerings, self.vain, self.lowest = 0, 0, math.inf
        self.ignored = False
        self.trial, self.failed = None, False
        self.begin_pieces(0, from_start=True)
        self.events, self.restored = [], []

    def rate(self):
        return self.factor * self.plan[self.t]

    def event(self, what, before=False):
        self.events.append((self.t - before, what))

    def begin_pieces(self, update, from_start):
        self.begun, self.from_start = update, from_start
        self.pieces, self.piece, self.summed = [], [], 0.0

    def accept(self):
        self.reading.best, self.reading.best_rate = self.reading.mean, self.used
        self.reading.high = []

    def go_back(self, before=False):
        if not self.returns:
            if self.reading.count >= 5:
                self.accept()
            self.begin_pieces(self.t + (not before), from_start=False)
            return
        to_start = self.copy is None or (self.trial is not None and self.from_start)
        self.restored.append(-1 if to_start else self.copied)
        first = self.reading.first
        self.reading = copy.deepcopy(self.start if to_start else self.copy)
        self.reading.high = []
        if len(self.reading.first) < 5:
            self.reading.first = list(first)
        self.begin_pieces(self.t + (not before), from_start=to_start)

    def lower(self, before=False, loss=None):
        if self.trial and self.trial > 1:
            self.end_trial(before)
            return
        if self.trial:
            self.trial, self.copy = None, None
        r = self.reading
        in_vain = not r.best < self.lowest - 0.1 * r.yardstick
        rise = loss is None
        self.vain = self.vain + rise if in_vain else 0
        self.lowest = min(self.lowest, r.best)
        if self.lowerings >= (6 if rise or math.isfinite(loss) else 20) or (rise and self.vain == 2):
            self.ignored, self.factor = True, 1.0
            self.event("ignored", before)
            if not rise:
                self.go_back(before=before)
            return
        q = self.rate() if r.best_rate is None else max(r.best_rate, 0.1 * self.rate())
        rest = self.plan[self.t + (not before) :] or self.plan[-1:]
        self.factor = min(self.factor, q / 3 / max(rest))
        self.lowerings += 1
        self.settled = self.t + 16
        self.event("lowered", before)
        self.go_back(before=before)

    def settling(self):
        return self.t <= self.settled

    def tolerant(self):
        return self.settling() and self.copy is not None and not self.trial

    def bad(self, loss, before):
        self.row += 1
        soon = self.t - self.last_bad <= 16 and not self.tolerant() and not self.ignored
        self.last_bad = self.t
        spoiled = self.row == 3 if before else True
        to_blame = self.row == 3 if before else math.isfinite(loss) or self.row == 1
        lower = soon and to_blame
        if lower:
            self.lower(before, loss)
            return
        if self.row <= 10:
            self.event("left_out", before)
        if spoiled:
            self.go_back(before=before)

    def is_bad(self, loss, before):
        if not math.isfinite(loss):
            return True
        if self.ignored or (not before and self.tolerant()):
            return False
        return self.reading.is_outlier(loss)

    def skip(self, loss):
        self.used = self.rate()
        if not self.is_bad(loss, True):
            return False
        self.bad(loss, True)
        return True

    def step(self, loss):
        self.decide(loss)
        self.t += 1

    def decide(self, loss):
        self.used = self.rate()
        if self.is_bad(loss, False):
            self.bad(loss, False)
            return
        self.row = 0
        rate = self.rate()
        self.reading.take(loss, rate)
        if self.reading.risen() and not self.ignored:
            if not self.settling() or self.trial:
                self.lower()
            elif self.t < 0.35 * self.total and self.copy is not None:
                self.copy, self.copied = None, -1
                self.settled = self.t + 16
                self.event("went_back")
                self.go_back()
            else:
                self.accept()
                self.begin_pieces(self.t + 1, from_start=False)
                self.event("accepted")
            return
        if self.look(loss, rate):
            return
        r = self.reading
        calm = r.count < 5 or (r.above() < 0.1 * r.yardstick and not r.high[-1]) or not r.yardstick
        if self.trial or not self.returns:
            return
        if self.t >= 0.2 * self.total and self.t % max(1, self.total // 64) == 0 and (calm or self.ignored):
            self.copy, self.copied = copy.deepcopy(r), self.t
            ends = self.begun + 0.2 * self.total + self.length
            if self.t >= 0.35 * self.total and not (self.total >= 160 and self.from_start and self.t < ends):
                self.start = None

    @property
    def length(self):
        return max(1, self.total // 80)

    def look(self, loss, rate):
        """The sections on a rate that is too low and on a loss that stalls. Return True if something was done."""
        self.summed += rate
        self.piece.append((loss, self.summed))
        if len(self.piece) < self.length:
            return False
        self.pieces.append([sum(column) / self.length for column in zip(*self.piece, strict=True)])
        self.piece = []
        if self.ignored or self.total < 160:
            return False
        done = self.t + 1
        since = done - self.begun
        half = Line(self.pieces[len(self.pieces) // 2 :])
        if self.trial:
            if since < math.ceil(0.1 * self.total):
                return False
            self.judge_trial(half)
            return True
        if self.failed or not half.known:
            return False
        if self.returns and self.start and self.from_start and self.reaches(since, 0.2):
            eighth = [piece[0] for piece in self.pieces[len(self.pieces) // 8 : max(1, len(self.pieces) // 4)]]
            e = sum(eighth) / len(eighth)
            if half.slope >= -2 * half.slope_error and e - half.mean < 0.3 * abs(e):
                self.keep_for_trial(half)
                self.try_from_start(0.1)
                return True
        if since >= 0.15 * self.total and any(self.reaches(done, share) for share in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)):
            whole = Line(self.pieces)
            if whole.slope < -2 * whole.slope_error:
                quotient = half.slope / whole.slope
                if quotient > 0.6:
                    self.keep_for_trial(half)
                    self.trial = 10 if quotient > 0.9 else 3
                    self.factor *= self.trial
                    self.event("tried")
                    self.begin_pieces(done, from_start=False)
                    return True
        return False

    def reaches(self, updates, share):
        return 0 <= updates - share * self.total < self.length

    def keep_for_trial(self, half):
        if self.returns:
            self.copy, self.copied = copy.deepcopy(self.reading), self.t
        self.before, self.stood, self.summed_before = self.factor, half, self.summed

    def try_from_start(self, times):
        self.trial, self.factor = times, times * self.before
        self.event("tried")
        self.from_start = True
        self.go_back()

    def judge_trial(self, half):
        lower = half.known and half.mean < self.stood.mean - 2 * math.hypot(half.mean_error, self.stood.mean_error)
        if lower and not self.from_start:
            # Where the rates of before would have been by the middle of the second half.
            reached = self.summed_before + half.middle / self.trial
            predicted = self.stood.slope * (reached - self.stood.middle)
            lower = half.mean < self.stood.mean + 0.5 * predicted
        if lower:
            self.event("lowered" if self.trial < 1 else "raised")
            self.lowerings += self.trial < 1
            self.trial = None
            if self.from_start:
                self.copy = None
        elif self.trial < 1:
            self.failed = True
            self.try_from_start(10)
        else:
            self.end_trial()

    def end_trial(self, before=False):
        self.trial, self.factor, self.failed = None, self.before, True
        self.event("went_back", before)
        self.go_back(before=before)


class Line:
    """Least squares through pieces (loss, summed rate), by the textbook."""

    def __init__(self, pieces):
        losses, sums = np.array(pieces, float).T if pieces else np.zeros((2, 0))
        with np.errstate(all="ignore"):
            away = sums - sums.mean() if len(sums) else sums
            self.known = len(pieces) >= 3 and sums[0] < sums[-1] and (away**2).sum() > 0
            if not self.known:
                return
            self.mean, self.middle = losses.mean(), sums.mean()
            self.slope = (away * (losses - self.mean)).sum() / (away**2).sum()
            variance = ((losses - self.mean - self.slope * away) ** 2).sum() / (len(pieces) - 2)
        self.mean_error = math.sqrt(variance / len(pieces))
        self.slope_error = math.sqrt(variance / (away**2).sum())
