"""The page of a run from its files: what it says, whatever the run holds."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from report_pages import Parsed, page_of, score_rows, training_rows, write_run

from asd_jax.data.clips import OWN, Clip
from asd_jax.errors import UserError
from asd_jax.page.render import printable
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.page import with_page, write_page
from asd_jax.runs.places import join_places, read_places, write_places

MOST_BYTES = 10_000_000


def labelled(n=30, **settings):
    rng = np.random.default_rng(n)
    labels = np.repeat([0, 1], n // 2)
    return score_rows(rng.gamma(3, 0.5, n) + 1.5 * labels, labels, **settings)


def test_unlabelled_recordings_have_a_histogram_and_a_list(tmp_path):
    page = Parsed(page_of(tmp_path / "run", score_rows([1.0, 5.0, 1.5, 7.0])))
    assert "2 of 4 recordings are called anomalous" in page.text and "Overview" not in page.text
    assert "ROC" not in page.text.replace("no ROC curves", "") and "AUC" not in page.text
    (chart,) = page.data.values()
    assert chart["above"]["unknown"][chart["start"]] == 2
    assert chart["thresholds"][chart["start"]] == 2
    assert page.text.index("3.wav") < page.text.index("1.wav") < page.text.index("2.wav")


def test_labelled_recordings_have_curves_and_tables(tmp_path):
    rows = labelled(machine="fan") + labelled(20, machine="fan", section="02")
    text = page_of(tmp_path / "run", rows, year=2020)
    page = Parsed(text)
    for words in ("section 00: AUC", "section 02: AUC", "pAUC (McClish)", "precision", "0.1"):
        assert words in page.text or words in text
    # The same numbers as in the table of the terminal.
    results = (tmp_path / "run/results.md").read_text()
    (auc,) = re.findall(r"\| fan \| 00 \| all \| 15/15 \| ([\d.]+) \[", results)
    assert f"section 00: AUC {auc} %" in page.text
    tables = [table for table in page.all("caption")]
    assert len(tables) >= 6


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        ([3.0], 2.0),
        ([2.5] * 6, 2.0),
        ([np.nan, -np.inf, np.inf, 1.0], 2.0),
        ([np.nan] * 3, np.nan),
        ([1.0, 2.0, 3.0], np.nan),
        ([-5.0, 1e12, 3.0], 2.0),
    ],
)
@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_odd_scores_make_a_page(tmp_path, scores, threshold, with_labels):
    labels = [i % 2 for i in range(len(scores))] if with_labels else None
    rows = score_rows(scores, labels, threshold=threshold)
    page = Parsed(page_of(tmp_path / "run", rows))
    (chart,) = page.data.values()
    numbers = chart["thresholds"] + chart["places"]
    assert np.isfinite(numbers).all() and 0 <= chart["start"] < len(chart["thresholds"])
    assert ("has no threshold here" in page.text) == np.isnan(threshold)


def test_no_test_clip_makes_a_page(tmp_path):
    page = Parsed(page_of(tmp_path / "run", [], training_rows()))
    assert "There was nothing to score" in page.text and page.data == {}


NAMES = (
    "<b>fett</b>",
    '"><script>alert(1)</script>',
    "Größe 'ß' & Co",
    "</script><!--",
    "日本",
    "a\tb",
)


def test_names_are_shown_as_they_are_and_are_no_markup(tmp_path):
    rows = [
        row
        for i, name in enumerate(NAMES)
        for row in labelled(6, machine=f"m{i}{name}", name="{}" + name)
    ]
    text = page_of(tmp_path / "<i>run", rows, year=2020)
    page = Parsed(text)
    assert len(page.all("script")) == 2 and not page.all("b") and not page.all("i")
    for name in NAMES[:-1]:
        assert name in page.text, name
    assert r"a\tb" in page.text
    assert "<!--" not in text
    # The one script that may run is the page's own.
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert not re.search(r"\son\w+=", re.sub(r">[^<]*<", "><", text))


def test_bytes_that_are_no_text_are_shown_as_escapes():
    assert printable("a\udcffb\x07\u202e") == r"a\xffb\x07\u202e"


@pytest.mark.slow
def test_ten_thousand_clips_make_a_page_of_bounded_size(tmp_path):
    rng = np.random.default_rng(0)
    rows, training = [], []
    for m in range(30):
        n = 334
        labels = (np.arange(n) % 2).tolist()
        rows += score_rows(rng.lognormal(size=n) + labels, labels, machine=f"machine {m}")
        training += training_rows(f"machine {m}", n=400)
    sound = rng.normal(0, 0.2, 16_000 * 12).clip(-1, 1)
    soundfile.write(tmp_path / "a.flac", sound, 16_000)
    run_dir = write_run(tmp_path / "run", rows, training, 2020)
    places = [Clip(r.machine, "00", "test", r.clip, str(tmp_path / "a.flac")) for r in rows]
    write_places(run_dir.recordings_csv, places)
    write_page(run_dir.path, [].append, explain=lambda clips: {})
    # Noise, which no codec makes smaller, in all players.
    size = run_dir.report_html.stat().st_size
    assert 5_000_000 < size < MOST_BYTES
    page = Parsed(run_dir.report_html.read_text(encoding="utf-8"))
    assert len(page.data) == 30 and len(page.all("audio")) == 30
    assert all(len(chart["thresholds"]) <= 534 for chart in page.data.values())
    assert "The 20 highest of 334; scores.csv has all." in page.text


def test_one_machine_of_ten_thousand_clips(tmp_path):
    rng = np.random.default_rng(0)
    rows = score_rows(rng.lognormal(size=10_000), rng.integers(0, 2, 10_000).tolist())
    text = page_of(tmp_path / "run", rows)
    assert len(text) < 300_000
    (chart,) = Parsed(text).data.values()
    assert len(chart["thresholds"]) <= 512


def test_more_sections_than_a_page_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("asd_jax.runs.page._CHARTS", 3)
    rows = [r for i in range(5) for r in score_rows([1.0, 3.0], machine="m", section=f"{i:03}")]
    page = Parsed(page_of(tmp_path / "run", rows, training_rows("m", "000")))
    assert len(page.data) == 3 and "2 more sections have no figure" in page.text


def recorded(tmp_path, rows, seconds=1.0):
    """A run whose recordings exist."""
    run_dir = write_run(tmp_path / "run", rows)
    clips = []
    for i, row in enumerate(rows):
        path = tmp_path / "sounds" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(i).normal(0, 0.1, round(16_000 * seconds))
        soundfile.write(path, noise, 16_000)
        clips.append(Clip(row.machine, row.section, "test", row.clip, str(path)))
        training = f"train{i}.wav"
        clips.append(Clip(row.machine, row.section, "train", training, str(path)))
    write_places(run_dir.recordings_csv, clips)
    return run_dir


def test_recordings_are_heard_and_seen(tmp_path):
    run_dir = recorded(tmp_path, score_rows(np.arange(24.0)))
    said = []
    write_page(run_dir.path, said.append, explain=lambda clips: {})
    page = Parsed(run_dir.report_html.read_text())
    players = page.all("audio")
    assert len(players) == 6 and not said
    assert [p["aria-label"] for p in players][:2] == ["Play 23.wav", "Play 22.wav"]
    assert "To compare: a typical normal recording" in page.text
    assert len(page.all("image")) == 6
    assert all(p["src"].startswith("data:audio/flac;base64,") for p in players)


def test_recordings_that_were_moved_or_damaged_are_said(tmp_path):
    run_dir = recorded(tmp_path, score_rows(np.arange(8.0)))
    (tmp_path / "sounds/7.wav").unlink()
    (tmp_path / "sounds/6.wav").write_bytes(b"RIFF")
    said = []
    write_page(run_dir.path, said.append, explain=lambda clips: {})
    page = Parsed(run_dir.report_html.read_text())
    assert len(said) == 2 and "7.wav" in said[0] and "6.wav" in said[1]
    assert page.text.count("it is not where it was, or cannot be read") == 2
    shutil.rmtree(tmp_path / "sounds")
    write_page(run_dir.path, [].append, explain=lambda clips: {})
    page = Parsed(run_dir.report_html.read_text())
    assert not page.all("audio") and "Without pictures and players" in page.text


def test_a_p_value_is_shown_where_scores_have_one(tmp_path):
    rows = [row._replace(p_value=0.0125) for row in score_rows([1.0, 5.0])]
    run_dir = write_run(tmp_path / "run", rows)
    write_page(run_dir.path, [].append, explain=lambda clips: {})
    assert "p-value 0.0125" in Parsed(run_dir.report_html.read_text()).text


def test_places_of_recordings_of_any_name(tmp_path):
    name = os.fsdecode(b"gr\xf6\xdfe.wav")
    clips = [
        Clip("fan", "00", "test", "a", f"/data/{name}"),
        Clip("fan", "00", "train", "a", '/data/"x",\n.wav'),
        Clip("fan", "00", "other", "b", "/data/b.wav"),
        Clip("fan", "00", "train", "c", "/data/c.wav", perturbation="speed=2"),
    ]
    write_places(tmp_path / "one.csv", clips)
    training, test = read_places(tmp_path / "one.csv")
    assert training == {("fan", "00", "a"): '/data/"x",\n.wav'}
    assert test == {("fan", "00", "a"): f"/data/{name}"}
    write_places(tmp_path / "two.csv", [Clip("fan", "00", "test", "d", "/d.wav"), clips[0]])
    join_places(tmp_path / "all.csv", [tmp_path / f"{n}.csv" for n in ("one", "two", "none")])
    joined = read_places(tmp_path / "all.csv")
    assert joined[0] == training and len(joined[1]) == 2
    assert read_places(tmp_path / "none.csv") == ({}, {})
    (tmp_path / "one.csv").write_text("cut")
    with pytest.raises(UserError, match="one.csv is damaged"):
        read_places(tmp_path / "one.csv")


def test_report_makes_a_missing_page_and_says_where(tmp_path, capsys):
    run_dir = recorded(tmp_path, score_rows(np.arange(8.0)))
    run_dir.model.unlink()
    run_dir.ensemble.write_text("{}")
    status, out, err = run_cli(capsys, "report", run_dir.path)
    assert status == 0 and f"{run_dir.report_html} shows it" in err, err
    made = run_dir.report_html.read_bytes()
    run_dir.report_html.write_bytes(b"as it was")
    assert "shows it" in with_page(run_dir.path, print)
    assert run_dir.report_html.read_bytes() == b"as it was"
    run_dir.report_html.unlink()
    with_page(run_dir.path, print)
    assert run_dir.report_html.read_bytes() == made
    run_dir.results_md.unlink()
    with pytest.raises(UserError, match="has no results yet"):
        write_page(run_dir.path, print)


def test_a_page_of_other_test_clips_goes_with_its_results(tmp_path):
    run_dir = recorded(tmp_path, score_rows([1.0, 3.0]))
    write_page(run_dir.path, print, explain=lambda clips: {})
    run_dir._remove_results()
    assert not run_dir.report_html.exists() and not run_dir.recordings_csv.exists()


def test_a_run_writes_its_page(single, cache, tmp_path, capsys):
    """By the command, of a system that says what its scores are made of."""
    arguments = ["run", "--config=spectral", f"--data_dir={single}", f"--cache_dir={cache}"]
    run_dir = RunDirectory(tmp_path / "run")
    status, _, err = run_cli(capsys, *arguments, f"--out_dir={run_dir.path}")
    assert status == 0, err
    page = Parsed(run_dir.report_html.read_text(encoding="utf-8"))
    assert len(page.all("audio")) == 6 and "The score is made of, in dB from normal" in page.text
    assert "spectral" in page.text and "front_end.n_mels" in page.text
    explained = page.text.count("level ")
    # Interrupted before it was written: it is made again, from the recordings and the model.
    run_dir.report_html.unlink()
    status, _, err = run_cli(capsys, *arguments, f"--out_dir={run_dir.path}")
    assert status == 0 and "nothing to do" in err
    again = Parsed(run_dir.report_html.read_text(encoding="utf-8"))
    assert len(again.all("audio")) == 6 and again.text.count("level ") == explained
    environment = json.loads(run_dir.environment.read_text())
    assert environment["packages"]["jax"] in again.text


def test_report_compares_runs_clip_by_clip(tmp_path, capsys):
    better = [row._replace(score=row.score + 2 * row.label) for row in labelled(40)]
    first = write_run(tmp_path / "first", labelled(40), year=2020)
    second = write_run(tmp_path / "second", better, year=2020)
    other = write_run(tmp_path / "other", labelled(20), year=2020)
    status, out, _ = run_cli(capsys, "report", first.path, second.path)
    assert status == 0 and "second − first" in out and "95 % interval" in out
    lines = [line.split() for line in out.splitlines()]
    (line,) = [line for line in lines if line[:3] == ["pump", "all", "AUC"]]
    assert line[4].startswith("+")
    status, out, _ = run_cli(capsys, "report", first.path, other.path)
    assert status == 0 and "not compared, as the test clips differ: pump 00" in out
    own = write_run(tmp_path / "own", score_rows([1.0, 3.0]), year=OWN)
    status, out, _ = run_cli(capsys, "report", first.path, own.path)
    assert status == 0 and "−" not in out
