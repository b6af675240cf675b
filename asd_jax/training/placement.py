"""Placement of a fleet's arrays: on one device, on a mesh of devices, or process by process."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from asd_jax.config import TrainConfig
from asd_jax.errors import UserError
from asd_jax.runtime import distributed

# Models lie along the first axis of the mesh, the views of a step along the second.
FLEET_AXIS, DATA_AXIS = "fleet", "data"


def fleet_mesh(
    n_models: int, config: TrainConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh | None:
    """A mesh over the devices of all processes; None for a single device.

    Models are distributed over as many devices as possible, since they exchange nothing. With
    fewer models than devices, or by `config.data_devices`, several devices share the views of
    each step; devices of one process on a CPU only if they are told to, as an exchange takes
    longer there than what it saves, and else some are left without a model.

    Args:
        n_models: models in the fleet.
        config: `data_devices` and `batch_size` are used.
        devices: all devices by default.

    Raises:
        UserError: `data_devices` divides neither the devices nor the views of a step.
    """
    devices = list(devices or jax.devices())
    together = config.data_devices
    if together and (len(devices) % together or config.batch_size % together):
        raise UserError(
            f"train.data_devices is {together}; it must divide the number of devices, "
            f"{len(devices)}, and the views of a step, {config.batch_size}"
        )
    alone = not distributed.several() and devices[0].platform == "cpu"
    if alone and not together:
        devices = devices[: max(1, n_models)]
    if len(devices) == 1:
        return None
    together = together or devices_together(len(devices), n_models, config.batch_size)
    return Mesh(np.array(devices).reshape(-1, together), (FLEET_AXIS, DATA_AXIS))


def devices_together(n_devices: int, n_models: int, batch_size: int) -> int:
    """Number of devices that share each step: the smallest that leaves no device idle.

    Args:
        n_devices: devices of all processes.
        n_models: models in the fleet.
        batch_size: views of a step, a multiple of the result.

    Examples:
        >>> devices_together(8, n_models=100, batch_size=64)
        1
        >>> devices_together(8, n_models=3, batch_size=64)
        4
    """
    possible = [n for n in range(1, n_devices + 1) if n_devices % n == 0 and batch_size % n == 0]
    return next((n for n in possible if n_devices // n <= n_models), possible[-1])


def over_data_axis(rows: jax.Array) -> jax.Array:
    """Shards the rows of a step's batch over the devices that compute it together."""
    if jax.sharding.get_abstract_mesh().shape.get(DATA_AXIS, 1) == 1:
        return rows
    return jax.lax.with_sharding_constraint(rows, PartitionSpec(DATA_AXIS))


@dataclasses.dataclass(frozen=True)
class Placement:
    """Puts a fleet's arrays on their devices and fetches them back.

    Attributes:
        mesh: devices; None for one device, and if each process loops over its own models.
        n_models: models in the fleet.
    """

    mesh: Mesh | None
    n_models: int

    @property
    def _by_process(self) -> bool:
        return self.mesh is None and distributed.several()

    @property
    def fill(self) -> int:
        """Number of padding models, so that all devices have equally many."""
        places = self.mesh.shape[FLEET_AXIS] if self.mesh else jax.process_count()
        return -self.n_models % places

    @functools.cached_property
    def by_model(self) -> Sharding:
        """Of arrays with an axis of all models, padding included."""
        return self._sharding(PartitionSpec(FLEET_AXIS))

    @functools.cached_property
    def whole(self) -> Sharding:
        """Of arrays that each device has."""
        return self._sharding(PartitionSpec())

    def _sharding(self, spec: PartitionSpec) -> Sharding:
        if self.mesh is None:
            (default,) = jax.device_put(np.float32(0)).devices()
            return SingleDeviceSharding(default)
        return NamedSharding(self.mesh, spec)

    def put_models(self, tree: Any) -> Any:
        """Puts arrays with an axis of all models, padding included, on their devices."""
        if self._by_process:
            share = distributed.share_of(self.n_models + self.fill)
            tree = jax.tree.map(lambda leaf: leaf[share.start : share.stop], tree)
        if self.mesh is None or not distributed.several():
            return jax.device_put(tree, self.by_model)
        return jax.tree.map(functools.partial(_put, self.by_model), tree)

    def read_table(self, n_rows: int, read: Callable[[int, int], np.ndarray]) -> jax.Array:
        """Reads a table of frames for `share_table`; each of several processes reads a part.

        Args:
            n_rows: rows of the table.
            read: (first row, row behind the last one) → those rows.
        """
        if self.mesh is None or not distributed.several():
            return jax.device_put(read(0, n_rows), self.whole)
        n_rows += -n_rows % self.mesh.size
        share = distributed.share_of(n_rows)
        rows = read(share.start, share.stop)
        parts = NamedSharding(self.mesh, PartitionSpec((FLEET_AXIS, DATA_AXIS)))
        return jax.make_array_from_process_local_data(parts, rows, (n_rows, rows.shape[1]))

    def share_table(self, table: jax.Array) -> jax.Array:
        """Copies the table to every device; several processes exchange their parts."""
        if self.mesh is None or table.is_fully_replicated:
            return table
        return _replicate(self.whole)(table)

    def fetch(self, tree: Any) -> Any:
        """NumPy copies of arrays with an axis of all models, without padding."""
        if self._by_process:
            tree = multihost_utils.process_allgather(tree, tiled=True)
        elif self.mesh is not None and distributed.several():
            tree = _replicate(self.whole)(tree)
        # Sliced on the host: slicing an array that lies on several devices compiles a program
        # with exchanges between them, for each array. And copied: the arrays are donated to the
        # next epoch, perhaps before they are on the disk.
        return jax.tree.map(lambda leaf: np.array(leaf)[: self.n_models], tree)


def _put(sharding: Sharding, leaf: Any) -> jax.Array:
    """Puts an array that all of several processes have alike on the devices of a sharding."""
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


@functools.cache
def _replicate(sharding: Sharding) -> Callable[[Any], Any]:
    """The identity that replicates a tree; cached, so that it compiles once for each form."""
    return jax.jit(lambda tree: tree, out_shardings=sharding)
