"""The process that works in a run directory, noted there so that a sudden end can be explained."""

import contextlib
import json
import os
import platform
import re
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from asd_jax.runtime.control_groups import text

_BOOT, _EVENTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/vmstat")


class Owner(NamedTuple):
    """The process that works in a folder; without values, none.

    Attributes:
        name: the process, such as "process 12 on host".
        since: when it began; "" where an earlier version has noted it, which did not at the end.
        boot: which start of the machine that was.
        kills: processes that the kernel had ended by then for lack of memory, since that start.
    """

    name: str = ""
    since: str = ""
    boot: str = ""
    kills: int = 0

    @classmethod
    def of_this_process(cls) -> "Owner":
        """This process, from now on."""
        name = f"process {os.getpid()} on {platform.node()}"
        return cls(name, f"{datetime.now():%Y-%m-%d %H:%M:%S}", text(_BOOT), _kills())

    @classmethod
    def read(cls, file: IO[str]) -> "Owner":
        """What an open file has noted."""
        file.seek(0)
        noted = file.read().strip()
        try:
            fields = json.loads(noted or "{}")
            owner = cls(**fields)
            return cls(str(owner.name), str(owner.since), str(owner.boot), int(owner.kills))
        except (ValueError, TypeError):
            return cls(noted)  # of an earlier version, or cut off

    def write(self, file: IO[str]) -> None:
        """Notes it in an open file. On a full disk nothing is noted, and nothing is lost by it."""
        with contextlib.suppress(OSError):
            file.truncate(0)
            if self.name:
                file.write(json.dumps(self._asdict()))
            file.flush()

    def why_ended(self) -> str:
        """What ended a process that is gone and whose note is still there; "" where unknown."""
        if not self.since:
            return ""
        what = f"{self.name}, at work here since {self.since}, "
        goes_on = "this goes on from what it had saved"
        if not self.name.endswith(f" on {platform.node()}"):
            return f"{what}ended without a word; {goes_on}"
        if self.boot != text(_BOOT):
            return f"{what}ended as the machine was started again; {goes_on}"
        if (killed := _kills() - self.kills) > 0:
            return (
                f"{what}was killed, most likely by the kernel for lack of memory, which has killed "
                f"{killed} of this machine's processes since then; {goes_on}: allow it more memory "
                "or give it less at once"
            )
        return f"{what}ended abruptly, by a kill or a crash; {goes_on}"


def _kills() -> int:
    """Processes that the kernel has ended for lack of memory, in any container of this machine."""
    found = re.search(r"^oom_kill (\d+)$", text(_EVENTS), re.M)
    return int(found[1]) if found else 0
