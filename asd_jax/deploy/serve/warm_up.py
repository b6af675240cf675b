"""Compiles what recordings of any lengths need, before the first one comes."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from asd_jax.data.recordings import Waveform
from asd_jax.deploy.serve.asked import Asked
from asd_jax.deploy.serve.scoring import Posted, readings, score_posted
from asd_jax.features.frames import frame_batches
from asd_jax.features.pieces import row_counts
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.pooled import pieces_at_once


def warm_up(fitted: Fitted, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Scores noise, in batches of all sizes that programs are compiled for.

    Args:
        fitted: the fitted system of a run.
        progress: called with the batches that are done, and how many there are.

    Returns:
        How many batches were scored.

    Raises:
        UserError: noise cannot be scored, so nothing can.
    """
    batches = [*_batches(fitted)]
    for done, batch in enumerate(batches, start=1):
        for result in score_posted(fitted, batch):
            if isinstance(result, Exception):
                raise result
        progress(done, len(batches))
    return len(batches)


def _batches(fitted: Fitted) -> Iterator[list[Posted]]:
    seen: set[tuple[int, ...]] = set()
    for machine in fitted.machines:
        detectors = [*_detectors(fitted, machine)]
        least = max(map(_shortest, detectors))
        for section in fitted.sections_of(machine) or (None,):
            asked = Asked(fitted.resolve(machine, section))
            yield [_noise(fitted, asked, least)]  # the calibration is of a size of its own
        # Programs are of a system, for all machines that it scores.
        if (known := tuple(map(id, detectors))) not in seen:
            seen.add(known)
            for seconds, count in _sizes(detectors, least):
                yield [_noise(fitted, asked, seconds)] * count


def _detectors(fitted: Fitted, machine: str) -> Iterator[FittedDetector]:
    """The systems that score a machine."""
    if isinstance(fitted, FittedDetector):
        yield fitted
    elif isinstance(fitted, FittedMembers):
        for name in fitted.serving(machine):
            yield from _detectors(fitted.members[name], machine)


def _shortest(fitted: FittedDetector) -> float:
    """Seconds of a recording that is scored by one piece of its frames, or by few."""
    front_end, views = fitted.detector.front_end, fitted.detector.views
    n_samples = front_end.hop_length * max(views.fewest, views.length) + front_end.n_fft
    return n_samples / front_end.sample_rate


def _sizes(detectors: Sequence[FittedDetector], least: float) -> Iterator[tuple[float, int]]:
    """Seconds of a recording, and how many of them make a batch."""
    sizes: set[tuple[float, int]] = set()
    for fitted in detectors:
        # Short recordings: as many pieces as there are of them.
        sizes |= {(least, count) for count in row_counts(pieces_at_once(fitted.detector))}
        front_ends = [fitted.detector.front_end]
        if fitted.config.embedding.pretrained:
            front_ends.append(fitted.embedder)
        for front_end in front_ends:  # one recording of so many pieces
            in_piece, in_batch = frame_batches(front_end)
            hop = in_piece * front_end.hop_length / front_end.sample_rate
            sizes |= {(max(least, hop * (count - 0.5)), 1) for count in row_counts(in_batch)}
    yield from sorted(sizes)


def _noise(fitted: Fitted, asked: Asked, seconds: float) -> Posted:
    waveforms = {}
    for sample_rate, channel in readings(fitted, asked.group[0]):
        n_samples = int(seconds * sample_rate)
        noise = 0.1 * np.random.default_rng(0).standard_normal(n_samples)
        waveforms[sample_rate, channel] = Waveform.of(noise.astype(np.float32))
    return Posted("noise", asked, waveforms)
