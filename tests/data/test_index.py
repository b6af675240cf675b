"""What a data folder holds and what is wrong with it."""

import numpy as np
import pytest
import scipy.io.wavfile

from asd_jax.data.index import format_summary, index, read_headers, summarise
from asd_jax.data.layouts import EXPECTED, find_clips, scan
from asd_jax.errors import UserError


def write(root, path, seconds=0.5, rate=16000, channels=1):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = np.resize(np.array([[100], [-100]], np.int16), (round(seconds * rate), channels))
    samples[::2] = 100
    scipy.io.wavfile.write(file, rate, samples)
    return file


@pytest.fixture
def healthy(tmp_path):
    """Two machines of 2022: fan with both domains, bearing with hidden labels."""
    for i in range(4):
        write(tmp_path, f"fan/train/section_00_source_train_normal_{i:04}.wav")
    write(tmp_path, "fan/train/section_00_target_train_normal_0000.wav")
    for domain in ("source", "target"):
        for label in ("normal", "anomaly"):
            write(tmp_path, f"fan/test/section_00_{domain}_test_{label}_0000.wav")
    write(tmp_path, "bearing/train/section_03_source_train_normal_0000.wav", seconds=0.75)
    write(tmp_path, "bearing/test/section_03_0000.wav", seconds=0.75)
    return tmp_path


def summary_of(root):
    found = scan(root)
    infos = read_headers([clip.path for clip in found.clips])
    return summarise(found.clips, infos, found.strays, len(found.supplemental))


def describe(root):
    """What the command prints below the folder's name."""
    return format_summary(index(root), str(root))


def problems_of(root):
    return {p.what: [w.replace(f"{root}/", "") for w in p.where] for p in summary_of(root).problems}


def test_counts(healthy):
    summary = summary_of(healthy)
    counts = {
        row.key: (row.train, row.normal, row.anomaly, row.unlabelled, row.seconds)
        for row in summary.rows
    }
    assert counts == {
        (2022, "dev", "bearing", "03", ""): (0, 0, 0, 1, 0.75),
        (2022, "dev", "bearing", "03", "source"): (1, 0, 0, 0, 0.75),
        (2022, "dev", "fan", "00", "source"): (4, 1, 1, 0, 3.0),
        (2022, "dev", "fan", "00", "target"): (1, 1, 1, 0, 1.5),
    }
    assert summary.formats == {(16000, 1): 11}
    assert summary.lengths == {"bearing": (0.75, 0.75), "fan": (0.5, 0.5)}
    assert summary.problems == ()


def test_table_reads_well(healthy):
    write(healthy, "fan/supplemental/section_00_noise_0000.wav")
    lines = describe(healthy).splitlines()
    table = [" ".join(line.split()) for line in lines[:6]]
    assert table[0] == "year set machine section domain train normal anomaly unlabelled hours"
    assert "2022 dev fan 00 source 4 1 1 0 0.00" in table
    assert table[-1] == "total 6 2 2 1 0.00"
    assert len({len(line) for line in lines[:6]}) == 1
    assert "11 clips of 16000 Hz, 1 channel" in lines
    assert "bearing: 0.75 s a clip" in lines
    assert (
        "1 supplemental clips, which detector.noise or detector.supplemental makes use of" in lines
    )
    assert lines[-1] == "Nothing is wrong."
    assert max(map(len, lines)) <= 100


def test_damaged_files(healthy):
    train = "fan/train/section_00_source_train_normal_"
    (healthy / f"{train}0000.wav").write_bytes(b"")
    cut = healthy / f"{train}0001.wav"
    cut.write_bytes(cut.read_bytes()[:500])
    (healthy / f"{train}0002.wav").write_text("not sound " * 100)
    assert problems_of(healthy) == {
        "empty file": [f"{train}0000.wav"],
        "truncated": [f"{train}0001.wav"],
        "not audio": [f"{train}0002.wav"],
    }
    row = next(r for r in summary_of(healthy).rows if r.key[-1] == "source" and r.train == 4)
    assert row.seconds == 1.5  # one of four training clips is left, and two test clips


def test_odd_rates_channels_and_lengths(healthy):
    test = "fan/test/section_00_source_test_normal_000"
    write(healthy, f"{test}1.wav", rate=8000)
    write(healthy, f"{test}2.wav", channels=2)
    write(healthy, f"{test}3.wav", seconds=0.6)
    assert problems_of(healthy) == {
        "8000 Hz where most have 16000": [f"{test}1.wav"],
        "2 channels where most have 1": [f"{test}2.wav"],
        "other length than most of fan (0.50 s)": [f"{test}3.wav"],
    }
    assert "fan: 0.50 to 0.60 s a clip" in describe(healthy)


def test_levels_that_no_microphone_gives(healthy):
    """Those of 16-bit files; a full-scale sine is not clipped, one cut off at full scale is."""
    sine = np.sin(2 * np.pi * 50 * np.arange(8000) / 16000)
    train = "fan/train/section_00_source_train_normal_000{}.wav"
    noise = np.random.default_rng(0).normal(0, 900, 8000)
    samples = [np.full(8000, -7), 32767 * sine, np.clip(40000 * sine, -32768, 32767), noise]
    for i, values in enumerate(samples):
        scipy.io.wavfile.write(healthy / train.format(i), 16000, values.astype(np.int16))
    found = index(healthy)
    assert {p.what: [w.replace(f"{healthy}/", "") for w in p.where] for p in found.problems} == {
        "constant, all samples equal": [train.format(0)],
        "clipped, samples staying at full scale": [train.format(2)],
        # Most of fan has a root mean square of 100, the noise of 900: 19 dB.
        "20 dB or more louder than most of their machine": [train.format(1), train.format(2)],
    }
    assert found.usable == 11
    assert index(healthy, headers_only=True).problems == ()


def test_what_cannot_be_used_is_counted_apart(healthy):
    train = "fan/train/section_00_source_train_normal_000{}.wav"
    scipy.io.wavfile.write(healthy / train.format(0), 16000, np.full(8000, 2.0**15, np.float32))
    scipy.io.wavfile.write(healthy / train.format(1), 16000, np.full(8000, np.nan, np.float32))
    found = index(healthy)
    assert found.usable == 9
    assert {p.what: len(p.where) for p in found.problems} == {"not full scale": 1, "not finite": 1}


def test_files_that_fit_no_layout(healthy):
    for name in "abcde":
        write(healthy, f"{name}.wav")
    assert problems_of(healthy) == {"fits no layout": [f"{name}.wav" for name in "abcde"]}
    text = describe(healthy)
    assert "  5 × fits no layout: a.wav, b.wav, c.wav, and 2 more\n" in text
    assert text.endswith(EXPECTED)


def test_what_is_no_recording_and_what_is_not_searched_is_listed(healthy):
    for name in ("notes.txt", "list.csv"):
        (healthy / "fan/train" / name).write_text("no sound")
    for name in (".Trash-1000", ".snapshot", "__MACOSX", "@eaDir"):
        (healthy / name).mkdir()
    lines = describe(healthy).splitlines()
    assert (
        "2 files among the clips that are no recordings and are not used: fan/train/list.csv, "
        "fan/train/notes.txt"
    ) in lines
    assert (
        "4 hidden folders, bins and snapshots that are not searched: .Trash-1000, .snapshot, "
        "@eaDir, and 1 more"
    ) in [line.replace("__MACOSX", "@eaDir") for line in lines]
    assert lines[-1] == "Nothing is wrong."


def test_same_name_twice(tmp_path):
    for level in ("0_dB_fan", "6_dB_fan"):
        for path in ("normal/0.wav", "normal/1.wav", "abnormal/0.wav"):
            write(tmp_path, f"{level}/fan/id_00/{path}")
    twice = [f"6_dB_fan/fan/id_00/{p}" for p in ("abnormal/0.wav", "normal/0.wav", "normal/1.wav")]
    assert problems_of(tmp_path) == {"same machine, section and name as another clip": twice}


def test_gaps(tmp_path):
    for path in (
        "a/train/normal_id_00_0.wav",
        "b/test/normal_id_00_0.wav",
        "c/train/normal_id_00_0.wav",
        "c/test/anomaly_id_00_0.wav",
        "d/train/normal_id_00_0.wav",
        "d/train/anomaly_id_00_0.wav",
        "d/test/normal_id_00_0.wav",
        "d/test/anomaly_id_00_0.wav",
        "e/train/normal_id_01_0.wav",
        "e/test/id_01_0.wav",
    ):
        write(tmp_path, path)
    assert problems_of(tmp_path) == {
        "no test clips": ["2020 dev a 00"],
        "no training clips": ["2020 dev b 00"],
        "test clips are all normal, so there is no AUC": ["2020 dev b 00"],
        "test clips are all anomalous, so there is no AUC": ["2020 dev c 00"],
        "anomalous clips in the training folder": ["2020 dev d 00"],
    }


def test_headers_keep_their_order_and_progress_is_told(healthy):
    paths = [clip.path for clip in find_clips(healthy)]
    told = []
    infos = read_headers(paths, threads=3, progress=lambda *done: told.append(done))
    lengths = [0.75 if "bearing" in path else 0.5 for path in paths]
    assert [info.n_samples / 16000 for info in infos] == lengths
    assert told == [(i + 1, 11) for i in range(11)]


def test_nothing_but_strays(tmp_path):
    write(tmp_path, "x.wav")
    text = describe(tmp_path)
    assert "1 × fits no layout: x.wav" in text
    assert "year" not in text


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        describe(tmp_path / "nowhere")


def test_paths_are_absolute_without_a_root(healthy):
    write(healthy, "x.wav")
    assert str(healthy / "x.wav") in format_summary(summary_of(healthy))


def test_real_folders(shared):
    assert describe(shared / "data/mimii_faults").endswith("Nothing is wrong.")
    assert "76 × fits no layout" in describe(shared / "data/mimii_id00")
    assert "2 clips of 16000 Hz, 8 channels" in describe(shared / "data/mimii_8ch")
