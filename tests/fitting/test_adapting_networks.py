"""Adapting networks that compare with clips: against their fit to all clips by the same weights."""

import dataclasses

import numpy as np
import pytest
from fits import trained_before
from reporters import Lines
from sklearn.covariance import LedoitWolf
from tones import RATE, sound

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.clips import HELD_OUT, Clip
from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.adapting import adapt_clips
from asd_jax.fitting.adapting_rows import facts_of_known
from asd_jax.fitting.arrays import adapt
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.kept import LEFT, part_of
from asd_jax.scoring.thinning import thinned

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST, ALL, MELS = 16, 26, 8
SMALL = {"front_end.n_mels": str(MELS), "train.epochs": "1", "seeds": "0,1"}
DENSE = SMALL | {"detector.hidden": "8,", "train.threshold_split": "0"}
IAEO3 = SMALL | {"detector.encoder": "8,", "detector.trainings": "2", "train.threshold_split": "0"}
SYSTEMS = {
    "knn": ("dense_ae", DENSE | {"backend": "knn"}),
    "mahalanobis": ("dense_ae", DENSE | {"backend": "mahalanobis"}),
    "residuals": ("dense_ae", DENSE | {"detector.score": "mahalanobis"}),
    "errors": ("iaeo3", IAEO3 | {"embedding": "none", "detector.components": "1"}),
    "embeddings": (
        "iaeo3",
        IAEO3 | {"embedding": "edgel3", "detector.components": "1", "detector.principal": "4"},
    ),
}


def clips(first, last, offset=0.0):
    """(12 to 20, 8) each, of two speeds."""
    found = []
    for i in range(first, last):
        rng = np.random.default_rng(i)
        tone = np.where(np.arange(MELS) == 5, 9.0, 0.0)
        frames = rng.normal(-50, 2, (12 + i % 3 * 4, MELS)) + rng.normal() + (i % 2) * tone
        found.append((frames + offset).astype(np.float32))
    return found


def known(first, last):
    """Two domains, groups of two."""
    return {
        "domains": ["target" if i % 5 == 4 else "source" for i in range(first, last)],
        "groups": [f"day{i // 2}" for i in range(first, last)],
    }


def embedded(first, last):
    return np.random.default_rng(0).normal(3, 1, (ALL + 3, 6)).astype(np.float32)[first:last]


def of_kind(kind):
    name, settings = SYSTEMS[kind]
    return load_config(name, settings)


def more_of(kind, first, last):
    given = known(first, last)
    return given | ({"embeddings": embedded(first, last)} if kind == "embeddings" else {})


def same_calibration(one, other):
    """To 1e-5: what a clip is embedded to depends on the batch by rounding."""
    leaves, wanted = (dict(flat(each)) for each in (one, other))
    assert leaves.keys() == wanted.keys()
    for name, leaf in wanted.items():
        size = np.nanmax(np.abs(leaf)) if np.asarray(leaf).dtype != bool else 1
        np.testing.assert_allclose(leaves[name], leaf, rtol=1e-5, atol=1e-5 * size, err_msg=name)


def flat(tree, before=""):
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            yield from flat(leaf, f"{before}{name}/")
        else:
            yield before + name, leaf


@pytest.fixture(scope="module")
def firsts():
    """Fitted systems by kind, each fitted once."""
    found = {}

    def of(kind):
        if kind not in found:
            given = more_of(kind, 0, FIRST)
            found[kind] = asd_jax.fit(of_kind(kind), clips(0, FIRST), **given)
        return found[kind]

    return of


KINDS = [
    kind if kind == "residuals" else pytest.param(kind, marks=pytest.mark.slow) for kind in SYSTEMS
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_compared_with_becomes_the_fit_to_all_clips(kind, firsts, tmp_path):
    first = firsts(kind)
    first.save(tmp_path / "first.npz")  # and what is kept survives the file
    read = FittedDetector.load(tmp_path / "first.npz")
    adapted = adapt(read, clips(FIRST, ALL), **more_of(kind, FIRST, ALL))
    with trained_before(first.weights):
        whole = asd_jax.fit(of_kind(kind), clips(0, ALL), **more_of(kind, 0, ALL))
    same_calibration(adapted.calibration, whole.calibration)
    others = {"embeddings": embedded(ALL, ALL + 3)} if kind == "embeddings" else {}
    test = clips(90, 93, 3.0)
    scores = whole.score_features(test, **others)
    np.testing.assert_allclose(adapted.score_features(test, **others), scores, rtol=1e-5)
    assert (first.score_features(test, **others) != scores).any()
    # In two steps it is the same.
    half = adapt(read, clips(FIRST, 20), **more_of(kind, FIRST, 20))
    half.save(tmp_path / "half.npz")
    again = FittedDetector.load(tmp_path / "half.npz")
    twice = adapt(again, clips(20, ALL), **more_of(kind, 20, ALL))
    same_calibration(twice.calibration, whole.calibration)
    np.testing.assert_allclose(twice.thresholds, adapted.thresholds, rtol=1e-4)


def test_thresholds_are_by_clips_that_are_not_compared_with(tmp_path):
    """Held-out clips are scored anew, new ones by fits without their part, here by hand."""
    name, settings = SYSTEMS["mahalanobis"]
    config = load_config(name, settings | {"train.threshold_split": "0.25", "seeds": "0,"})
    first = asd_jax.fit(config, clips(0, FIRST), **known(0, FIRST))
    adapted = adapt(first, clips(FIRST, ALL), **known(FIRST, ALL))
    own = adapted.history.known["machine", ""].clips
    held_out = [clip.split == HELD_OUT for clip in own]
    count = sum(held_out)
    assert 2 <= count <= 6 and adapted.reference["scores"].shape == (1, count + ALL - FIRST)
    pools = adapted.kept.clips["machine", ""].pools[0]
    scores = adapted.reference["scores"][0]
    # The held-out clips by the whole, of which they are no part.
    new = [i for i, clip in enumerate(own) if clip.version]
    parts = np.array([part_of(clip) for clip in own])
    assert {parts[i] for i in new} <= {*range(5)} and len({parts[i] for i in new}) > 1
    for part, places in ((-1, np.flatnonzero(held_out)), (parts[new[0]], None)):
        places = np.flatnonzero(parts == part) if places is None else places
        rows = [i for i in range(len(own)) if not held_out[i] and (part == -1 or parts[i] != part)]
        squared = [
            np.concatenate([_mahalanobis(pools[rows], own, rows, domain, pools[places])])
            for domain in ("source", "target")
        ]
        expected = np.minimum(*squared)
        at = [([*np.flatnonzero(held_out)] + new).index(i) for i in places.tolist()]
        np.testing.assert_allclose(scores[at], expected, rtol=2e-3)
    assert adapted.thresholds[0] != first.thresholds[0]


def _mahalanobis(values, own, rows, domain, queries):
    """By scikit-learn, as `tests/detectors/test_backends.py` has it."""
    chosen = np.array([(own[i].domain == "target") == (domain == "target") for i in rows])
    fit = LedoitWolf().fit(values[chosen].astype(np.float64))
    return fit.mahalanobis(queries.astype(np.float64))


def test_banks_grow_within_a_bound(firsts):
    first = firsts("knn")
    bounded = adapt(first, clips(FIRST, ALL), **known(FIRST, ALL), max_bank=12)
    (history,) = bounded.history.known.values()
    bank = [i for i, clip in enumerate(history.clips) if clip.split == "train"]
    assert len(bank) == 12 and bounded.calibration["embeddings"].shape[2] == 12
    # Those that the weights are of stay known, the others are forgotten.
    assert sum(clip.version == 0 for clip in history.clips) == FIRST
    assert all(clip.version == 0 for clip in history.clips if clip.split == LEFT)
    assert adapt(bounded, clips(0, FIRST), **known(0, FIRST)) is bounded
    # The bank is the part of all clips that `thinned` keeps, by both seeds' directions.
    whole = adapt(first, clips(FIRST, ALL), **known(FIRST, ALL))
    pools = whole.kept.clips["machine", ""].pools.astype(np.float64)
    pools = pools / np.linalg.norm(pools, axis=-1, keepdims=True)
    target = np.array(
        [clip.domain == "target" for clip in whole.history.known["machine", ""].clips]
    )
    stays = thinned(np.concatenate([*pools], axis=1), target, 12)
    for m in (0, 1):
        kept = bounded.calibration["embeddings"][m, 0]
        wanted = whole.kept.clips["machine", ""].pools[m, stays]
        np.testing.assert_array_equal(kept, wanted)
    with pytest.raises(UserError, match="max_bank=1 is less than the 2 sections and domains"):
        adapt(first, clips(FIRST, ALL), **known(FIRST, ALL), max_bank=1)
    with pytest.raises(UserError, match="has no such bank here"):
        adapt(firsts("residuals"), clips(FIRST, ALL), max_bank=12)


def test_a_system_of_an_earlier_version_says_what_it_lacks(firsts):
    first = firsts("knn")
    before = dataclasses.replace(first, kept=None)
    told = Lines()
    adapted = adapt(before, clips(FIRST, ALL), **known(FIRST, ALL), reporter=told)
    assert "goes on to compare with the clips of its fit" in told.lines[0]
    assert adapted.calibration is first.calibration
    assert (adapted.thresholds != first.thresholds).all()


@pytest.mark.slow
def test_joint_networks_compare_with_more_clips(tmp_path):
    """Of two machines, one network a seed; new clips of one of them leave the other as it was."""
    settings = {
        **{"detector.seconds": "1.25", "detector.spectrum": "false", "detector.n_ffts": "1024,"},
        **{"detector.width": "8", "train.epochs": "1", "train.batch_size": "8", "seeds": "0,1"},
    }
    config = load_config("multibranch", settings | {"train.threshold_split": "0"})
    sounds = [sound(500 + 100 * (i % 3), i) for i in range(20)]
    machines = ["fan"] * 8 + ["pump"] * 12
    attributes = [{"speed": i % 2} for i in range(20)]
    first = asd_jax.fit(
        config,
        waveforms=sounds[:16],
        sample_rate=RATE,
        machines=machines[:16],
        attributes=attributes[:16],
    )
    adapted = adapt(
        first, waveforms=sounds[16:], sample_rate=RATE, machine="pump", attributes=attributes[16:]
    )
    with trained_before(first.weights):
        whole = asd_jax.fit(
            config, waveforms=sounds, sample_rate=RATE, machines=machines, attributes=attributes
        )
    same_calibration(adapted.calibration, whole.calibration)
    assert adapted.group_thresholds["fan/"] == first.group_thresholds["fan/"]


def test_rows_of_a_run_are_scored_anew(firsts):
    first = firsts("knn")
    (of_seeds,) = facts_of_known(first, None).values()
    before = [row._replace(clip=f"{i}", score=0.0) for own in of_seeds for i, row in enumerate(own)]
    facts = known(FIRST, ALL)
    new = [
        Clip("machine", "00", "train", f"new {i}", "", domain=domain, group=group)
        for i, (domain, group) in enumerate(zip(facts["domains"], facts["groups"], strict=True))
    ]
    features = ArrayFeatures(new, clips(FIRST, ALL))
    done = adapt_clips(first, features, RowTable.of(before, TrainingRow), Lines())
    rows = [row for row in done.rows if row.seed == 1]
    names = [f"{i}" for i in range(FIRST)] + [clip.name for clip in new]
    assert [row.clip for row in rows] == names and all(row.score > 0 for row in rows)
    # Ten clips that the network has not seen set the threshold in place of those that it has.
    assert [row.unseen for row in rows] == [0] * FIRST + [1] * len(new)
    assert [row.sets_threshold for row in rows] == [row.unseen for row in rows]
    by_arrays = adapt(first, clips(FIRST, ALL), **facts)
    np.testing.assert_allclose(done.fitted.thresholds, by_arrays.thresholds, rtol=1e-5)
    with pytest.raises(UserError, match="has not the clips that the model knows"):
        adapt_clips(first, features, RowTable.of(before[:-1], TrainingRow), Lines())
