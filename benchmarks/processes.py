"""Processes of their own for work of this package, or of an earlier state of it.

What `asd-jax` decides before JAX starts, devices and threads, cannot be decided in a process whose
JAX has started, such as that of the benchmarks. So this work is done in another one, which is
started and set up beforehand and waits for requests; what is timed is the work.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import WrongAnswer

ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process that does the work of `benchmarks.worker`.

    Args:
        models: that it will train or fit, by which devices are chosen.
        package: folder of the `asd_jax` to be used; this one by default.
        cores: as of `--cores`.

    Raises:
        WrongAnswer: the process fails, or uses another folder's package.
    """

    def __init__(self, models: int, package: Path = ROOT, cores: int | None = None) -> None:
        self._process = subprocess.Popen(
            # -P: the folder of the script is not searched for modules.
            [sys.executable, "-P", str(ROOT / "benchmarks" / "worker.py")],
            env=environment(package),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        try:
            self.facts = self.ask("set_up", models=models, cores=cores)
            used = Path(self.facts["package"]).resolve()
            if used != package.resolve():
                raise WrongAnswer(f"the process uses the package in {used}, not {package}")
        except Exception:
            self.close()
            raise

    @property
    def devices(self) -> str:
        """Their number, for people."""
        count = self.facts["devices"]
        return f"{count} device{'s' * (count > 1)}"

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Has work done, and returns its answer.

        Raises:
            WrongAnswer: the work fails.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WrongAnswer(f"the process ended with {self._process.wait()} at {do}")
        answer = json.loads(line)
        if "error" in answer:
            raise WrongAnswer(f"{do}: {answer['error'][:300]}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin:
            self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.terminate()
        self._process.wait()


def environment(package: Path) -> dict[str, str]:
    """The environment of a process that uses the package in a folder.

    The compiled programs that a user keeps are not among what is measured; Python keeps its own, as
    it does by default.
    """
    left_out = ("JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if k not in left_out}
    # First the package, then where other modules may be.
    searched = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(searched)}
