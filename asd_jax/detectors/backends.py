"""Scores from embeddings: how far a clip is from the normal clips, by what a system sees in them.

Any system that has an embedding of a clip (`Detector.embed`) can be scored this way in place of
its own score: `--config.backend=knn` or `--config.backend=mahalanobis`. Where one model serves
several sections and tells them apart, a clip is compared with those of its own section.
"""

import functools

import jax.numpy as jnp
import numpy as np

from asd_jax.detectors.base import Detector
from asd_jax.errors import UserError
from asd_jax.scoring.gaussian import Gaussian, fit_domains, selective_distance
from asd_jax.scoring.neighbours import Bank, knn_distance

# Of its largest value: embeddings closer than this are of the same clip.
_SAME = 1e-5


@functools.cache
def on_embeddings(system: type[Detector]) -> type[Detector]:
    """The system, scored by distances of its embeddings.

    Raises:
        UserError: it has none.
    """
    if system.embed is Detector.embed:
        raise UserError(
            f"backend needs embeddings of clips, and {system.Config.name} has none; leave it at own"
        )

    class OnEmbeddings(system):
        """A system with another score."""

        @property
        def repeats(self) -> int:
            """One: what differs between trainings is the system's own score."""
            return 1

        def statistics(self, weights, features, n_frames, embedding=None):
            """A clip's embedding."""
            return self.embed(weights, features, n_frames, embedding)

        def calibrate(self, clips):
            """Embeddings of the training clips, their domains, and the places of their sections."""
            clips, embeddings = zip(*clips, strict=True)
            sections = sorted({clip.section for clip in clips})
            return {
                "embeddings": np.stack(embeddings),
                "target": np.array([clip.domain == "target" for clip in clips], np.float32),
                "section": np.array([sections.index(c.section) for c in clips], np.float32),
            }

        def calibrate_fleet(self, calibrations, clips, embeddings):
            """The embeddings as they are, or a Gaussian of each domain and section."""
            if self.config.backend.kind == "knn":
                return calibrations
            values, target, section = (
                calibrations[name] for name in ("embeddings", "target", "section")
            )
            # Where a model could not be calibrated, or has fewer clips than others, there is NaN.
            there = np.isfinite(values).all(axis=-1)
            n_sections = int(np.nanmax(section)) + 1 if self.by_section else 1
            found = []
            for place in range(n_sections):
                mask = there & ((section == place) | (not self.by_section))
                # A model with fewer sections has no clips of this one, nor a score.
                lacking = ~mask.any(axis=-1)
                domains = fit_domains(
                    np.where(lacking[:, None, None], np.eye(*values.shape[1:]), values),
                    mask | lacking[:, None],
                    target == 1,
                )
                found.append({"source": domains[0]._asdict(), "target": domains[1]._asdict()})
            return {
                domain: {
                    name: np.stack([of_section[domain][name] for of_section in found], axis=1)
                    for name in Gaussian._fields
                }
                for domain in ("source", "target")
            }

        def score(self, weights, calibration, features, n_frames, label=0, embedding=None):
            """How far one clip's embedding is from those of the training clips."""
            query = self.embed(weights, features, n_frames, embedding)
            return self._distance(calibration, query, label, False)

        def score_trained(self, weights, calibration, features, n_frames, label=0, embedding=None):
            """The same of a training clip, from the others: its own neighbour is itself."""
            query = self.embed(weights, features, n_frames, embedding)
            return self._distance(calibration, query, label, True)

        def _distance(self, calibration, query, label, trained: bool):
            if self.config.backend.kind == "knn":
                bank = calibration["embeddings"]
                mask = jnp.isfinite(bank).all(axis=-1)
                if self.by_section:
                    mask &= calibration["section"] == label
                if trained:
                    # Computed in another batch, an embedding is itself to rounding only.
                    apart = jnp.max(jnp.abs(bank - query), axis=-1)
                    mask &= ~(apart <= _SAME * jnp.max(jnp.abs(query)))
                return knn_distance(
                    query[None],
                    Bank(bank, mask, calibration["target"] == 1),
                    k=self.config.backend.neighbours,
                    metric=self.config.backend.metric,
                )[0]
            place = label if self.by_section else 0
            source, target = (
                Gaussian(*(calibration[domain][name][place] for name in Gaussian._fields))
                for domain in ("source", "target")
            )
            return selective_distance(source, target, query[None])[0]

    return OnEmbeddings
