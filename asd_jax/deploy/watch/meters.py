"""How fast a watch is: windows, times real time, latencies, memory."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asd_jax.runtime.text_tables import aligned

# Latencies are counted in bins a tenth of a decade apart, from 1 ms to 28 hours.
_LEAST, _BINS_A_DECADE, _DECADES = 1e-3, 10, 8


class Latencies:
    """Counts latencies in bins, for percentiles within 13 %.

    Examples:
        >>> latencies = Latencies()
        >>> latencies.add(np.array([0.1, 0.1, 0.1, 7.0]))
        >>> [round(latencies.percentile(share), 2) for share in (0.5, 0.99)]
        [0.11, 7.08]
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS_A_DECADE * _DECADES, np.int64)

    def add(self, seconds: np.ndarray) -> None:
        """Counts some."""
        bins = np.log10(np.maximum(seconds, _LEAST) / _LEAST) * _BINS_A_DECADE
        bins = np.minimum(bins.astype(np.int64), len(self.counts) - 1)
        self.counts += np.bincount(bins, minlength=len(self.counts))

    def percentile(self, share: float) -> float:
        """The middle of the bin that a share of the latencies reaches; NaN without any."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return _LEAST * 10 ** ((min(place, len(self.counts) - 1) + 0.5) / _BINS_A_DECADE)


class Meter:
    """Counts what is said of the speed, in all and since the last line.

    Attributes:
        windows: that were scored.
        sound: seconds of sound that windows went on by.
        latencies: of all windows.
    """

    def __init__(self) -> None:
        self.windows, self.sound = 0, 0.0
        self.latencies = Latencies()
        self._recent = Latencies()
        self._begun = self._last = time.monotonic()
        self._windows_before, self._sound_before = 0, 0.0

    def add(self, sound: float, latencies: np.ndarray) -> None:
        """Counts windows that went on by so many seconds of sound."""
        self.windows += len(latencies)
        self.sound += sound
        self.latencies.add(latencies)
        self._recent.add(latencies)

    def rate(self) -> float:
        """Seconds of sound a second, since the begin."""
        return self.sound / max(1e-9, time.monotonic() - self._begun)

    def line(self) -> str:
        """Speed since the last line."""
        now = time.monotonic()
        elapsed = max(1e-9, now - self._last)
        windows = self.windows - self._windows_before
        parts = [
            f"{windows:,} windows",
            f"{windows / elapsed:,.1f} windows/s",
            f"{(self.sound - self._sound_before) / elapsed:,.1f} x real time",
        ]
        if windows:
            half, most = (self._recent.percentile(share) for share in (0.5, 0.99))
            parts.append(f"latency {half:.2g} s, 99 % within {most:.2g} s")
        if memory := resident_memory():
            parts.append(f"memory {memory / 2**20:,.0f} MiB")
        self._last, self._recent = now, Latencies()
        self._windows_before, self._sound_before = self.windows, self.sound
        return "  ".join(parts)


def resident_memory() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * 4096


class Tally(NamedTuple):
    """Counts of a stream since the watch was started.

    Attributes:
        windows: that were made of it.
        exceeding: that were above the threshold.
        alarms: that were raised.
        unscored: windows, and recordings that were left out, without a score.
    """

    windows: int = 0
    exceeding: int = 0
    alarms: int = 0
    unscored: int = 0


def tally_table(tallies: Mapping[str, Tally], width: int | None = None) -> list[str]:
    """A table of what became of each stream's windows.

    Examples:
        >>> tally_table({"fan_00": Tally(windows=10, exceeding=2, alarms=1)})[-1].split()
        ['fan_00', '10', '2', '1', '0']
    """
    heading = ["stream", "windows", "exceeding", "alarms", "without a score"]
    rows = [[name, *map("{:,}".format, tally)] for name, tally in tallies.items()]
    return aligned([heading, *rows], width=width, right=range(1, 5))
