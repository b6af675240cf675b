"""Checkpoints of a fleet, by orbax: written whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from asd_jax.errors import UserError
from asd_jax.runtime import distributed
from asd_jax.runtime.files import disk_errors

# Bytes of a checkpoint beside its arrays, generously.
_OVERHEAD = 1 << 20


class Checkpoints:
    """The checkpoints of one run; the last two are kept.

    Best weights travel inside the state, so that the newest checkpoint is always enough.

    Args:
        folder: where they lie; made if need be.
    """

    def __init__(self, folder: os.PathLike | str):
        self.folder = Path(folder).absolute()
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        if distributed.several():
            # Orbax has all processes meet at every step; here one of them writes, alone.
            own = jax.process_index()
            options.multiprocessing_options = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
            )
            options.create = False
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """The epoch of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any) -> None:
        """Begins to write a checkpoint; training may go on meanwhile.

        Args:
            epoch: its name.
            state: a tree of arrays. They are copied before this returns.

        Raises:
            UserError: this one or the one before could not be written.
        """
        # Asked beforehand, because the writer's threads do not fail quietly.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD
        if shutil.disk_usage(self.folder).free < needed:
            raise _no_space(self.folder)
        with disk_errors(self.folder), _orbax_errors(self.folder):
            self._manager.save(epoch, args=ocp.args.StandardSave(state))

    def restore(self, epoch: int, like: Any) -> Any:
        """Reads the state of a checkpoint.

        Args:
            epoch: which one.
            like: a tree of arrays, or of `jax.ShapeDtypeStruct`, with the state's shapes and
                where it is to be placed.

        Raises:
            UserError: it is damaged.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(epoch, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # whatever the formats below orbax raise for damaged files
            raise UserError(
                f"the checkpoint {self.folder / str(epoch)} is damaged "
                f"({str(error).splitlines()[0][:120]}); remove that folder and run the same "
                "command again, it goes on from the one before",
                exit_status=1,
            ) from error

    def wait(self) -> None:
        """Returns when all that was saved is on the disk."""
        with disk_errors(self.folder), _orbax_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the threads."""
        self.wait()
        self._manager.close()


@contextlib.contextmanager
def _orbax_errors(folder: Path) -> Iterator[None]:
    """Turns what orbax and TensorStore raise for a disk that fails into one line."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        text = str(error)
        if any(word in text for word in ("No space left", "RESOURCE_EXHAUSTED", "quota")):
            raise _no_space(folder) from error
        raise UserError(
            f"cannot write a checkpoint in {folder}: {text[:300]}; put that right and run the "
            "same command again, it goes on from the last whole checkpoint",
            exit_status=1,
        ) from error


def _no_space(folder: Path) -> UserError:
    return UserError(
        f"checkpoints in {folder}: no space left on the disk; free some and run the same command "
        "again, it goes on from the last whole checkpoint",
        exit_status=1,
    )
