"""The models of a fleet, and the clips and views that each of them is trained on."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.audio import ViewSpec
from asd_jax.config import TrainConfig
from asd_jax.training.task import TrainingStatistics


@dataclasses.dataclass(frozen=True)
class FleetModel:
    """One model of a fleet.

    Attributes:
        machine: machine type; "" of a network for all of them.
        section: the section it is trained for; "" for a whole machine type.
        seed: seed of its initial weights, shuffling and validation clips.
        repeat: number of the training, for systems with several trainings a seed.
        variant: of the run's settings that it is trained by, where a fleet has several; else "".
        settings: values of dotted keys that it has in place of the run's, see `training.varied`.

    Examples:
        >>> FleetModel("fan", "00", seed=1).name
        'fan 00 seed 1'
    """

    machine: str
    section: str
    seed: int
    repeat: int = 0
    variant: str = ""
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """Name in logs, like "fan 00 seed 1"."""
        section = f" {self.section}" if self.section else ""
        repeat = f" training {self.repeat + 1}" if self.repeat else ""
        variant = f" of {self.variant}" if self.variant else ""
        return f"{self.machine or 'all machines'}{section} seed {self.seed}{repeat}{variant}"

    @property
    def of_variant(self) -> "FleetModel":
        """The model as a run of its variant alone has it, which draws the same numbers."""
        return dataclasses.replace(self, variant="", settings=())

    def as_variant(self, name: str, settings: tuple[tuple[str, float], ...]) -> "FleetModel":
        """The model in a fleet of several variants."""
        return dataclasses.replace(self, variant=name, settings=settings)

    @property
    def entropy(self) -> tuple[int, int]:
        """Origin of all of the model's random choices."""
        repeat = f"#{self.repeat}" if self.repeat else ""
        return self.seed, zlib.crc32(f"{self.machine}/{self.section}{repeat}".encode())


class Views(NamedTuple):
    """First rows of the views of all models, stacked on the first axis and padded.

    Attributes:
        starts: (models, views) rows of the table of frames.
        labels: (models, views) labels of their clips.
        count: (models,) number of views without padding.
        n_frames: (models, views) frames of their clips, where a clip has one view, see
            `ViewSpec.crop`; None elsewhere.
    """

    starts: jax.Array
    labels: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides the method of tuples
    n_frames: jax.Array | None = None


class FleetData(NamedTuple):
    """Data of all models, stacked on the first axis, beside a table of frames.

    Attributes:
        key: uint32 (models, words), the data of the models' keys, from `model_keys`.
        statistics: of the training frames.
        training: training views in that table.
        validation: validation views in it.
    """

    key: jax.Array
    statistics: TrainingStatistics
    training: Views
    validation: Views


class Examples(NamedTuple):
    """Clips that one model is trained or validated on.

    Attributes:
        clips: (n,) indices into the table of clips.
        labels: (n,) their labels.
    """

    clips: np.ndarray
    labels: np.ndarray


class FleetClips(NamedTuple):
    """Training and validation clips of the models of a fleet.

    Attributes:
        models: the models.
        training: training clips of each model.
        validation: validation clips of each model, none of them among its training clips.
        n_frames: (clips,) frames of every clip of the table of clips.
        views: how a clip is cut.
        batch_size: views of a step.
    """

    models: Sequence[FleetModel]
    training: Sequence[Examples]
    validation: Sequence[Examples]
    n_frames: np.ndarray
    views: ViewSpec
    batch_size: int

    def n_views(self) -> np.ndarray:
        """(clips,) views of every clip in an epoch."""
        return self.views.n_views(self.n_frames)


def fleet_clips(
    models: Sequence[FleetModel],
    examples: Sequence[tuple[np.ndarray, np.ndarray]],
    n_frames: np.ndarray,
    *,
    view_length: int,
    view_hop: int,
    config: TrainConfig,
    crop: bool = False,
    validation: np.ndarray | None = None,
    together: np.ndarray | None = None,
) -> FleetClips:
    """Splits the clips of each model into training and validation clips.

    Of clips that belong together none is trained on where another one is a validation clip.

    Args:
        models: the models.
        examples: for each model, indices (clips,) of its clips, and their labels.
        n_frames: (clips,) frames of each clip.
        view_length: frames in a view.
        view_hop: frames from one view's start to the next one's.
        config: `validation_split` and `batch_size` are used.
        crop: whether an epoch has one view of a clip, see `ViewSpec`.
        validation: bool (clips,), true of the validation clips of all models; by default each model
            draws its own.
        together: int (clips,) from 0, equal for clips that belong together, as a recording and its
            copies; by default each clip is by itself.

    Examples:
        >>> clips = (np.arange(10), np.zeros(10, int))
        >>> fleet = fleet_clips(
        ...     [FleetModel("fan", "", seed=0)],
        ...     [clips],
        ...     np.full(10, 313),
        ...     view_length=5,
        ...     view_hop=1,
        ...     config=TrainConfig(validation_split=0.2),
        ... )
        >>> len(fleet.training[0].clips), len(fleet.validation[0].clips), fleet.n_views()[0]
        (8, 2, np.int64(309))
    """
    training, held_out = [], []
    together = np.arange(len(n_frames)) if together is None else together
    for model, (clips, labels) in zip(models, examples, strict=True):
        places = np.arange(len(clips))  # positions in both arrays
        own = together[clips]
        if validation is None:
            kept, held = split_clips(model, places, config.validation_split, own)
        else:
            kept, held = (np.flatnonzero(part[clips]) for part in (~validation, validation))
            kept = kept[~np.isin(own[kept], own[held])]
        training.append(Examples(clips[kept], labels[kept]))
        held_out.append(Examples(clips[held], labels[held]))
    views = ViewSpec(view_length, view_hop, crop=crop)
    return FleetClips(models, training, held_out, n_frames, views, config.batch_size)


def split_clips(
    model: FleetModel, clips: np.ndarray, share: float, together: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a model's validation clips.

    Whole clips are held out, so that no validation view overlaps a training view, and what belongs
    together as a whole, so that none is the copy of a training view.

    Args:
        model: the model.
        clips: (clips,) indices into the table of clips.
        share: held-out share; if it is above 0 and there are two clips or more that do not belong
            together, at least one clip is held out. At least one is left for training.
        together: int (clips,), equal for clips that belong together; by default each is by itself.

    Returns:
        Indices of the training clips and of the validation clips, both ascending.

    Examples:
        >>> training, held = split_clips(FleetModel("fan", "", seed=0), np.arange(10), 0.2)
        >>> len(training), len(held), sorted({*training.tolist(), *held.tolist()}) == [*range(10)]
        (8, 2, True)
    """
    together = np.arange(len(clips)) if together is None else together
    _, first, own, sizes = np.unique(
        together, return_index=True, return_inverse=True, return_counts=True
    )
    # Numbers of what belongs together, in the order of the first clips.
    number = np.argsort(np.argsort(first))
    own, sizes = number[own], sizes[np.argsort(first)]
    order = np.random.default_rng(model.entropy).permutation(len(sizes))
    wanted = max(1, round(share * len(clips))) if share else 0
    before = np.cumsum(sizes[order]) - sizes[order]
    n_held = max(0, min(int(np.sum(before < wanted)), len(sizes) - 1))
    held = np.isin(own, order[:n_held])
    return np.sort(clips[~held]), np.sort(clips[held])


def lay_out_views(
    fleet: FleetClips,
    examples: Sequence[Examples],
    first_rows: np.ndarray,
    width: int | None = None,
) -> Views:
    """Lists the models' views of the clips in a table of frames.

    Args:
        fleet: the models' clips.
        examples: its `training` or its `validation`.
        first_rows: (clips,) first row of every clip in the table; negative for clips that are not
            in it.
        width: views to pad every model to; by default as many as the largest model needs, rounded
            up to whole batches.

    Returns:
        NumPy arrays.
    """
    n_views = fleet.n_views()
    starts, labels, lengths = [], [], []
    for clips, clip_labels in examples:
        present = first_rows[clips] >= 0
        counts = n_views[clips[present]]
        # For every view, its clip and its number within the clip, without a loop over clips.
        clip = np.repeat(np.arange(len(counts)), counts)  # (views,)
        number = np.arange(len(clip)) - (np.cumsum(counts) - counts)[clip]  # (views,)
        starts.append(first_rows[clips[present]][clip] + fleet.views.hop * number)
        labels.append(clip_labels[present][clip])
        lengths.append(fleet.n_frames[clips[present]][clip])
    count = np.array([len(row) for row in starts], np.int32)
    if width is None:
        width = whole_batches(int(count.max()), fleet.batch_size)
    of_clips = _pad(lengths, width) if fleet.views.crop else None
    arrays: tuple[Any, ...] = (_pad(starts, width), _pad(labels, width), count, of_clips)
    return Views(*arrays)


def whole_batches(views: int, batch_size: int) -> int:
    """Rounds a number of views up to whole batches, at least one.

    Examples:
        >>> whole_batches(0, 64), whole_batches(65, 64)
        (64, 128)
    """
    return max(1, -(-views // batch_size)) * batch_size


def entropy_of(models: Sequence[FleetModel]) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of `model_keys`: (models,) seeds, and (models,) numbers of the names."""
    seeds, names = zip(*(model.entropy for model in models), strict=True)
    integer = jax.dtypes.canonicalize_dtype(np.int64)  # to which a seed is cut off, as JAX does
    return np.array(seeds, np.int64).astype(integer), np.array(names, np.uint32)


def model_keys(seeds: jax.Array, names: jax.Array) -> jax.Array:
    """Keys of the models' initial weights, shuffling and dropout, as `FleetData` has them.

    Examples:
        >>> models = [FleetModel("fan", "", 0), FleetModel("fan", "", 1)]
        >>> model_keys(*entropy_of(models)).shape
        (2, 2)
    """
    keys = jax.vmap(lambda seed, name: jax.random.fold_in(jax.random.key(seed), name))(seeds, names)
    return jax.random.key_data(keys)


def _pad(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Stacks rows of unequal length, padded with zeros."""
    padded = np.zeros((len(rows), width), np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
