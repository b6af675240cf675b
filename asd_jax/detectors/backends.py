"""Back ends: a clip's score as the distance of its embedding from those of normal clips.

Any system that has an embedding of a clip (`Detector.embed`) can be scored this way in place of
its own score: `--config.backend=knn` or `--config.backend=mahalanobis`. Where one model serves
several sections and distinguishes them, a clip is compared with those of its own section.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config
from asd_jax.detectors.base import Detector, TrainingClips
from asd_jax.detectors.cells import Cells
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.scoring.explanation import Part
from asd_jax.scoring.gaussian import Gaussian, fit_domains, selective_distance
from asd_jax.scoring.neighbours import Bank, knn_distance
from asd_jax.scoring.pooling import Pool

# Relative to the largest value of an embedding: closer ones are of the same clip.
_SAME = 1e-5


@functools.cache
def on_embeddings(system: type[Detector]) -> type[Detector]:
    """The system, scored by distances of its embeddings.

    Raises:
        UserError: the system has no embedding.
    """
    if system.embed is Detector.embed:
        raise UserError(
            f"backend needs embeddings of clips, and {system.Config.name} has none; leave it at own"
        )
    return type("OnEmbeddings", (_OnEmbeddings, system), {})


def _restored(system: type[Detector], config: Config) -> Detector:
    return on_embeddings(system)(config)


class _OnEmbeddings(Detector):
    """Replaces a system's own score by the distance of its embeddings."""

    def __reduce__(self) -> tuple[Callable[..., Detector], tuple[type[Detector], Config]]:
        """How to pickle it: its class is made here and has no name to import."""
        return _restored, (type(self).__mro__[2], self.config)

    by_gradient = True

    @property
    def keeps(self) -> Literal["", "clips", "sums"]:
        """The clips' embeddings."""
        return "clips"

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """The levels: what an embedding is of, no reconstruction shows."""
        return Detector.cells(self, weights, clip)

    def map(self, parts: Sequence[Part], evidence: np.ndarray) -> np.ndarray | None:
        """As of any system that has no better one."""
        return Detector.map(self, parts, evidence)

    @property
    def repeats(self) -> int:
        """One: trainings of a seed differ in the system's own score only."""
        return 1

    def pool(self, weights: Any, clip: ClipInput) -> Pool:
        """A clip's embedding."""
        return self.embed(weights, clip)

    def statistics(self, weights: Any, clip: ClipInput) -> Pool:
        """A clip's embedding."""
        return self.embed(weights, clip)

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Embeddings of the training clips, their domains, and the places of their sections."""
        own, embeddings = zip(*clips, strict=True)
        sections = sorted({clip.section for clip in own})
        return {
            "embeddings": np.stack(embeddings),
            "target": np.array([clip.domain == "target" for clip in own], np.float32),
            "section": np.array([sections.index(clip.section) for clip in own], np.float32),
        }

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, Any]:
        """Each section's embeddings, or a Gaussian of each section and domain.

        Arrays are (models, sections, …). A system that does not distinguish sections has one
        for all clips.
        """
        rows = {name: calibrations[name] for name in ("embeddings", "target")}
        place = calibrations["section"] * (1 if self._by_section else 0)
        banks = _by_section(rows, place)
        if self.config.backend.kind == "knn":
            return banks
        return _fit_gaussians(banks["embeddings"], banks["target"] == 1)

    def training_scores(self, calibration: Mapping[str, np.ndarray]) -> None:
        """Those of a system's own score are not of its embeddings' distances."""
        return None

    @property
    def _by_section(self) -> bool:
        return self.scope == "machine by section"

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """Distance of a clip's embedding from those of the normal clips of its section.

        A training clip's is that from the others: it would be its own neighbour.
        """
        backend, distances = self.config.backend, []
        # All sections, not only the clip's own: gathering that one would copy a section's
        # embeddings for each clip of a batch.
        for place in range(len(jax.tree.leaves(calibration)[0])):
            own = jax.tree.map(lambda leaf, place=place: leaf[place], calibration)
            if backend.kind == "mahalanobis":
                source, target = (Gaussian(**own[name]) for name in ("source", "target"))
                distances.append(selective_distance(source, target, pooled[None])[0])
            else:
                bank = Bank(
                    own["embeddings"],
                    jnp.isfinite(own["embeddings"]).all(axis=-1),
                    own["target"] == 1,
                )
                nearest = _from_others if facts.trained else _from_all
                distance = nearest(pooled, bank, backend.neighbours, backend.metric)
                # The distance to an empty bank is infinite; NaN keeps a diverged model out of
                # the ranking.
                distances.append(jnp.where(bank.mask.any(), distance, jnp.nan))
        return jnp.stack(distances)[facts.label if self._by_section else 0]


def _by_section(rows: dict[str, np.ndarray], place: np.ndarray) -> dict[str, np.ndarray]:
    """Groups rows by section, with padding.

    Args:
        rows: arrays (models, rows, …).
        place: (models, rows) index of each row's section; NaN for padding.

    Returns:
        Arrays (models, sections, rows, …); NaN where a model lacks a section, or has fewer
        rows in it than others.
    """
    n_sections = int(np.nanmax(place)) + 1
    chosen = [[np.flatnonzero(own == section) for section in range(n_sections)] for own in place]
    most = max(len(own) for of_model in chosen for own in of_model)
    banks = {}
    for name, values in rows.items():
        shape = len(values), n_sections, most, *values.shape[2:]
        banks[name] = np.full(shape, np.nan, np.float32)
        for m, of_model in enumerate(chosen):
            for section, own in enumerate(of_model):
                banks[name][m, section, : len(own)] = values[m, own]
    return banks


def _from_all(query: jax.Array, bank: Bank, k: int, metric: str) -> jax.Array:
    return knn_distance(query[None], bank, k=k, metric=metric)[0]


def _from_others(query: jax.Array, bank: Bank, k: int, metric: str) -> jax.Array:
    """Distance of a row of the bank from the other rows.

    The row itself is among the k + 1 nearest of its domain, at distance 0: the mean over k + 1,
    scaled by (k + 1) / k, is the mean over the k others.
    """
    # Computed in another batch, an embedding equals itself only up to rounding.
    apart = jnp.max(jnp.abs(bank.embeddings - query), axis=-1)  # (rows,)
    itself = apart <= _SAME * jnp.max(jnp.abs(query))
    distances = []
    for mask in (bank.mask & ~bank.target, bank.mask & bank.target):
        domain = bank._replace(mask=mask)
        count = jnp.minimum(jnp.sum(mask), k + 1)  # small banks have fewer neighbours
        with_itself = count * _from_all(query, domain, k + 1, metric)
        others = jnp.where(count > 1, with_itself / jnp.maximum(count - 1, 1), jnp.inf)
        is_own = jnp.any(mask & itself)
        distances.append(jnp.where(is_own, others, _from_all(query, domain, k, metric)))
    return jnp.minimum(*distances)


def _fit_gaussians(values: np.ndarray, target: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Fits Gaussians, float32, to the source and to the target rows of each model and section.

    Args:
        values: (models, sections, rows, values) embeddings; NaN for padding.
        target: (models, sections, rows) true for the target domain.

    Returns:
        Both domains' Gaussians; distances are NaN where no domain has two distinct rows.

    Raises:
        UserError: no model has two distinct rows of one domain.
    """
    mask = np.isfinite(values).all(axis=-1)  # (models, sections, rows)
    usable = np.zeros(mask.shape[:-1], bool)  # (models, sections)
    for domain in (mask & ~target, mask & target):
        high = np.where(domain[..., None], values, -np.inf).max(axis=-2)
        low = np.where(domain[..., None], values, np.inf).min(axis=-2)
        usable |= (high > low).any(axis=-1)
    if not usable.any():
        raise UserError(
            "backend=mahalanobis needs two clips of one domain whose embeddings differ, and no "
            "model has them; choose another backend, or more clips"
        )
    lacking = ~usable[..., None]  # (models, sections, 1)
    # Any distinct rows keep the fit finite where rows are lacking; NaN replaces its mean below.
    stand_in = np.arange(values.shape[-2])[:, None]
    fitted = fit_domains(
        np.where(lacking[..., None], stand_in, values), mask | lacking, target & ~lacking
    )
    return {
        name: Gaussian(
            np.where(lacking, np.nan, gaussian.mean).astype(np.float32),
            gaussian.whitening.astype(np.float32),
            gaussian.valid | lacking[..., 0],
        )._asdict()
        for name, gaussian in zip(("source", "target"), fitted, strict=True)
    }
