"""What supplemental clips bring `spectral` on synthetic machines, with intervals.

    .venv/bin/python scripts/supplemental_gain.py --clips=10,30,100,1000 --supplemental=100

Makes sets in the layout of 2025, where some machines have clips of the noise alone and others of
the machine without it, and runs `spectral` without supplemental clips and with each use of them
(`detector.supplemental`). Printed is the mean AUC of the machines without, in percent, and the mean
difference that each use makes, with a 95 % interval by Student's t over the machines of all sets.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import scipy.stats
from absl import app, flags

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.layouts import scan
from asd_jax.data.supplemental import is_noise, supplemental_clips
from asd_jax.data.synthetic import synthesize
from asd_jax.runtime.progress import Silent
from asd_jax.runtime.text_tables import aligned

_CLIPS = flags.DEFINE_list("clips", ["10", "30", "100"], "training clips a machine; several sets")
_SUPPLEMENTAL = flags.DEFINE_integer("supplemental", 100, "supplemental clips a machine")
_SEEDS = flags.DEFINE_list("seeds", ["401", "402"], "of the sets")
_HALLS = flags.DEFINE_list("halls", ["own", "factory"], "backgrounds; a set of each")
_MACHINES = flags.DEFINE_list(
    "machines", ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"], "of 2025"
)
_DURATION = flags.DEFINE_float("duration", 3.0, "seconds a clip")

_USES = ("none", "shrink", "subtract")


def aucs(data: Path, use: str, out_dir: Path, cache_dir: Path) -> dict[str, float]:
    """Mean AUC over the domains of each machine, in percent."""
    config = load_config("spectral", {"detector.supplemental": use})
    results = asd_jax.run(config, data, out_dir, cache_dir=cache_dir, reporter=Silent()).results
    own = (results["section"] != "mean") & (results["domain"] != "all")
    return {
        str(machine): 100 * results["auc"][own & (results["machine"] == machine)].mean()
        for machine in dict.fromkeys(results["machine"])
    }


def main(argv: list[str]) -> None:
    """Prints a line for each number of clips and kind of supplemental clips, then the table."""
    del argv
    lines = []
    for clips in map(int, _CLIPS.value):
        found: dict[str, list[dict[str, float]]] = {"noise": [], "machine": []}
        for hall, seed in itertools.product(_HALLS.value, map(int, _SEEDS.value)):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                synthesize(
                    root / "data",
                    year=2025,
                    machines=_MACHINES.value,
                    clips=clips,
                    seed=seed,
                    duration=_DURATION.value,
                    hall=hall,
                    supplemental=_SUPPLEMENTAL.value,
                )
                of_use = {
                    use: aucs(root / "data", use, root / use, root / "cache") for use in _USES
                }
                scanned = scan(root / "data")
                also = supplemental_clips(scanned.supplemental, scanned.clips)
                noisy = {clip.machine for clip in also if is_noise(clip)}
            for machine in of_use["none"]:
                kind = "noise" if machine in noisy else "machine"
                found[kind].append({use: of_use[use][machine] for use in _USES})
        for kind, rows in found.items():
            table = {use: np.array([row[use] for row in rows]) for use in _USES}
            cells = [f"{table['none'].mean():.1f}"]
            for use in _USES[1:]:
                gains = table[use] - table["none"]
                half = scipy.stats.sem(gains) * scipy.stats.t.ppf(0.975, len(gains) - 1)
                cells.append(f"{gains.mean():+.1f} ± {half:.1f}")
            lines.append([str(clips), f"{kind} alone", str(len(rows)), *cells])
            print(*lines[-1], sep="  ", flush=True)
    print()
    print(*aligned([["clips", "supplemental", "machines", *_USES], *lines]), sep="\n")


if __name__ == "__main__":
    app.run(main)
