"""Training of many models as one program; knows no system by name."""

from asd_jax.training.fleet import FleetState
from asd_jax.training.models import FleetClips, FleetData, FleetModel, fleet_clips
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task, variables
from asd_jax.training.trainer import Interrupted, check_fit, train

__all__ = [
    "Batch",
    "FleetClips",
    "FleetData",
    "FleetState",
    "TrainingStatistics",
    "Interrupted",
    "FleetModel",
    "Task",
    "check_fit",
    "fleet_clips",
    "gradient_task",
    "train",
    "variables",
]
