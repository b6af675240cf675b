"""The recordings of a run: their features, and what they are known by when it goes on."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from asd_jax.config import Config
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.features.embeddings import BATCH_CLIPS as EMBEDDED_TOGETHER
from asd_jax.features.embeddings import Embedder, clip_embeddings, embeddings_of
from asd_jax.features.table import ArrayFeatures, Features
from asd_jax.runtime.progress import Reporter


def features_of(
    config: Config,
    clips: Sequence[Clip],
    embedder: Embedder | None,
    cache_dir: os.PathLike | str | None,
    on_bad_clip: str,
    reporter: Reporter,
) -> tuple[Features, Features]:
    """Features of the training and of the test clips that can be used.

    What cannot be used is said, or ends the run.

    Args:
        config: the run's configuration.
        clips: those that it is of.
        embedder: the pretrained network that it names; None where it names none.
        cache_dir: as in `compute_features`.
        on_bad_clip: likewise.
        reporter: tells people how far it is.

    Raises:
        UserError: no machine has training clips, or as in `compute_features`.
    """
    detector = make_detector(config)

    def compute(label, chosen, front_end, **options):
        reporter.start(label, len(chosen))
        try:
            return compute_features(
                chosen,
                front_end,
                channel=None if config.data.channel < 0 else config.data.channel,
                cache_dir=cache_dir,
                on_bad_clip=on_bad_clip,
                report=reporter.line,
                progress=reporter.advance,
                **options,
            )
        finally:
            reporter.stop()

    clips = ClipTable.of(clips)
    is_test = clips.where(split="test")
    found = []
    for split in ("training", "test"):
        chosen = clips[is_test if split == "test" else ~is_test]
        if not chosen:
            found.append(ArrayFeatures([], []))
            continue
        embeddings = None
        if embedder is not None:
            windows = compute(
                f"embeddings of {split} clips", chosen, embedder, batch_size=EMBEDDED_TOGETHER
            )
            chosen = windows.clips
            embeddings = dict(zip(chosen, clip_embeddings(windows), strict=True))
        table = compute(
            f"features of {split} clips",
            chosen,
            config.front_end,
            min_frames=detector.fewest_frames,
            fill_frames=detector.view_length,
        )
        if embeddings is not None:
            rows = np.array([embeddings[clip] for clip in table.clips])
            table = dataclasses.replace(table, embeddings=rows)
        else:
            table = dataclasses.replace(table, embeddings=embeddings_of(config, table))
        found.append(table)
    training, test = found[0].clips, found[1].clips
    trained = set(training[training.where(split="train")].distinct("machine"))
    tested = set(test.distinct("machine"))
    if not trained:
        raise UserError("no machine has training clips; a train/ folder of normal clips is needed")
    for machine in sorted(tested - trained):
        reporter.line(f"{machine}: no training clips; it is left out")
    for machine in sorted(trained - tested):
        reporter.line(f"{machine}: no test clips; it is trained and has no results")
    return found[0], found[1]
