"""Stops a training before damaged weights are written: a loss that is no number, or one that leaps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

REMEMBERED = 50  # losses that the median is taken of
BEGIN = 20  # losses that must be known before a leap is one: the first fall quickly


class Watch:
    """Looks at every step's loss before the weights are stepped, so that nothing is damaged when it raises.

    Args:
        leap: a loss above so many times the median of the last 50 is refused; 0: only what is no number is.
    """

    def __init__(self, leap: float) -> None:
        self.leap = leap
        self.losses: deque[float] = deque(maxlen=REMEMBERED)

    def look(self, step: int, loss: float, norm: float, samples: Callable[[], Sequence[str]]) -> None:
        """Lets a step pass, or raises; to be called between the backward pass and `optimizer.step()`.

        Args:
            loss: of all processes together, as it is the same on each, so that all of them stop.
            norm: of all gradients together, before clipping.
            samples: what the step's batch is made of; asked for only if the step is refused.

        Raises:
            ValueError: loss or norm is no number or infinite, or the loss leaps; step, loss and samples are named.
        """
        usual = median(self.losses) if self.losses else math.nan
        if not math.isfinite(loss):
            wrong = f"the loss is {loss}"
        elif not math.isfinite(norm):
            wrong = f"the loss is {loss:.5g}, but the norm of its gradients is {norm}"
        elif self.leap and len(self.losses) >= BEGIN and loss > self.leap * usual:
            wrong = f"the loss is {loss:.5g}, more than leap = {self.leap:g} times {usual:.5g}, its recent median"
        else:
            self.losses.append(loss)
            return
        raise ValueError(
            f"step {step} stops the training, before its weights were changed: {wrong}. Its batch was made of "
            f"{', '.join(samples()) or 'nothing'}. Look at these samples, or go on from the last checkpoint (--resume) "
            "with a lower optimiser.lr or optimiser.clip: as it is asked now the same comes again"
        )
