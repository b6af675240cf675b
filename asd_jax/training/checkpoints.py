"""Checkpoints of a fleet, by orbax, written atomically."""

import contextlib
import functools
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from asd_jax.errors import UserError
from asd_jax.runtime import distributed
from asd_jax.runtime.files import disk_errors

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

# Bytes of a checkpoint beside its arrays, a generous estimate.
_OVERHEAD = 1 << 20
# Files and folders of a checkpoint, and of one before that is not removed yet, likewise.
_INODES = 64


class Checkpoints:
    """The checkpoints of one run; the last two are kept.

    The state includes the best weights, so that the newest checkpoint is always enough.

    Args:
        folder: the folder of the checkpoints; created if it does not exist.
    """

    def __init__(self, folder: os.PathLike | str):
        self.folder = Path(folder).absolute()
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    @functools.cached_property
    def _manager(self) -> "ocp.CheckpointManager":
        """Orbax's manager of the folder. Its import is put off, as a first step needs neither."""
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        if distributed.several():
            # By default Orbax synchronises all processes at every save; here one process writes.
            own = jax.process_index()
            options.multiprocessing_options = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
            )
            options.create = False
        return ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """Epoch of the newest complete checkpoint, or None."""
        return self._manager.latest_step() if any(self.folder.iterdir()) else None

    @property
    def epochs(self) -> list[int]:
        """Epochs of all complete checkpoints, ascending."""
        return sorted(self._manager.all_steps()) if any(self.folder.iterdir()) else []

    def save(self, epoch: int, state: Any) -> None:
        """Begins to write a checkpoint in the background.

        Args:
            epoch: name of the checkpoint.
            state: a tree of arrays, copied before this returns.

        Raises:
            UserError: this checkpoint or the one before could not be written.
        """
        self._check_room(sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD)
        with disk_errors(self.folder), _orbax_errors(self.folder):
            import orbax.checkpoint as ocp

            self._manager.save(epoch, args=ocp.args.StandardSave(state))

    def _check_room(self, needed: int) -> None:
        """Raises UserError where so many bytes have no room.

        Checked beforehand, because a writer thread that fails prints a traceback, or never ends.
        """
        with disk_errors(self.folder):
            system = os.statvfs(self.folder)
        if system.f_bavail * system.f_frsize < needed:
            raise _no_space(self.folder)
        if system.f_files and system.f_favail < _INODES:
            raise _no_space(self.folder, f"the file system has inodes for {system.f_favail} files")
        longest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if longest != resource.RLIM_INFINITY and longest < needed:
            raise _no_space(self.folder, f"files may have {longest} bytes (ulimit -f)")

    def restore(self, epoch: int, like: Any) -> Any:
        """Reads the state of a checkpoint.

        Args:
            epoch: name of the checkpoint.
            like: a tree of arrays, or of `jax.ShapeDtypeStruct`, with the state's shapes and
                placement.

        Raises:
            UserError: the checkpoint is damaged.
        """
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(epoch, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # the formats below orbax raise many kinds for damaged files
            raise UserError(
                f"the checkpoint {self.folder / str(epoch)} is damaged "
                f"({str(error).splitlines()[0][:120]}); remove that folder and run the same "
                "command again, it continues from the one before",
                exit_status=1,
            ) from error

    def wait(self) -> None:
        """Returns when everything saved is on the disk."""
        with disk_errors(self.folder), _orbax_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the threads."""
        self.wait()
        self._manager.close()


@contextlib.contextmanager
def _orbax_errors(folder: Path) -> Iterator[None]:
    """Turns the exceptions of orbax and TensorStore for a failing disk into one line."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        text = str(error)
        if any(word in text for word in ("No space left", "RESOURCE_EXHAUSTED", "quota")):
            raise _no_space(folder) from error
        raise UserError(
            f"cannot write a checkpoint in {folder}: {text[:300]}; correct that and run the same "
            "command again, it continues from the last complete checkpoint",
            exit_status=1,
        ) from error


def _no_space(folder: Path, reason: str = "no space left on the disk") -> UserError:
    return UserError(
        f"checkpoints in {folder}: {reason}; free or allow more and run the same command "
        "again, it continues from the last complete checkpoint",
        exit_status=1,
    )
