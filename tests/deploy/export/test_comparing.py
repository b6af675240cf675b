"""What is a difference of a file's scores, and what float32 does not resolve."""

import jax
import numpy as np
import pytest

import asd_jax
from asd_jax.config import load_config
from asd_jax.deploy.export import comparing
from asd_jax.deploy.export.choosing import targets_of
from asd_jax.deploy.export.comparing import TOLERANCE, Compared, compare, comparison_of
from asd_jax.deploy.export.exporting import in_float32
from asd_jax.deploy.export.program import Program

RATE = 16_000


@pytest.mark.parametrize(
    ("score", "holds"),
    [
        (Compared(2.0, 2.0001), True),
        (Compared(2.0, 2.0003), False),
        (Compared(-2.0, -2.0001), True),
        (Compared(1e-15, 4e-15, 1e-14), True),
        (Compared(1e-15, 2e-14, 1e-14), False),  # wrong by more than float32 does not resolve
        (Compared(0.0, 0.0), True),
        (Compared(0.0, 1e-3), False),
        (Compared(1.0, float("nan")), False),
        (Compared(float("inf"), float("inf")), True),
        (Compared(float("inf"), 1.0), False),
    ],
)
def test_limits(score, holds):
    assert comparison_of([Compared(1.0, 1.0), score]).holds is holds


@pytest.fixture(scope="module")
def by_neighbours():
    """Of `mel_knn`, and one of its training clips, whose distance is the rounding of float32."""
    sounds = np.random.default_rng(3).normal(0, 0.1, (6, RATE)).astype(np.float32)
    config = load_config("mel_knn", {"front_end.n_mels": "16"})
    fitted = in_float32(asd_jax.fit(config, waveforms=sounds, sample_rate=RATE, machine="fan"))
    return Program(fitted, targets_of(fitted)), sounds[0]


@pytest.mark.parametrize("convolutions", [False, True])
def test_a_distance_of_rounding_has_that_of_the_run_as_its_limit(by_neighbours, convolutions):
    """Its own float32 program differs from the run by more than 1e-4, and by less than that."""
    program, trained = by_neighbours
    jitted = jax.jit(Program(program.fitted, program.targets, convolutions=convolutions))
    other = np.random.default_rng(4).normal(0, 0.1, RATE).astype(np.float32)
    ordinary, allowed = _compared(program, jitted, other), _compared(program, jitted, trained)
    assert ordinary.wanted > 1e-5 and ordinary.allowed == TOLERANCE
    assert abs(allowed.wanted) < 1e-9 * ordinary.wanted
    assert comparison_of([ordinary, allowed]).holds
    # What a wrong file gives is beyond it: a millionth of an ordinary distance.
    wrong = allowed._replace(found=1e-6 * ordinary.wanted)
    assert not comparison_of([ordinary, wrong]).holds


def _compared(program, jitted, clip):
    (wanted,), (resolution,) = comparing.resolved_scores(program, [(0, clip)])
    return Compared(wanted, float(jitted(clip[None])[0][0]), resolution)


@pytest.mark.parametrize("factor", [1.0, 1 + 3e-4, 0.0, float("nan")])
def test_a_wrong_file_is_refused(by_neighbours, factor):
    """Whatever the recordings are, noise is compared as well."""
    program, _ = by_neighbours
    jitted = jax.jit(program)

    def file(clip, machine):
        return {"score": factor * np.asarray(jitted(clip[None])[0])}

    found = compare(program, file, (RATE,), None, pytest.fail)
    assert found.holds is (factor == 1) and found.compared == 3 and found.unresolved == 0


def test_a_machine_without_an_ordinary_score_is_said(by_neighbours, monkeypatch):
    program, trained = by_neighbours
    monkeypatch.setattr(comparing, "_sounds", lambda *arguments: [trained])
    jitted, lines = jax.jit(program), []

    def file(clip, machine):
        return {"score": np.asarray(jitted(clip[None])[0])}

    assert compare(program, file, (RATE,), None, lines.append).unresolved == 1
    assert "fan/00: float32 resolves none of the 1 compared scores to 0.0001" in lines[0]
