"""Decisions counted by hand, and the pictures of them."""

from urllib.parse import unquote

import numpy as np
import pytest

from asd_jax.audio import FrontEnd
from asd_jax.data.clips import Clip
from asd_jax.evaluation.analysis import (
    decisions_of,
    domains_of,
    write_analysis,
    write_spectrograms,
)
from asd_jax.evaluation.results import ScoreRow
from asd_jax.features.table import ArrayFeatures

#        label, and score by seed 0 and 1; the threshold is 5
CLIPS = [(1, 9, 9), (1, 6, 2), (1, 1, 1), (0, 8, 1), (0, 2, 3), (0, 1, 2), (0, 3, 7), (-1, 9, 9)]


def rows_of(machine="fan"):
    return [
        ScoreRow(
            machine, "00", "", seed, f"{i}.wav", clip[0], clip[1 + seed], 5, clip[1 + seed] > 5
        )
        for seed in (0, 1)
        for i, clip in enumerate(CLIPS)
    ]


def test_counts_and_rates_by_hand():
    """Seed 0: anomalies 9, 6 found, 1 not; normal 8 called anomalous, three not."""
    found = decisions_of(rows_of())["fan"]
    assert found.counts.tp.tolist() == [2, 1]
    assert found.counts.fn.tolist() == [1, 2]
    assert found.counts.fp.tolist() == [1, 1]
    assert found.counts.tn.tolist() == [3, 3]
    np.testing.assert_allclose(found.tpr, [2 / 3, 1 / 3])
    np.testing.assert_allclose(found.fpr, [1 / 4, 1 / 4])
    np.testing.assert_allclose(found.precision, [2 / 3, 1 / 2])
    np.testing.assert_allclose(found.accuracy, [5 / 7, 4 / 7])
    np.testing.assert_allclose(found.f1, [2 / 3, 2 / 5])


def test_one_class_only_has_undefined_rates():
    rows = [row for row in rows_of() if row.label == 0]
    found = decisions_of(rows)["fan"]
    assert np.isnan(found.tpr).all() and (found.fpr == 1 / 4).all()


def test_a_domain_s_normal_clips_stand_against_all_anomalies():
    """By hand, of two sections: AUCs of 3/4 and 1 of the source, 1/2 and 1/2 of the target."""
    clips = {  # section, domain, label: scores; the threshold is 5
        ("00", "source", 0): (1, 6),
        ("00", "source", 1): (7,),
        ("00", "target", 0): (2, 9),
        ("00", "target", 1): (4,),
        ("01", "source", 0): (1, 2),
        ("01", "target", 0): (3, 8),
        ("01", "target", 1): (7,),
    }
    rows = [
        ScoreRow("fan", section, domain, seed, f"{i}", label, score, 5, score > 5)
        for seed in (0, 1)
        for (section, domain, label), scores in clips.items()
        for i, score in enumerate(scores)
    ]
    found = domains_of(rows)
    assert list(found) == [("fan", "source"), ("fan", "target")]
    np.testing.assert_allclose(found["fan", "source"].auc, [(3 / 4 + 1) / 2] * 2)
    np.testing.assert_allclose(found["fan", "target"].auc, [1 / 2] * 2)
    np.testing.assert_allclose(found["fan", "source"].fpr, [1 / 4] * 2)
    np.testing.assert_allclose(found["fan", "target"].fpr, [2 / 4] * 2)
    assert domains_of(rows_of()) == {}
    assert domains_of([row for row in rows if row.label == 0]) == {}


def test_without_labels_there_is_nothing_to_say():
    assert decisions_of([row for row in rows_of() if row.label < 0]) == {}


def test_pictures_are_of_the_section_of_the_decision(tmp_path, monkeypatch):
    """Clips of one name in two sections: the missed anomaly is drawn from its own recording."""
    clips = [Clip("fan", section, "test", "0.wav", "") for section in ("00", "02")]
    features = ArrayFeatures(clips, [np.full((50, 4), level) for level in (-80.0, -20.0)])
    rows = [
        ScoreRow("fan", "00", "", 0, "0.wav", 1, 1, 5, 0),
        ScoreRow("fan", "02", "", 0, "0.wav", 0, 1, 5, 0),
    ]
    read = []
    monkeypatch.setattr(
        features, "read_clips", lambda chosen: read.extend(chosen) or [features._arrays[chosen[0]]]
    )
    write_spectrograms(tmp_path / "fan.png", rows, "fan", features, FrontEnd(n_mels=4))
    assert read == [0, 1]


def test_rows_without_a_score_or_threshold_decide_nothing(tmp_path):
    clips = [Clip("fan", "00", "test", f"{i}.wav", "") for i in range(len(CLIPS))]
    features = ArrayFeatures(clips, [np.full((50, 128), -40.0) for _ in clips])
    rows = [row._replace(score=np.nan) if row.clip == "3.wav" else row for row in rows_of()]
    write_analysis(tmp_path, rows, features, FrontEnd())
    text = (tmp_path / "analysis.md").read_text()
    assert "2 scores or thresholds that are no numbers are left out" in text
    assert "| fan | 1.5 | 1.5 | 0.5 | 2.5 |" in text


def test_the_table_and_the_pictures(tmp_path):
    from matplotlib.image import imread

    clips = [
        Clip(machine, "00", "test", f"{i}.wav", "")
        for machine in ("fan", "pump")
        for i in range(len(CLIPS))
    ]
    rng = np.random.default_rng(0)
    features = ArrayFeatures(clips, [rng.normal(-40, 10, (50, 128)) for _ in clips])
    # The pump has no labels, and so neither a line nor a picture.
    rows = rows_of() + [row._replace(label=-1) for row in rows_of("pump")]
    write_analysis(tmp_path, rows, features, FrontEnd())
    text = (tmp_path / "analysis.md").read_text()
    assert "| fan | 1.5 | 1.5 | 1 | 3 | 50.00 ± 23.57 | 25.00 ± 0.00 |" in text
    assert "spectrograms/fan.png" in text and "pump" not in text
    picture = imread(tmp_path / "spectrograms" / "fan.png")
    assert picture.shape[:2] == (700, 1100) and picture.std() > 0.1
    assert not (tmp_path / "spectrograms" / "pump.png").exists()


@pytest.mark.parametrize("kept", [(0,), (1,)])
def test_a_case_that_does_not_occur_leaves_its_place_empty(tmp_path, kept):
    clips = [Clip("fan", "00", "test", f"{i}.wav", "") for i in range(len(CLIPS))]
    features = ArrayFeatures(clips, [np.full((9, 128), float(i)) for i in range(len(CLIPS))])
    rows = [row for row in rows_of() if row.decision in kept]
    write_spectrograms(tmp_path / "fan.png", rows, "fan", features, FrontEnd())
    assert (tmp_path / "fan.png").is_file()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "machine", ["pump$1_$2", "a_{b", "\u30d5\u30a1\u30f3", "fan (2)", 250 * "m"]
)
def test_any_name_of_a_machine_makes_a_picture(tmp_path, machine):
    clips = [Clip(machine, "00", "test", f"{i}_$x_$.wav", "") for i in range(8)]
    features = ArrayFeatures(clips, [np.full((50, 4), -40.0 - i) for i in range(8)])
    rows = [row._replace(clip=f"{row.clip[0]}_$x_$.wav") for row in rows_of(machine)]
    write_analysis(tmp_path, rows, features, FrontEnd(n_mels=4))
    (picture,) = (tmp_path / "spectrograms").iterdir()
    assert picture.suffix == ".png" and len(picture.name) <= 240
    link = (tmp_path / "analysis.md").read_text().rpartition("](")[2].rstrip(")\n")
    assert (tmp_path / unquote(link)).read_bytes() == picture.read_bytes()
