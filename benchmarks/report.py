"""Report of the measurements, in JSON and in Markdown."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from threadpoolctl import threadpool_info

from asd_jax.runs.directory import commit, versions_of
from asd_jax.runtime.cores import usable_cores
from asd_jax.runtime.files import atomic_write
from benchmarks.harness import OURS

_PACKAGES = (
    "asd-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "scikit-learn",
    "librosa",
    "audioflux",
    "keras",
    "torch",
    "torchaudio",
    "nnAudio",
)
_HEADER = (
    *("benchmark", "way", "first", "compile", "median", "quartiles", "times ours", "rounds"),
    *("bound", "reached"),
)


def environment(threads: int) -> dict[str, Any]:
    """Describes the machine and the software.

    Args:
        threads: of PyTorch.
    """
    device = jax.devices()[0]
    versions = {name: version for name, version in versions_of(_PACKAGES).items() if version}
    return {
        "command": " ".join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": commit(),
        "device": f"{len(jax.devices())} × {device.device_kind} ({device.platform})",
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": {
            "torch": threads,
            **{pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()},
        },
        "precision": "float32 unless a benchmark states another; jax_default_matmul_precision "
        f"{jax.config.jax_default_matmul_precision or 'default'}, PyTorch with TF32 allowed",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **versions},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write(out_dir: Path, measured: dict[str, Any]) -> None:
    """Writes benchmarks.json and benchmarks.md."""
    with atomic_write(out_dir / "benchmarks.json") as file:
        json.dump(measured, file, indent=1)
    with atomic_write(out_dir / "benchmarks.md") as file:
        file.write(markdown(measured))


def measured_before(out_dir: Path, measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Records of an earlier start in the same folder that need not be measured again.

    Args:
        out_dir: the folder.
        measured: what is measured now; records are taken over from the same commit without changed
            files, device, versions and sizes.

    Returns:
        Benchmark → record, of those without an error.
    """
    try:
        with open(out_dir / "benchmarks.json", encoding="utf-8") as file:
            before = json.load(file)
        now, then = measured["environment"], before["environment"]
        same = all(now[key] == then[key] for key in ("commit", "device", "processor", "versions"))
        if not same or not now["commit"] or now["commit"].endswith("+"):
            return {}
        if before["quick"] != measured["quick"]:
            return {}
        return {
            record["name"]: record
            for record in before["comparisons"]
            if not record["error"] and "ratios" in record
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def markdown(measured: dict[str, Any]) -> str:
    """Formats the table, its environment, and details of each comparison."""
    records = measured["comparisons"]
    done = [record for record in records if not record["error"] and "ways" in record]
    lines = ["# Benchmarks", "", *_environment_lines(measured), ""]
    if done:
        lines += [_row(_HEADER), _row(["---"] * len(_HEADER))]
        for record in done:
            lines += _way_rows(record)
        lines += [
            "",
            "Seconds of a run: the first one, which compiles; its share of compilation and warm-up "
            "(the first minus the median); median and quartiles of the rounds. (× n): the way does "
            "1/n of the work, and its seconds, except those of the first run, are multiplied by n. "
            "Times ours: a peer's seconds divided by ours of the same round, median and range; "
            "above 1, ours is faster. Bound: the measured limit of the machine, copy bandwidth or "
            "matrix rate, by which the least work for the result takes longest, and how much of it "
            "the way reaches; none known where no formula gives the least work.",
            "",
            *_geometric_means(done),
        ]
    wrong = [f"- **{record['name']}**: {record['error']}" for record in records if record["error"]]
    if wrong:
        lines += ["## Failed", "", *wrong, ""]
    skipped = [
        f"- {record['name']}, {peer}: {reason}"
        for record in records
        for peer, reason in record["skipped"].items()
    ]
    if skipped:
        lines += ["## Skipped", "", *skipped, ""]
    if done:
        lines += ["## What was computed", ""]
        for record in done:
            lines += _details(record)
    return "\n".join(lines).rstrip() + "\n"


def _environment_lines(measured: dict[str, Any]) -> list[str]:
    """Lines about the command, the machine and the software."""
    where, machine = measured["environment"], measured["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    threads = ", ".join(f"{name} {n}" for name, n in where["threads"].items())
    load = f"{where['load_before']:.1f}"
    if "load_after" in where:
        load += f" before, {where['load_after']:.1f} after"
    quick = ", small sizes (--quick)" if measured["quick"] else ""
    return [
        f"`{where['command']}`, {where['date']}, commit {where['commit'] or 'unknown'}{quick}.",
        "",
        f"- device: {where['device']}; {where['processor']}, {where['cores']} cores; load {load}",
        f"- threads: {threads}",
        f"- versions: {versions}",
        f"- precision: {where['precision']}",
        f"- machine: {machine['bandwidth'] / 1e9:.3g} GB/s read and written in place, "
        f"{machine['rate'] / 1e9:.4g} GFLOP/s in a float32 matrix product",
    ]


def _way_rows(record: dict[str, Any]) -> list[str]:
    """A row of the table for each way of a comparison."""
    rows = []
    unit = record["unit"]
    text = _seconds if unit == "s" else lambda value: f"{value:.4g} {unit}"
    for way, statistics in record["ways"].items():
        low, high = map(text, statistics["quartiles_s"])
        cells = [
            record["name"],
            way + (f" (× {statistics['scale']:.4g})" if statistics["scale"] != 1 else ""),
            text(statistics["first_s"]),
            _seconds(statistics["compile_s"]) if record["timed"] else "",
            text(statistics["median_s"]),
            f"{low} to {high}",
        ]
        if way == OURS:
            cells += ["", ""]
        else:
            ratio = record["ratios"][way]
            goal = f" (goal {ratio['goal']:.3g})" if ratio["goal"] else ""
            cells += [f"{ratio['median']:.3g}{goal}", "{:.3g} to {:.3g}".format(*ratio["range"])]
        cells += _bound(record, statistics["median_s"])
        rows.append(_row(cells))
    return rows


def _bound(record: dict[str, Any], seconds: float) -> list[str]:
    """Which limit of the machine bounds a comparison, and the share that a way reaches."""
    if "roofline" not in record:
        return ["none known", ""]
    limit = record["roofline"]
    return [limit["bound"], f"{100 * limit['least_s'] / seconds:.3g} %"]


def _geometric_means(done: Sequence[dict[str, Any]]) -> list[str]:
    """Geometric means of the ratios in each group, by peer."""
    groups: dict[tuple[str, str], list[float]] = {}
    for record in done:
        for peer, ratio in record["ratios"].items():
            group = record["name"].partition(".")[0]
            groups.setdefault((group, peer), []).append(ratio["median"])
    lines = [
        f"- {group}, {peer}: geometric mean of {len(ratios)}: "
        f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.3g} times ours"
        for (group, peer), ratios in groups.items()
        if len(ratios) > 1
    ]
    return [*lines, ""] if lines else []


def _details(record: dict[str, Any]) -> list[str]:
    """Lines about a comparison: its computation, limits, differences, ratios and notes."""
    lines = [f"**{record['name']}**: {record['computes']}", ""]
    if "roofline" in record:
        limit = record["roofline"]
        lines.append(
            f"- at least {_seconds(limit['least_s'])} by the {limit['bound']}; ours reaches "
            f"{100 * limit['share']:.3g} % of that limit: {limit['bytes']:.4g} bytes, "
            f"{limit['flops']:.4g} flops ({limit['formula']})"
        )
    lines += [
        f"- {d['peer']}: {d['what']} within {d['found']:.2g}, allowed up to {d['limit']:.2g}: "
        f"{d['why']}"
        for d in record["differences"]
    ]
    for peer, ratio in record["ratios"].items():
        lines.append(f"- times ours by round, {peer}: {_numbers(ratio['rounds'])}")
        if "processor" in ratio:
            spent = "; ".join(
                f"{way} {_numbers(record['ways'][way]['processor_s'])}" for way in (OURS, peer)
            )
            lines.append(
                f"- processor time by round, in seconds: {spent}; times ours "
                f"{_numbers(ratio['processor'])}"
            )
    return [*lines, *(f"- {note}" for note in record["notes"]), ""]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
