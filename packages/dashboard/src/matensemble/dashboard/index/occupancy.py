"""How many attempts ran in each bin of a window, in the mean, from attempts or from minutes.

Owns the arithmetic: an attempt costs the same however many bins it spans. Called by `timeline`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from matensemble.dashboard.index.bins import Bins, Window, outside
from matensemble.dashboard.index.minutes import SECONDS as MINUTE


class Occupancy:
    """Seconds that attempts ran in each bin, and how many failed.

    Parameters
    ----------
    bins
        The bins.
    """

    def __init__(self, bins: Bins) -> None:
        self.failed = [0] * bins.number
        self._bins = bins
        self._parts = [0.0] * bins.number  # seconds in bins that are not filled from edge to edge
        self._levels = [0.0] * (bins.number + 1)  # more attempts that fill this bin than the last

    def add(self, start: float, end: float, gaps: Iterable[Window] = ()) -> None:
        """Add an attempt, without what lies in gaps; one that ended before it began is none."""
        bins = self._bins
        for left, right in outside(gaps, max(start, bins.start), min(end, bins.end)):
            self._add(left, right, 1.0)

    def count_failed(self, at: float) -> None:
        """Count a failure where it lies within the bins."""
        place = int((at - self._bins.start) // self._bins.seconds)
        if 0 <= place < self._bins.number:
            self.failed[place] += 1

    def add_minutes(
        self,
        level: float,
        minutes: Iterable[tuple[int, int, float, int]],
        gaps: Iterable[Window],
        until: int,
    ) -> None:
        """Add what changed in each minute.

        Parameters
        ----------
        level
            How many ran before the first bin.
        minutes
            Minute, change of how many run, seconds that ran because of it, failures; in order, all
            within the bins, whose edges are whole minutes.
        gaps
            When nothing counts. Nothing changes in them, and each is longer than a minute.
        until
            When the run ends so far; nothing changes behind it.
        """
        bins = self._bins
        self._levels[0] += level
        instants, levels = [bins.start], [level]
        for minute, change, seconds, failed in minutes:
            end = (minute + 1) * MINUTE
            place = (end - 1 - bins.start) // bins.seconds
            self._parts[place] += seconds + change * (bins.start + bins.seconds * (place + 1) - end)
            self._levels[place + 1] += change
            self.failed[place] += failed
            level += change
            instants.append(minute * MINUTE)
            levels.append(level)
        for gap in (*gaps, Window(until, max(bins.end, until))):
            start, end = max(gap.start, bins.start), min(gap.end, bins.end)
            if start < end:
                self._add(start, end, -levels[bisect_right(instants, start) - 1])

    def means(self, covered: list[int]) -> list[float]:
        """Return how many ran in each bin, in the mean over the seconds of it that are covered.

        Those are not below 0: where a clock was set back, ends may stand before starts.
        """
        means, level = [], 0.0
        for part, change, seconds in zip(self._parts, self._levels[:-1], covered, strict=True):
            level += change
            total = max(part + level * self._bins.seconds, 0.0)
            means.append(round(total / seconds, 6) if seconds else 0.0)
        return means

    def _add(self, start: float, end: float, times: float) -> None:
        """Add so many attempts between instants within the bins."""
        bins = self._bins
        first = int((start - bins.start) // bins.seconds)
        last = int((end - bins.start) // bins.seconds)
        if first == last:
            self._parts[first] += (end - start) * times
            return
        self._parts[first] += (bins.start + bins.seconds * (first + 1) - start) * times
        self._levels[first + 1] += times
        self._levels[last] -= times
        if last < bins.number:
            self._parts[last] += (end - bins.start - bins.seconds * last) * times
