"""Configuration of a run, as frozen dataclasses."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from asd_jax.audio.frontend import FrontEnd
from asd_jax.errors import UserError
from asd_jax.runtime.arguments import composed
from asd_jax.runtime.bounds import SEED, Between, OneOf, check_numbers, shown

QUANTILE = 0.9  # of the challenge's decision thresholds


class NoEffectError(UserError):
    """A setting was changed where it has no effect.

    Args:
        message: as in `UserError`.
        field: the setting's name in its group.
        group: the group's name; "" for none.
    """

    def __init__(self, message: str, field: str, group: str = ""):
        super().__init__(message)
        self.field = field
        self.group = group


def check_no_effect(group: str, settings: Any, names: Sequence[str], why: str) -> None:
    """Raises NoEffectError for a setting that was changed where it has no effect.

    Args:
        group: prefix of the settings' names in a dotted key; "" for none.
        settings: a dataclass whose fields have defaults.
        names: fields that have no effect.
        why: the reason, for the message.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        if getattr(settings, name) != defaults[name]:
            key = f"{group}.{name}" if group else name
            raise NoEffectError(
                f"{key} is {getattr(settings, name)}, which has no effect: {why}; leave it at "
                f"{defaults[name]!r}",
                name,
                group,
            )


def check_names(key: str, names: Any) -> None:
    """Raises UserError for what is no tuple of texts."""
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key} is {shown(names)}; give a tuple of names")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Choice of a data set's recordings.

    Attributes:
        machines: machine types; empty for all.
        subset: "dev", "eval", or "both", with a run directory of each; "auto" takes the development
            set where there is one.
        year: challenge year, for data whose layout does not show it; 0 infers it.
        channel: channel of recordings that have several; -1 takes their mean. For two channels,
            near the machine and far from it, see also `front_end.canceller`.
        group: what tells the clips that were recorded together, as in a session or on a day: the
            name of an attribute of the file names or of the table of attributes; or a regular
            expression with a part in parentheses, which is searched in the recording's path. Empty
            where each clip is by itself. Groups are held out, left out and counted as a whole
            where thresholds and p-values are made.
        hidden_attributes: folder of attributes that names hide since 2024, which the organisers
            publish afterwards, see `asd_jax.data.hidden_attributes`; empty for none. Systems that
            tell attributes apart learn from them, which the challenge's rules do not allow.
        clip_seconds: recordings of one and a half times this length, or longer, are cut into clips
            of about it, see `features.cut`; 0 leaves them whole.
        state: what makes the operating state of a clip, as "speed" and "load": attributes, columns
            of a manifest or of side files; "on" says whether the machine runs. Clips of states that
            are off, or change within the clip, are not learned from and not scored, nor are those
            of a state that no normal clip was in. Empty where states are not given.
        state_log: where states are, if not in the attributes: "beside" for a CSV file beside each
            recording, or the path of one for all; see `asd_jax.data.states`.
        learn_off: whether clips that are far quieter than a machine's running normal clips are off,
            see `asd_jax.scoring.quiet`; a machine that fails by stopping then has no alarm.
    """

    machines: tuple[str, ...] = ()
    subset: Literal["auto", "dev", "eval", "both"] = "auto"
    year: Annotated[int, Between(0, 9999)] = 0
    channel: Annotated[int, Between(-1, 10**4)] = 0
    group: str = ""
    hidden_attributes: str = ""
    clip_seconds: Annotated[float, Between(0, 10**6, at_low="whole")] = 0.0
    state: tuple[str, ...] = ()
    state_log: str = ""
    learn_off: bool = False

    def __post_init__(self) -> None:
        check_names("data.machines", self.machines)
        check_numbers("data", self)
        object.__setattr__(self, "machines", tuple(map(composed, self.machines)))
        check_names("data.state", self.state)
        object.__setattr__(self, "state", tuple(self.state))
        if not self.state:
            check_no_effect("data", self, ("state_log",), "data.state names no columns")
        self._check_state()
        if "(" in self.group:
            self._check_expression()

    def _check_state(self) -> None:
        for name in self.state:
            if not name or set(name) & set(" =,") or self.state.count(name) > 1:
                raise UserError(
                    f"data.state is {self.state}; name each column once, without spaces, commas "
                    "and equals signs"
                )

    def _check_expression(self) -> None:
        try:
            parts = re.compile(self.group).groups
        except re.error as error:
            raise UserError(
                f"data.group is {self.group!r}, which is no regular expression: {error}"
            ) from None
        if parts != 1:
            raise UserError(
                f"data.group is {self.group!r}, with {parts} parts in parentheses; it needs one, "
                "which gives the group: (?:…) for others"
            )


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
    """Embedding of each clip, for systems that use one.

    `--config.embedding=KIND` is short for `--config.embedding.kind=KIND`.

    Attributes:
        kind: a pretrained network of `asd_jax.embeddings`; "log_mel" for the mean and standard
            deviation of a clip's own frames, which needs no network; or "none".
        weights: path or URL of the network's weights.
        sha256: checksum of the file of weights; needed for a URL.
        size: values of OpenL3's embedding, 512 or 6144.
        hop: seconds from one window of the network to the next.
    """

    kind: Literal["none", "log_mel", "openl3_mel128", "openl3_mel256", "edgel3"] = "none"
    weights: str = ""
    sha256: str = ""
    size: Annotated[int, OneOf(512, 6144)] = 512
    hop: Annotated[float, Between(0, 10**4, above=True)] = 0.1

    SHORT_FOR: typing.ClassVar[str] = "kind"

    def __post_init__(self) -> None:
        check_numbers("embedding", self)
        if not self.pretrained:
            names = ("weights", "sha256", "size", "hop")
            check_no_effect("embedding", self, names, f"embedding is {self.kind}")
        if self.kind == "edgel3":
            check_no_effect("embedding", self, ("size",), "edgel3 has embeddings of 64 values")
        if not self.weights:
            check_no_effect("embedding", self, ("sha256",), "embedding.weights names no file")

    @property
    def pretrained(self) -> bool:
        """Whether a pretrained network computes the embedding, from recordings."""
        return self.kind not in ("none", "log_mel")


@dataclasses.dataclass(frozen=True)
class BackendConfig:
    """Source of a clip's score: the system itself, or distances of embeddings.

    `--config.backend=KIND` is short for `--config.backend.kind=KIND`.

    Attributes:
        kind: the system's "own" score, or the distance of a clip's embedding from those of the
            training clips, for systems that have one: "knn" to the nearest of them,
            "mahalanobis" by their mean and covariance. Source and target clips are compared
            separately, and the smaller distance counts.
        neighbours: number of nearest clips whose mean distance counts, for "knn".
        metric: "cosine" or "euclidean", for "knn".
    """

    kind: Literal["own", "knn", "mahalanobis"] = "own"
    neighbours: Annotated[int, Between(1, 10**6)] = 1
    metric: Literal["cosine", "euclidean"] = "cosine"

    SHORT_FOR: typing.ClassVar[str] = "kind"

    def __post_init__(self) -> None:
        check_numbers("backend", self)
        if self.kind != "knn":
            names = ("neighbours", "metric")
            check_no_effect("backend", self, names, f"backend is {self.kind}, not knn")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training settings of each model of a run.

    Attributes:
        epochs: largest number of epochs of a model.
        batch_size: views in an optimiser step.
        learning_rate: of the detector's optimiser.
        validation_split: share of each model's training clips held out, by whole clips.
        threshold_split: share of each section's normal clips that no model is fitted to, whatever
            its seed, and that choose no epoch: they set the threshold, and give p-values. At 0
            all training clips set the threshold, which the models know too well, so that more
            normal clips than intended are above it; and there are no p-values.
        patience: epochs without a lower validation loss after which a model stops and keeps its
            best weights; 0 trains to the end and keeps the last ones.
        checkpoint_every: epochs between checkpoints.
        driver: how the models of a fleet share a device: "vmap" computes them together,
            "map" one after another inside the same program, "loop" one compiled step at a
            time; "auto" chooses by backend and kind of step.
        data_devices: devices that share the views of each step of a model; 0 gives each device
            its own models as long as there are as many models as devices.
        table_mib: MiB of frames that may be on a device at once; more frames are streamed in
            windows, see `asd_jax.training.windows`. 0 takes half of the device's memory.
    """

    epochs: Annotated[int, Between(1, 10**6)] = 100
    batch_size: Annotated[int, Between(1, 10**6)] = 512
    learning_rate: Annotated[float, Between(0, 10**20, above=True)] = 1e-3
    validation_split: Annotated[float, Between(0, 1, below=True)] = 0.1
    threshold_split: Annotated[float, Between(0, 1, below=True)] = 0.0
    patience: Annotated[int, Between(0, 10**6, at_low="off")] = 0
    checkpoint_every: Annotated[int, Between(1, 10**6)] = 10
    driver: Literal["auto", "vmap", "map", "loop"] = "auto"
    data_devices: Annotated[int, Between(0, 10**5)] = 0
    table_mib: Annotated[float, Between(0, 10**7)] = 0.0

    FORMER_NAMES: typing.ClassVar[Mapping[str, str]] = {"members": "driver"}

    def __post_init__(self) -> None:
        check_numbers("train", self)
        if self.patience and not self.validation_split:
            raise UserError("train.patience needs a validation set; raise train.validation_split")
        if self.driver == "loop":
            check_no_effect("train", self, ("data_devices",), "train.driver=loop uses one device")


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of a run: the system, its data, its training and its seeds.

    Attributes:
        detector: the system's own configuration, defined in its file under `detectors/`.
        front_end: log-mel settings.
        data: choice of recordings.
        train: training settings.
        embedding: an embedding of each clip beside its log-mels.
        backend: source of the scores.
        precision: dtype of the networks' computation, in training and in scoring. Weights, running
            statistics, losses and scores are float32 in any case.
        seeds: seeds of the models; each machine (and section) has one model a seed.
        threshold: the decision threshold, by scores of normal clips: the lowest one that keeps a
            stated rate of false alarms, by clips that the system was not fitted to ("conformal",
            see `scoring.conformal`); a "quantile" of the scores, or of the gamma distribution
            fitted to them ("gamma"); their "mean", and standard deviations; or 0 for systems whose
            score is a distance from a threshold of their own ("zero", as "gamma" with a `backend`).
        threshold_quantile: of "gamma" and "quantile"; for "conformal" 1 less the rate of false
            alarms.
        threshold_deviations: standard deviations above the mean, for "mean".
        name: of the configuration; `load_config` gives it the file's name.
    """

    detector: Any
    front_end: FrontEnd = FrontEnd()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    backend: BackendConfig = BackendConfig()
    precision: Literal["float32", "bfloat16"] = "float32"
    seeds: Annotated[tuple[int, ...], SEED] = (0, 1, 2)
    threshold: Literal["gamma", "conformal", "quantile", "mean", "zero"] = "gamma"
    threshold_quantile: Annotated[float, Between(0, 1, above=True, below=True)] = QUANTILE
    threshold_deviations: Annotated[float, Between(0, 1000)] = 0.0
    name: str = ""

    FORMER_NAMES: typing.ClassVar[Mapping[str, str]] = {"detector.group": "data.group"}

    def __post_init__(self) -> None:
        check_numbers("", self)
        if not self.seeds:
            raise UserError("seeds is empty; name at least one, as in seeds=0,")
        if not isinstance(self.seeds, tuple) or not all(type(seed) is int for seed in self.seeds):
            raise UserError(f"seeds is {self.seeds!r}; it must be a tuple of whole numbers")
        if len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds is {self.seeds}; they must differ")
        if dataclasses.is_dataclass(self.detector):
            # Those of other packages may have checks of their own only.
            check_numbers("detector", self.detector)
        if not getattr(self.detector, "trains", True):
            self._check_untrained()
        if getattr(self.detector, "hears_waveforms", False):
            names = [field.name for field in dataclasses.fields(self.front_end)]
            why = f"{self.detector.name} hears waveforms"
            check_no_effect(
                "front_end",
                self.front_end,
                [n for n in names if n not in ("sample_rate", "canceller")],
                why,
            )
        if self.front_end.canceller:
            why = "front_end.canceller takes both channels of two"
            check_no_effect("data", self.data, ("channel",), why)
        self._check_threshold()

    @property
    def channel(self) -> int | str:
        """What is read of recordings with several channels, as `asd_jax.data.read` takes it."""
        return channel_of(self.data.channel, self.front_end.canceller)

    def _check_threshold(self) -> None:
        """Raises UserError for settings of the threshold that cannot be, or have no effect."""
        why = f"threshold is {self.threshold}, not "
        if self.threshold != "mean":
            check_no_effect("", self, ("threshold_deviations",), why + "mean")
        if self.threshold == "mean" or (self.threshold == "zero" and self.backend.kind == "own"):
            check_no_effect("", self, ("threshold_quantile",), why + "gamma")
        learns_from_all = getattr(self.detector, "trains", True) and not self.train.threshold_split
        if self.threshold == "conformal" and learns_from_all:
            raise UserError(
                "threshold is conformal, which is by clips that no model was fitted to, and "
                "train.threshold_split is 0; set it, as to 0.2"
            )

    def _check_untrained(self) -> None:
        """Raises NoEffectError for settings of training, where nothing is trained."""
        why = f"{self.detector.name} trains nothing"
        names = [field.name for field in dataclasses.fields(self.train)]
        check_no_effect("train", self.train, names, why)
        check_no_effect("", self, ("precision",), why)
        if self.backend.kind != "own":
            raise NoEffectError(
                f"backend is {self.backend.kind}, and {why}: it has a score of its own only; leave "
                "it at own",
                "backend",
            )
        if self.seeds != (0,):
            raise NoEffectError(
                f"seeds is {self.seeds}, which has no effect: {why}; leave it at (0,)",
                "seeds",
            )


def channel_of(channel: int, canceller: bool) -> int | str:
    """`Config.channel`, of the settings that it depends on."""
    if canceller:
        return "canceller"
    return "mean" if channel < 0 else channel
