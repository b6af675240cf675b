"""What is wrong with a submission: each fault in one of a whole year, and none in that itself."""

import numpy as np
import pytest
import yaml
from command_line import run_cli

from asd_jax.data.official_sets import n_test_clips, official_sections
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.submission_check import check_submission
from asd_jax.evaluation.submission_form import check_form

LABEL = "Smith_ABC_task2_1"
FORM = {
    "submission": {
        "label": LABEL,
        "name": "Spectra",
        "abbreviation": "SP",
        "authors": [
            {
                "lastname": "Smith",
                "firstname": "Ann",
                "email": "ann@example.org",
                "corresponding": True,
                "affiliation": {"abbreviation": "ABC", "institute": "ABC", "location": "Kyōto"},
            }
        ],
    },
    "system": {
        "description": {
            "input_sampling_rate": "16 kHz",
            "acoustic_features": "log-mel energies",
            "data_augmentation": None,
            "embeddings": None,
            "machine_learning_method": "Gaussian",
            "ensemble_method_subsystem_count": None,
            "decision_making": "threshold",
        },
        "complexity": {"total_parameters": 0, "MACS": None},
        "external_datasets": None,
        "train_datasets": ["additional"],
        "source_code": None,
    },
    "results": {"development_dataset": {"fan": {"auc": 50.0}}},
}


def clip_name(year, section, domain, number):
    if year == 2020:
        return f"id_{section}_{number:08d}.wav"
    middle = f"_{domain}_test" if domain else ""
    return f"section_{section}{middle}_{number:04d}.wav"


def make(folder, year, form=FORM):
    """A whole submission of a year, of as many clips as its evaluation set has."""
    folder = folder / LABEL
    rng = np.random.default_rng(year)
    rows = []
    for machine, section in sorted(official_sections(year, "eval")):
        for domain in ("source", "target") if year == 2021 else ("",):
            for i in range(n_test_clips(year, machine, section, domain) or 20):
                name = clip_name(year, section, domain, i)
                score = float(rng.normal())
                rows.append(
                    ScoreRow(machine, section, domain, 0, name, -1, score, 0.5, int(score > 0.5))
                )
    write_challenge_files(folder, rows, year)
    text = yaml.safe_dump(form, allow_unicode=True)
    (folder / f"{LABEL}.meta.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("year", range(2020, 2027))
def test_whole_submissions_are_accepted(tmp_path, capsys, year):
    folder = make(tmp_path, year)
    found = check_submission(folder)
    assert (found.year, found.faults, found.warnings) == (year, (), ())
    status, out, err = run_cli(capsys, "submission", f"--check={folder}")
    assert status == 0 and f"would be accepted in {year}" in out and not err


def changed(folder, name, change):
    path = folder / name
    lines = change(path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n")


SCORES = "anomaly_score_shaker_section_00_test.csv"
DECISIONS = "decision_result_shaker_section_00_test.csv"
COUNT = (
    "the files have other numbers of clips than the evaluation set of 2023: shaker 00 199 of 200"
)


def replaced(number, text):
    return lambda lines: [*lines[:number], text, *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("name", "change", "faults"),
    [
        (SCORES, lambda x: ["name,score", *x], [f"{SCORES}: has a heading, name,score; remove it"]),
        (
            SCORES,
            replaced(3, "section_00_0003.wav,nan"),
            [f"{SCORES}: values that are not finite numbers (1), first line 4: section"],
        ),
        (
            SCORES,
            lambda x: [f"{line[:-1]}x" for line in x],
            [f"{SCORES}: values that are not finite numbers (200), first line 1: section"],
        ),
        (
            SCORES,
            replaced(0, "section_00_0000.wav,-inf"),
            [f"{SCORES}: values that are not finite numbers (1), first line 1:"],
        ),
        (
            DECISIONS,
            lambda x: [x[0][:-1] + "0.0", x[1][:-1] + "2", *x[2:]],
            [f"{DECISIONS}: values that are not 0 or 1 (2), first line 1: section_00_0000.wav,0.0"],
        ),
        (
            SCORES,
            lambda x: [*x, x[7]],
            [f"{SCORES}: clips that are there twice (1), first line 201: section_00_0007.wav"],
        ),
        (
            SCORES,
            replaced(5, ""),
            [
                f"{SCORES}: lines that are not a name and a value (1), first line 6:",
                "shaker_section_00_test: clips with no score (1): section_00_0005.wav",
                COUNT,
            ],
        ),
        (
            DECISIONS,
            lambda x: x[1:],
            ["shaker_section_00_test: clips with a score only (1): section_00_0000.wav"],
        ),
        (
            SCORES,
            replaced(9, "section_00_source_test_normal_0009_a_1.wav,1"),
            [
                f"{SCORES}: names that are not of test clips of section 00 in 2023 (1), first line",
                "shaker_section_00_test: clips with a score only (1): section_00_source_test_",
                "shaker_section_00_test: clips with no score (1): section_00_0009.wav",
            ],
        ),
    ],
)
def test_faults_of_a_file(tmp_path, name, change, faults):
    folder = make(tmp_path, 2023)
    changed(folder, name, change)
    found = check_submission(folder)
    assert len(found.faults) == len(faults)
    for line, expected in zip(found.faults, faults, strict=True):
        assert line.startswith(expected)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda b: b"\xef\xbb\xbf" + b, "begins with a byte-order mark"),
        (lambda b: b.replace(b"\n", b"\r\n"), "has line ends of Windows (CRLF)"),
        (lambda b: b"\xff" + b, "is no UTF-8, at byte 0"),
        (lambda b: b"", "is empty"),
    ],
)
def test_faults_of_bytes(tmp_path, edit, fault):
    folder = make(tmp_path, 2023)
    path = folder / SCORES
    path.write_bytes(edit(path.read_bytes()))
    assert check_submission(folder).faults[0].startswith(f"{SCORES}: {fault}")


def test_all_faults_are_named_and_the_status_is_2(tmp_path, capsys):
    folder = make(tmp_path, 2023)
    (folder / SCORES).unlink()
    (folder / ".DS_Store").touch()
    (folder / "scores").mkdir()
    (folder / "anomaly_score_fan_id_01.csv").write_text("id_01_00000000.wav,1\n")
    vacuum = folder / "anomaly_score_Vacuum_section_00_test.csv"
    vacuum.rename(folder / "anomaly_score_Vacuum_section_07_test.csv")
    changed(folder, "anomaly_score_grinder_section_00_test.csv",
            lambda x: [line.partition(",")[0] + ",0.5" for line in x])  # fmt: skip
    status, out, err = run_cli(capsys, "submission", f"--check={folder}")
    assert status == 2 and len(err.splitlines()) == 1
    for line in (
        "fault: .DS_Store: no file of a submission; remove it",
        "fault: scores: no folder of a submission; remove it",
        "fault: anomaly_score_fan_id_01.csv: not a name of 2023, as anomaly_score_<machine>_",
        f"fault: {SCORES} is missing",
        "fault: anomaly_score_Vacuum_section_00_test.csv is missing",
        "fault: decision_result_Vacuum_section_07_test.csv is missing",
        "anomaly_score_Vacuum_section_07_test.csv: names that are not of test clips of section 07",
        "fault: the files have Vacuum 07, which the evaluation set of 2023 does not have",
        "warning: anomaly_score_grinder_section_00_test.csv: all 200 scores are 0.5",
    ):
        assert line in out, line


def test_machines_that_lack_and_files_of_no_year(tmp_path):
    folder = make(tmp_path, 2023)
    for path in folder.glob("*ToyDrone*"):
        path.unlink()
    assert check_submission(folder).faults == (
        "the files lack ToyDrone 00 of the evaluation set of 2023",
    )
    for path in folder.glob("*.csv"):
        path.rename(folder / path.name.replace("_section", "X_section"))
    (fault,) = check_submission(folder).faults
    assert "of no evaluation set of 2022 to 2026; --year says" in fault
    assert "the files have ToyNscaleX 00" in check_submission(folder, year=2023).faults[1]


def test_no_folder_and_the_folder_above(tmp_path, capsys):
    folder = make(tmp_path, 2025)
    with pytest.raises(UserError, match="is a folder of submissions; name one of them, as"):
        check_submission(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        check_submission(folder / SCORES)
    folder = folder.rename(tmp_path / "Smith_ABC_task2_5")
    first, second, third = check_submission(folder).faults
    assert "is not of the form" in first and "meta.yaml: no file of" in second
    assert third == "Smith_ABC_task2_5.meta.yaml is missing"


def form(**changes):
    """The form with other values of dotted keys; ... takes a key out."""
    copy = yaml.safe_load(yaml.safe_dump(FORM, sort_keys=False))
    for key, value in changes.items():
        *path, last = key.split("__")
        place = copy
        for part in path:
            place = place[int(part)] if part.isdigit() else place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return yaml.safe_dump(copy, sort_keys=False).encode()


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (form(), []),
        (form(submission__label="Smith_ABC_task2_2"), ["has the label Smith_ABC_task2_2, and its"]),
        (form(submission__abbreviation="ElevenChars"), ["has the abbreviation ElevenChars, of 11"]),
        (form(submission__abbreviation="TenCharact"), []),
        (form(submission__abbreviation="FILL IN (at most 10 characters)"),
         ["is still to be filled in: submission.abbreviation"]),
        (form(submission__authors__0__email="FILL IN", results="FILL IN (x)"),
         ["is still to be filled in: submission.authors.1.email, results",
          "lacks results.development_dataset"]),
        (form(submission__authors__0__firstname="", system__source_code=...),
         ["lacks system.source_code, submission.authors.1.firstname"]),
        (form(submission__authors__0__corresponding=False), ["has no author with corresponding"]),
        (form(submission__authors=[]), ["lacks submission.authors"]),
        (form(submission__authors="Smith"), ["lacks submission.authors, a list"]),
        (form(system__complexity__total_parameters="many"), ["has total_parameters many"]),
        (form(system__description=None), ["lacks system.description.input_sampling_rate,"]),
        (b"submission: [", ["is no YAML: line 1"]),
        (b"a: !!python/object/apply:os.getcwd []", ["is no YAML: line 1: could not determine"]),
        (b"a: 2024-99-99", ["is no YAML: month must be"]),
        (b"a: &a [*a]", ["lacks submission.label"]),
        (b"[" * 5000, ["is no YAML: "]),
    ],
)  # fmt: skip
def test_forms(content, faults):
    found = check_form(content, LABEL)
    assert len(found) == len(faults)
    for line, expected in zip(found, faults, strict=True):
        assert line.startswith(expected)
