"""Configurations of several systems' runs, as frozen dataclasses: an ensemble, and a choice."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from asd_jax.config.types import QUANTILE, Config, DataConfig, check_names
from asd_jax.errors import UserError
from asd_jax.runtime.arguments import composed
from asd_jax.runtime.bounds import SEED, Between, OneOf, check_numbers


@dataclasses.dataclass(frozen=True)
class MemberTrainConfig:
    """Training settings of the members of an ensemble.

    Attributes:
        epochs: largest number of epochs of a member's models; None keeps each member's own.
        batch_size: views in an optimiser step; None keeps each member's own.
        learning_rate: of the optimisers; None keeps each member's own.
        threshold_split: share of normal clips that is held out for thresholds and p-values; None
            keeps each member's own.
    """

    epochs: Annotated[int | None, Between(1, 10**6)] = None
    batch_size: Annotated[int | None, Between(1, 10**6)] = None
    learning_rate: Annotated[float | None, Between(0, 10**20, above=True)] = None
    threshold_split: Annotated[float | None, Between(0, 1, below=True)] = None

    def __post_init__(self) -> None:
        check_numbers("train", self)


@dataclasses.dataclass(frozen=True)
class MemberEmbeddingConfig:
    """Embedding of the members of an ensemble that have one, with the same short form.

    Attributes:
        kind: a pretrained network, "log_mel" or "none", for all members with an embedding; empty
            keeps their own.
        weights: path or URL of the network's weights; empty keeps each member's own.
        sha256: checksum of the file of weights; empty keeps each member's own.
        size: values of OpenL3's embedding, 512 or 6144; None keeps each member's own.
        hop: seconds from one window of the network to the next; None keeps each member's own.
    """

    kind: Literal["", "none", "log_mel", "openl3_mel128", "openl3_mel256", "edgel3"] = ""
    weights: str = ""
    sha256: str = ""
    size: Annotated[int | None, OneOf(512, 6144)] = None
    hop: Annotated[float | None, Between(0, 10**4, above=True)] = None

    SHORT_FOR: typing.ClassVar[str] = "kind"

    def __post_init__(self) -> None:
        check_numbers("embedding", self)


@dataclasses.dataclass(frozen=True)
class MembersConfig:
    """A run made of the runs of several systems, its members: an ensemble or a choice.

    Attributes:
        members: the systems' configurations by name. On the command line each is a group, as in
            `--config.members.group_made.train.epochs=5`.
        data: choice of recordings, for all members.
        train: training settings for all members.
        embedding: for all members that have an embedding.
        precision: dtype of the networks' computation, for all members; empty keeps their own.
        seeds: of all members; scores are combined seed by seed.
        name: of the configuration; `load_config` gives it the file's name.
    """

    members: Mapping[str, "Config | MembersConfig"]
    data: DataConfig = DataConfig()
    train: MemberTrainConfig = MemberTrainConfig()
    embedding: MemberEmbeddingConfig = MemberEmbeddingConfig()
    precision: Literal["", "float32", "bfloat16"] = ""
    seeds: Annotated[tuple[int, ...], SEED] = (0, 1, 2)
    name: str = ""

    def __post_init__(self) -> None:
        check_numbers("", self)
        if not self.members:
            raise UserError("members is empty; an ensemble needs one or more")
        self.member_configs()

    def member_configs(self) -> "dict[str, Config | MembersConfig]":
        """The members' configurations with the shared settings applied."""
        train: dict[str, Any] = {
            k: v for k, v in dataclasses.asdict(self.train).items() if v is not None
        }
        embedding: dict[str, Any] = {
            k: v for k, v in dataclasses.asdict(self.embedding).items() if v not in ("", None)
        }
        configs: dict[str, Config | MembersConfig] = {}
        embedded = False
        for name, member in self.members.items():
            has_embedding = member.embedding.kind not in ("", "none")
            embedded |= has_embedding
            if not getattr(getattr(member, "detector", None), "trains", True):
                # One model joins every seed; settings of training are those of the others.
                configs[name] = dataclasses.replace(member, data=self.data, name=name)
                continue
            # Both kinds of member have these fields, with types of their own.
            shared: dict[str, Any] = {
                "data": self.data,
                "train": dataclasses.replace(member.train, **train),
                "embedding": dataclasses.replace(
                    member.embedding, **(embedding if has_embedding else {})
                ),
                "precision": self.precision or member.precision,
                "seeds": self.seeds,
                "name": name,
            }
            configs[name] = dataclasses.replace(member, **shared)
        if embedding and not embedded:
            raise UserError(f"embedding.{next(iter(embedding))}: no member has an embedding")
        return configs


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(MembersConfig):
    """A run that combines the scores of its members.

    Attributes:
        members: as in `MembersConfig`, like the attributes not named here.
        combine: the "mean" or the "max" of the members' scores, standardised for each machine
            id by those of its training clips.
        threshold_quantile: quantile of the training clips' scores that is the decision threshold,
            above 0 and below 1.
    """

    combine: Literal["mean", "max"] = "mean"
    threshold_quantile: Annotated[float, Between(0, 1, above=True, below=True)] = QUANTILE

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        """An `EnsembleConfig`; a `ChoiceConfig` where combine="choose", its former name."""
        if settings.get("combine") == "choose":
            del settings["combine"]
            return ChoiceConfig(*args, **settings)
        return super().__new__(cls)


@dataclasses.dataclass(frozen=True)
class ChoiceConfig(MembersConfig):
    """A run in which one member serves each machine type; only needed members are run.

    Attributes:
        members: as in `MembersConfig`, like the attributes not named here.
        choices: the member that serves a machine type, as "fan:group_made".
        default: the member for the other machine types.
    """

    choices: tuple[str, ...] = ()
    default: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("choices", self.choices)
        object.__setattr__(self, "choices", tuple(map(composed, self.choices)))
        machines = [choice.partition(":")[0] for choice in self.choices]
        if len(set(machines)) < len(machines):
            raise UserError(f"choices names a machine type twice: {', '.join(self.choices)}")
        named = [choice.partition(":")[2] for choice in self.choices]
        for member in [*named, self.default]:
            if member not in self.members:
                raise UserError(
                    f"choices and default must name members, as in fan:{next(iter(self.members))}; "
                    f"{member!r} is none of {', '.join(self.members)}"
                )

    def member_for(self, machine: str) -> str:
        """The member that serves a machine type."""
        chosen = dict(choice.partition(":")[::2] for choice in self.choices)
        return chosen.get(composed(machine), self.default)
