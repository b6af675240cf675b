"""What a run tells of a submission's description: results by hand, and data sets."""

import types

from asd_jax.evaluation.results import ResultRow
from asd_jax.evaluation.row_files import write_rows
from asd_jax.runs.classes import ClassRow
from asd_jax.runs.submission_meta import results_of, train_datasets


def section_rows(**aucs):
    """A seed's rows of two sections of a machine: AUC and pAUC by domain."""
    return [
        ResultRow("fan", section, domain, 0, 5, 5, auc, auc, pauc, 0.5, 0.5, 0.5)
        for domain, of_sections in aucs.items()
        for section, (auc, pauc) in zip(("00", "01"), of_sections, strict=True)
    ]


def test_results_of_each_year_by_hand():
    own = section_rows(all=[(0.5, 0.6), (1.0, 0.8)])
    assert results_of(own, 2020) == {
        "fan": {"auc": 75.0, "pauc": 70.0},
        "arithmetic_mean": {"auc": 75.0, "pauc": 70.0},
    }
    own = section_rows(source=[(0.5, 0.5), (1.0, 0.5)], target=[(0.4, 0.6), (0.6, 0.6)])
    of_fan = {"auc_source": 66.67, "auc_target": 48.0, "pauc_source": 50.0, "pauc_target": 60.0}
    # 8 / (2 + 1 + 2.5 + 1/0.6 + 2 + 2 + 2/0.6)
    assert results_of(own, 2021) == {
        "fan": of_fan,
        "harmonic_mean": {**of_fan, "official_score": 55.17},
    }
    own = section_rows(
        all=[(0.7, 0.5), (0.7, 0.5)], source=[(0.8, 0.1)] * 2, target=[(0.4, 0.1)] * 2
    )
    assert results_of(own, 2022)["harmonic_mean"] == {
        "auc_source": 80.0,
        "auc_target": 40.0,
        "pauc": 50.0,
        "official_score": 52.17,  # 3 / (1/0.8 + 1/0.4 + 1/0.5)
    }
    nan = float("nan")
    own = section_rows(all=[(nan, nan), (nan, nan)])
    assert results_of(own, 2020)["fan"] == {"auc": "FILL IN (percent)", "pauc": "FILL IN (percent)"}
    assert results_of([row._replace(n_normal=0, n_anomaly=0) for row in own], 2020) == {}


def test_data_sets_that_a_joint_network_learned_from(tmp_path):
    joint = types.SimpleNamespace(detector=types.SimpleNamespace(both_sets=True))
    rows = [ClassRow(machine, "00", "source", "a.wav", "", "") for machine in ("fan", "shaker")]
    kinds = "additional training", "development"
    own, other = (f"DCASE 2023 Task 2 {kind} dataset" for kind in kinds)
    for some, expected in ((rows, [own, other]), (rows[1:], [own])):
        write_rows(tmp_path / "classes.csv", ClassRow, some)
        assert train_datasets(2023, {"joint": joint}, tmp_path / "classes.csv") == expected
    assert "FILL IN" in train_datasets(2023, {"joint": joint}, tmp_path / "none.csv")[1]
