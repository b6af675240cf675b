"""Names of the challenge's clips, 2020 to 2026, and what they say."""

import functools
import os
import re
from typing import NamedTuple

from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED

LABELS = {"normal": NORMAL, "anomaly": ANOMALY, "abnormal": ANOMALY, None: UNLABELLED}
# What stands for attributes that are hidden: in the recordings, and in some of their descriptions.
NO_ATTRIBUTES = ("noAttribute", "noAttributes")

_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly|abnormal)_)?id_(?P<section>\d\d)_\d+")
_SECTION_NAME = re.compile(
    r"section_(?P<section>\d\d)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<attributes>.*))?"
)


class OfficialName(NamedTuple):
    """What a clip's name says.

    Attributes:
        by_id: whether it is one of 2020, by a machine id.
        section: machine id or section.
        domain: "source", "target", or "" where it does not say.
        split: "train", "test", or None where it does not say.
        label: `NORMAL`, `ANOMALY` or `UNLABELLED`.
        attributes: (name, value) pairs; none where they are hidden.
    """

    by_id: bool
    section: str
    domain: str
    split: str | None
    label: int
    attributes: tuple[tuple[str, str], ...]


def named_attributes(path: os.PathLike | str) -> tuple[tuple[str, str], ...]:
    """Attributes in the name of a recording, in whatever folder and format.

    Examples:
        >>> named_attributes("new/section_00_source_test_normal_0007_vel_21.flac")
        (('vel', '21'),)
        >>> named_attributes("new/monday.wav")
        ()
    """
    named = official_name(os.path.splitext(os.path.basename(path))[0])
    return () if named is None else named.attributes


def official_name(name: str) -> OfficialName | None:
    """Parses the name of a clip, with or without its ending; None for another kind of name.

    Examples:
        >>> official_name("anomaly_id_02_00000004.wav").label
        1
        >>> official_name("section_00_source_test_normal_0007_vel_21_f-n_A.wav").attributes
        (('vel', '21'), ('f-n', 'A'))
        >>> official_name("section_00_source_train_normal_0000_.wav").attributes
        ()
        >>> official_name("fan 3.wav") is None
        True
    """
    stem = name[:-4] if name[-4:].lower() == ".wav" else name
    if match := _ID_NAME.fullmatch(stem):
        return OfficialName(True, match["section"], "", None, LABELS[match["label"]], ())
    if match := _SECTION_NAME.fullmatch(stem):
        return OfficialName(
            False,
            match["section"],
            match["domain"] or "",
            match["split"],
            LABELS[match["label"]],
            attribute_pairs(match["attributes"]),
        )
    return None


@functools.lru_cache(maxsize=4096)  # thousands of clips have the same ones
def attribute_pairs(text: str | None) -> tuple[tuple[str, str], ...]:
    """Parses (name, value) pairs; a last name without a value has the value "".

    Examples:
        >>> attribute_pairs("car_A1_spd_28V_mic"), attribute_pairs("noAttribute")
        ((('car', 'A1'), ('spd', '28V'), ('mic', '')), ())
    """
    if not text or text in NO_ATTRIBUTES:
        return ()
    tokens = text.split("_")
    pairs = zip(tokens[::2], [*tokens[1::2], ""], strict=False)
    return tuple((name, value) for name, value in pairs if name)
