"""What several runs of one command are going to train, by the names of their recordings."""

import contextlib
from collections.abc import Iterable
from typing import Any

from asd_jax.config import Config, MembersConfig
from asd_jax.data.layouts import DataSource
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.layout import fleet_of
from asd_jax.runs.clips import find_chosen
from asd_jax.runs.ensemble import members_on
from asd_jax.runtime.cores import Fleet


def fleets_of(configs: Iterable[Config | MembersConfig], data_dir: DataSource) -> list[Fleet]:
    """The fleets of runs that follow one another, the members of ensembles included.

    The clips are listed for one of them, whose number of models stands for that of all.

    Args:
        configs: of the runs.
        data_dir: as of `pipeline.run`. What is wrong with a run, that run says.
    """
    detectors = []
    for config in configs:
        members: list[Any] = [config]
        if isinstance(config, MembersConfig):
            members = [*members_on(config, data_dir).values()]
        detectors += [make_detector(each) for each in members if each.detector.trains]
    if any(each.kind == "convolution" for each in detectors):
        return [Fleet("convolution", 1)]
    for detector in detectors:
        with contextlib.suppress(UserError):
            clips = find_chosen(detector, data_dir, lambda line: None, "skip")
            return [fleet_of(detector, clips)]
    return []
