"""Checkpoints of a fleet, by orbax: written whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from asd_jax.errors import UserError
from asd_jax.files import disk_errors

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
        self._manager = ocp.CheckpointManager(
            self.folder, options=ocp.CheckpointManagerOptions(max_to_keep=2)
        )

    @property
    def latest(self) -> int | None:
        """The epoch of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Begins to write a checkpoint; training may go on meanwhile.

        Args:
            epoch: its name.
            state: a tree of arrays. They are copied before this returns.
            meta: anything that JSON can hold.

        Raises:
            UserError: this one or the one before could not be written.
        """
        # Asked beforehand, because the writer's threads do not fail quietly.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD
        if shutil.disk_usage(self.folder).free < needed:
            raise _no_space(self.folder)
        with disk_errors(self.folder), _orbax_errors(self.folder):
            self._manager.save(
                epoch,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(dict(meta))
                ),
            )

    def meta(self, epoch: int) -> dict[str, Any]:
        """What `save` was given as `meta`."""
        with _orbax_errors(self.folder):
            restored = self._manager.restore(
                epoch, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            )
        return restored["meta"]

    def restore(self, epoch: int, like: Any) -> Any:
        """Reads the state of a checkpoint.

        Args:
            epoch: which one.
            like: a tree of arrays, or of `jax.ShapeDtypeStruct`, with the state's shapes and
                where it is to be placed.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _orbax_errors(self.folder):
            restored = self._manager.restore(
                epoch, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )
        return restored["state"]

    def wait(self) -> None:
        """Returns when all that was saved is on the disk."""
        with disk_errors(self.folder), _orbax_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the threads."""
        self.wait()
        self._manager.close()


class _orbax_errors:  # noqa: N801 - reads as a function where it is used
    """Turns what orbax and TensorStore raise for a full or damaged disk into one line."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, ValueError | RuntimeError | KeyError | json.JSONDecodeError):
            return False
        text = str(error)
        full = any(word in text for word in ("No space left", "RESOURCE_EXHAUSTED", "quota"))
        if full:
            raise _no_space(self.folder) from error
        raise UserError(
            f"checkpoints in {self.folder}: {kind.__name__}: {text[:300]}; remove the damaged "
            "checkpoint's folder and run the same command again",
            exit_status=1,
        ) from error


def _no_space(folder: Path) -> UserError:
    return UserError(
        f"checkpoints in {folder}: no space left on the disk; free some and run the same command "
        "again, it goes on from the last whole checkpoint",
        exit_status=1,
    )
