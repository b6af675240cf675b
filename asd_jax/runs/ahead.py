"""Compiles a run's training program while its features are computed."""

import threading
from collections.abc import Sequence

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors import Detector
from asd_jax.detectors.joint import Joint
from asd_jax.fitting.layout import Layout, lay_out
from asd_jax.runs.plan import frames_of
from asd_jax.runtime.progress import Reporter
from asd_jax.runtime.traces import Traces
from asd_jax.training.programs import Programs
from asd_jax.training.trainer import table_bytes, training_mesh
from asd_jax.training.windows import schedule

_THREAD = "compile_ahead"


class CompiledAhead:
    """The programs of a training, compiled beside other work from the recordings' headers.

    Args:
        detector: the system, with the run's configuration.
        clips: of the run.
    """

    def __init__(self, detector: Detector, clips: Sequence[Clip]):
        self._detector, self._clips = detector, ClipTable.of(clips)
        self._programs: Programs | None = None
        self._n_labels = 0
        self._thread: threading.Thread | None = None

    def start(self, layout: Layout | None = None) -> None:
        """Begins, once; not where nothing is trained, or classes are yet to be found by sound.

        Args:
            layout: of the training; by default what the recordings' headers make.
        """
        detector = self._detector
        found_by_sound = isinstance(detector, Joint) and detector.config.detector.pseudo_classes
        unknown = found_by_sound and layout is None
        if self._thread is None and detector.config.detector.trains and not unknown:
            self._thread = threading.Thread(target=self._compile, args=(layout,), name=_THREAD)
            self._thread.start()

    def programs(self, layout: Layout, reporter: Reporter) -> Programs | None:
        """Waits for the programs; None where they are of another training, or there are none."""
        if self._thread is None:
            return None
        if self._thread.is_alive():
            reporter.line("compiling")
        self._thread.join()
        if self._programs is None or self._n_labels != layout.n_labels:
            return None
        return self._programs if self._programs.config == layout.settings else None

    def _compile(self, layout: Layout | None) -> None:
        try:
            detector, clips = self._detector, self._clips
            if layout is None:
                usable, n_frames = frames_of(detector, clips[~clips.where(split="test")])
                layout = lay_out(detector, usable, n_frames)
            task, settings = detector.task(layout.n_labels), layout.settings
            front_end = detector.front_end
            row_bytes = front_end.width * np.dtype(front_end.dtype).itemsize
            plan = schedule(layout.fleet, row_bytes, table_bytes(settings))
            mesh = training_mesh(layout.fleet, settings, task.kind)
            programs = Programs(task, settings, mesh, _traces(detector, layout))
            programs.compile(layout.fleet, plan, front_end.width, front_end.dtype)
        except Exception:  # what is wrong, the run itself says
            return
        self._programs, self._n_labels = programs, layout.n_labels


def _traces(detector: Detector, layout: Layout) -> Traces | None:
    """Where its programs' traces are; None where source or files of others make them."""
    packages = {of.__module__.partition(".")[0] for of in type(detector).__mro__}
    if packages - {"asd_jax", "abc", "builtins"} or not detector.of_settings_alone:
        return None
    return Traces.of(detector.config, layout.settings, layout.n_labels)
