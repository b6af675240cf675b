"""Fitting and scoring as a library: what goes in, what is refused."""

import dataclasses
import unicodedata

import jax
import numpy as np
import pytest
from fits import fit_table, trained_before

import asd_jax
from asd_jax import UserError
from asd_jax.config import load_config
from asd_jax.fitting.recordings import score_files

BANDS = 16
TINY = {"front_end.n_mels": str(BANDS), "train.epochs": "1", "train.batch_size": "64"}
DENSE = {**TINY, "detector.hidden": "16,", "detector.latent": "2"}
BETWEEN = {**TINY, "detector.encoder": "8,", "seeds": "0"}
CONFIG = load_config("dense_ae", {**DENSE, "train.epochs": "2", "seeds": "0,1"})
RNG = np.random.default_rng(0)


def clips(count, frames=20):
    return [RNG.normal(size=(frames + i, BANDS)).astype(np.float32) for i in range(count)]


def first_model_of(weights):
    return jax.tree.map(lambda leaf: leaf[:1], weights)


@pytest.fixture(scope="module")
def fitted():
    return asd_jax.fit(CONFIG, clips(12), machine="fan")


@pytest.fixture(scope="module")
def waveforms():
    return RNG.uniform(-0.5, 0.5, (2, 16000))


def test_integers_are_scaled_to_full_scale(fitted, waveforms):
    """Rounding to 16 bits moves a log-mel of noise at half of full scale by far less than 1 %."""
    integers = np.round(waveforms * 2**15).astype(np.int16)
    np.testing.assert_allclose(
        fitted.score(integers, 16000), fitted.score(waveforms, 16000), rtol=1e-2
    )
    exact = fitted.score(integers / 2.0**15, 16000)
    np.testing.assert_array_equal(fitted.score(integers.astype(np.int32) * 2**16, 16000), exact)
    silence = np.zeros((1, 16000))
    np.testing.assert_array_equal(
        fitted.score(silence.astype(np.int32), 16000), fitted.score(silence, 16000)
    )


def test_another_rate_is_resampled(fitted, waveforms):
    import librosa

    expected = librosa.resample(waveforms.astype(np.float32), orig_sr=16000, target_sr=16000 // 2)
    np.testing.assert_allclose(
        fitted.score(expected, 8000),
        fitted.score(librosa.resample(expected, orig_sr=8000, target_sr=16000), 16000),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("wrong", "rate", "message"),
    [
        ([np.zeros(16000), np.zeros(8000)], 16000, "unequal lengths"),
        (np.zeros((2, 3, 16000)), 16000, "must be"),
        (np.zeros((0, 16000)), 16000, "must be"),
        (np.zeros((2, 16000), np.uint8), 16000, "must be"),
        (np.full((2, 16000), np.nan), 16000, "NaN"),
        (np.full((2, 16000), 2**14, np.int64), 16000, "int64, which no recording has"),
        ([[2**14, -(2**14)] * 8000], 16000, "int64, which no recording has"),
        (np.full((2, 16000), 2**14, np.int32), 16000, "reach 16384, the range of int16"),
        (np.full((2, 16000), 32767.0), 16000, "reach 32767 where full scale is 1"),
        (np.zeros((2, 16000)), 0, "sample_rate"),
        (np.zeros((2, 16000)), 44.1, "sample_rate"),
        (np.zeros((2, 100)), 16000, "1 frames where 5 are needed"),
    ],
)
def test_unusable_waveforms_are_one_line(fitted, wrong, rate, message):
    with pytest.raises(UserError, match=message):
        fitted.score(wrong, rate)


def test_sections_and_domains_are_checked():
    for wrong in ({"sections": ["00"]}, {"domains": ["source"] * 3}, {"domains": "sauce"}):
        with pytest.raises(UserError):
            asd_jax.fit(CONFIG, clips(4), **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"machine": ["fan"]},
            r"^machine is \['fan'\] \(list\); it must be one name, as in 'fan'$",
        ),
        ({"machine": None}, "^machine is None; it must be one name"),
        ({"machine": 3}, r"^machine is 3 \(int\)"),
        ({"sections": None}, "^sections is None; it must be one for all clips, or a list"),
        ({"sections": 0.5}, "^sections is 0.5; it must be one for all"),
        ({"sections": [["00"]] * 4}, r"^a section is \['00'\] \(list\); it must be a text or a wh"),
        ({"sections": [True] * 4}, r"^a section is True \(bool\)"),
        ({"domains": None}, "^domains is None"),
        ({"domains": [["source"]] * 4}, r"^domains: \['source'\] is neither"),
        ({"domains": 1}, "^domains: 1 is neither"),
        ({"outliers": 5}, r"^outliers is 5; it must be a list of arrays of numbers"),
        ({"config": 5}, r"^config is 5 \(int\); it must be a configuration or the name of one$"),
        ({"config": ["dense_ae"]}, r"^config is \['dense_ae'\] \(list\)"),
        ({"features": "noise.wav"}, "^features is 'noise.wav'; it must be a list of arrays"),
        ({"features": 5}, "^features is 5; it must be a list of arrays"),
        ({"features": [["a"]]}, "^features is .*it must be a list of arrays of numbers"),
        ({"features": {"a": 1}}, r"^features\['a'\] has no clips; it must be a list of arrays"),
    ],
)
def test_arguments_of_another_type_are_one_line(wrong, message):
    with pytest.raises(UserError, match=message):
        asd_jax.fit(**{"config": CONFIG, "features": clips(4), **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"machine": ["fan"]}, r"^machine is \['fan'\] \(list\); it must be one name, .*or None$"),
        ({"machine": 5}, r"^machine is 5 \(int\)"),
        ({"section": ["00"]}, r"^section is \['00'\] \(list\)"),
        ({"section": 0.5}, r"^section is 0.5 \(float\)"),
        ({"seed": "0"}, r"^seed is '0' \(str\); it must be one whole number, or None for the mean"),
        ({"seed": [0, 1]}, r"^seed is \[0, 1\] \(list\)"),
        ({"seed": True}, r"^seed is True \(bool\)"),
        ({"seed": 0.0}, r"^seed is 0.0 \(float\)"),
    ],
)
def test_whose_score_is_asked_for_in_another_type_is_one_line(fitted, waveforms, wrong, message):
    for ask in (lambda **w: fitted.score(waveforms, 16000, **w), fitted.threshold):
        with pytest.raises(UserError, match=message):
            ask(**wrong)


def test_numbers_of_numpy_are_numbers(fitted, waveforms):
    expected = fitted.score(waveforms, 16000, seed=1)
    np.testing.assert_array_equal(fitted.score(waveforms, 16000, seed=np.int64(1)), expected)
    assert fitted.threshold(seed=np.int64(1)) == fitted.threshold(seed=1)


def test_a_machine_s_name_may_be_decomposed():
    """Of systems that store names so; in the folders it is composed."""
    config = dataclasses.replace(CONFIG, seeds=(0,))
    composed, decomposed = (unicodedata.normalize(form, "Gerät") for form in ("NFC", "NFD"))
    fitted = asd_jax.fit(config, clips(4), machine=decomposed)
    assert fitted.machines == (composed,)
    assert fitted.threshold(machine=decomposed) == fitted.threshold(machine=composed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: asd_jax.load(["run"]),
            r"^the run directory is \['run'\] \(list\); it must be a path",
        ),
        (lambda: asd_jax.load(None), "^the run directory is None; it must be a path"),
        (lambda: asd_jax.load_config(5), r"^the configuration is 5 \(int\); it must be a path"),
        (lambda: asd_jax.load_config("dense_ae", ["a"]), r"^overrides is \['a'\] \(list\)"),
        (
            lambda: asd_jax.load_config("dense_ae", {"train.epochs": 5}),
            r"^overrides\['train.epochs'\] is 5 \(int\); it must be a text",
        ),
        (lambda: asd_jax.run("dense_ae", "data", "run"), r"^config is 'dense_ae' \(str\); it must"),
        (
            lambda: asd_jax.run(CONFIG, ["data"], "run"),
            r"^data_dir is \['data'\] \(list\); it must",
        ),
        (lambda: asd_jax.run(CONFIG, None, "run"), "^data_dir is None; it must be a path"),
        (lambda: asd_jax.run(CONFIG, "data", 5), r"^out_dir is 5 \(int\)"),
        (
            lambda: asd_jax.run(CONFIG, "data", "run", cache_dir=5),
            "^cache_dir is 5 .*path or None$",
        ),
        (lambda: asd_jax.run(CONFIG, "data", "run", members_dir=5), "^members_dir is 5"),
        (
            lambda: asd_jax.run(CONFIG, "data", "run", on_bad_clip="ignore"),
            "^on_bad_clip is 'ignore'; it must be 'stop' or 'skip'$",
        ),
        (lambda: asd_jax.run(CONFIG, "data", "run", verify="no"), r"^verify is 'no' \(str\); it"),
        (lambda: asd_jax.ensemble("runs", "both"), r"^paths is 'runs' \(str\); it must be a list"),
        (lambda: asd_jax.ensemble(["a", 5], "both"), "^a run directory in paths is 5"),
        (lambda: asd_jax.ensemble(["a", "b"], None), "^out_dir is None"),
        (
            lambda: asd_jax.ensemble(["a", "b"], "both", combine="sum"),
            "^combine is 'sum'; it must be 'mean' or 'max'$",
        ),
    ],
)
def test_the_other_public_functions_check_their_arguments(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call()
    assert not [*tmp_path.iterdir()]


def test_a_section_may_be_a_number_and_must_be_said_where_there_are_several():
    config = load_config("interpolation_ae", BETWEEN)
    both = asd_jax.fit(config, clips(4), sections=[3, 3, 5, 5])
    with pytest.raises(UserError, match="several sections .*: 3, 5"):
        both.score_features(clips(2))
    with trained_before(first_model_of(both.weights)):
        fitted = asd_jax.fit(config, clips(4), sections=3)
    assert fitted.score_features(clips(2), section=3).shape == (2,)
    with pytest.raises(UserError, match="section 4 was not fitted; there are 3"):
        fitted.score_features(clips(2), section=4)


@pytest.mark.parametrize("seeds", [[0], (0.5,), ("0",), (), (0, 0), (-1,), (2**40,)])
def test_seeds_are_checked(seeds):
    with pytest.raises(UserError, match="seeds"):
        dataclasses.replace(CONFIG, seeds=seeds)


def test_a_member_without_calibration_does_not_stop_the_others(fitted):
    """Clips that never vary have no covariance: only their machine's scores are NaN."""
    from asd_jax.data.clips import NORMAL, Clip
    from asd_jax.features.table import ArrayFeatures
    from asd_jax.runtime.progress import Silent

    class Lines(Silent):
        said = []

        def line(self, text):
            self.said.append(text)

    config = load_config("dense_ae", {**DENSE, "seeds": "0", "detector.score": "mahalanobis"})
    silent = [np.zeros((20, BANDS), np.float32)] * 4
    table = [
        Clip(machine, "00", "train", str(i), "", label=NORMAL)
        for machine in ("fan", "off")
        for i in range(4)
    ]
    # A network of zeros leaves silence exactly as it is.
    weights = jax.tree.map(lambda leaf: np.stack([leaf[0], 0 * leaf[1]]), fitted.weights)
    with trained_before(weights):
        both = fit_table(config, ArrayFeatures(table, clips(4) + silent), reporter=Lines())
    assert any("off seed 0" in line and "will be NaN" in line for line in Lines.said)
    assert np.isfinite(both.score_features(clips(2), machine="fan")).all()
    assert np.isnan(both.score_features(clips(2), machine="off")).all()
    alone = jax.tree.map(lambda leaf: leaf[1:], weights)
    with trained_before(alone), pytest.raises(UserError, match="covariance"):
        asd_jax.fit(config, silent)
    assert "array" not in repr(fitted)


def test_embeddings_of_a_clip_s_own_frames():
    """Mean and deviation of each band over the clip; batches have those of their pieces."""
    from asd_jax.audio import ViewSpec
    from asd_jax.data.clips import Clip
    from asd_jax.features.batches import clip_batches, table_clips
    from asd_jax.features.embeddings import log_mel_embeddings
    from asd_jax.features.table import ArrayFeatures

    arrays = [clip[:, :4] for clip in clips(35)]
    features = ArrayFeatures([Clip("", "", "", "", "")] * len(arrays), arrays)
    (_, batch), *_ = clip_batches(table_clips(features, [0]), ViewSpec(5), 128)
    assert batch.embedding is None
    found = log_mel_embeddings(features)
    expected = [[*clip.astype(float).mean(0), *clip.astype(float).std(0)] for clip in arrays]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    features.embeddings = found
    ((of_pieces, batch),) = clip_batches(table_clips(features, [34, 2]), ViewSpec(5), 2**20)
    indices = np.array([34, 2])[[clip.position for clip in of_pieces]]
    np.testing.assert_array_equal(batch.embedding[: len(indices)], found[indices])
    assert not batch.embedding[len(indices) :].any()


def test_training_scores_of_a_run_and_the_thresholds_from_them(tmp_path, no_pictures):
    """A row a training clip and seed, of several trainings too; the model's scores and no others.

    Its numbers are float32, written in full, so thresholds that follow from them are equal.
    """
    import soundfile

    from asd_jax import pipeline
    from asd_jax.evaluation.results import read_training_csv
    from asd_jax.runtime.progress import Silent
    from asd_jax.scoring.threshold import gamma_threshold

    rng = np.random.default_rng(1)
    waveforms = {}
    for machine, sections in (("fan", ("00", "02")), ("pump", ("00",))):
        for split, count in (("train", 11), ("test", 1)):
            folder = tmp_path / "data" / machine / split
            folder.mkdir(parents=True)
            for section in sections:
                for i in range(count):
                    name = f"normal_id_{section}_{i:08}.wav"
                    waveform = rng.uniform(-0.3, 0.3, 8000 + 3000 * (i % 2))
                    soundfile.write(folder / name, waveform, 16000, subtype="FLOAT")
                    if split == "train":
                        waveforms[machine, section, name] = waveform.astype(np.float32)
    config = load_config(
        "iaeo3",
        {
            **BETWEEN,
            "embedding": "none",
            "detector.predictor": "max",
            "detector.trainings": "2",
            "seeds": "3,5",
        },
    )
    run = tmp_path / "run"
    pipeline.run(config, tmp_path / "data", run, cache_dir=tmp_path / "cache", reporter=Silent())
    rows = read_training_csv(run / "training_scores.csv")
    keys = [(row.machine, row.section, row.seed, row.clip) for row in rows]
    wanted = {(m, s, seed, clip) for m, s, clip in waveforms for seed in (3, 5)}
    assert len(keys) == len(wanted) == 66 and set(keys) == wanted

    fitted = asd_jax.load(run)
    assert len(fitted.models) == 3 * 2 * 2
    for machine, section in (("fan", "00"), ("fan", "02"), ("pump", "00")):
        of_seeds = {}
        for seed in (3, 5):
            own = [row for row in rows if row[:2] == (machine, section) and row.seed == seed]
            of_seeds[seed] = np.array([row.score for row in own], np.float32)
            asked = {"machine": machine, "section": section, "seed": seed}
            # Whole, not in a batch of clips of other lengths: to rounding.
            found = [
                fitted.score(waveforms[machine, section, row.clip], 16000, **asked)[0]
                for row in own[::5]
            ]
            np.testing.assert_allclose(found, of_seeds[seed][::5], rtol=1e-4)
            assert fitted.threshold(**asked) == gamma_threshold(of_seeds[seed]).value
        mean = np.mean([*of_seeds.values()], axis=0)
        asked = {"machine": machine, "section": section}
        assert fitted.threshold(**asked) == gamma_threshold(mean).value


@pytest.mark.parametrize(
    ("kind", "embeddings", "message"),
    [
        ("edgel3", None, "the edgel3 embeddings of the clips are missing"),
        ("edgel3", np.zeros((3, 64)), r"embeddings are float64 \(3, 64\)"),
        ("edgel3", np.zeros(4), "embeddings are"),
        ("edgel3", np.full((4, 64), np.nan), "NaN"),
        ("none", np.zeros((4, 64)), "embedding is none in the configuration"),
        ("log_mel", np.zeros((4, 64)), "embedding is log_mel in the configuration"),
    ],
)
def test_embeddings_of_another_form_are_one_line(kind, embeddings, message):
    config = load_config("iaeo3", {"front_end.n_mels": str(BANDS), "embedding": kind})
    with pytest.raises(UserError, match=message):
        asd_jax.fit(config, clips(4), embeddings=embeddings)


@pytest.fixture
def recordings(tmp_path, waveforms):
    """One a place in a data set, and one that fits no layout."""
    import soundfile

    def write(path):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / path, waveforms[0], 16000)
        return tmp_path / path

    return write


def test_a_recording_of_another_machine_is_refused(fitted, recordings):
    pump = recordings("pump/test/normal_id_00_00000000.wav")
    with pytest.raises(
        UserError, match=r"'pump' was not fitted.*\(its folder says pump; --machine"
    ):
        score_files(fitted, [pump])
    (row,) = score_files(fitted, [pump], machine="fan")
    assert row.machine == "fan"


def test_what_is_assumed_of_a_recording_is_said(fitted, recordings):
    files = [recordings(name) for name in ("a.wav", "b.wav")]
    files += [recordings(f"fan/test/normal_id_{i}_00000000.wav") for i in ("00", "07")]
    said = []
    rows = score_files(fitted, files, report=said.append)
    assert [row.machine for row in rows] == ["fan"] * 4
    assert len({row.score for row in rows}) == 1
    assert said == [
        f"recordings are scored as of machine fan, the only one that was fitted, first {files[0]}",
        "recordings are scored as of section 07 of fan, which had no training clips; one model "
        f"scores all sections, first {files[3]}",
    ]
    said.clear()
    score_files(fitted, files[:1], machine="fan", report=said.append)
    assert said == []


def test_a_model_without_a_machine_s_name_scores_any(recordings):
    fitted = asd_jax.fit(CONFIG, clips(12))
    (row,) = score_files(fitted, [recordings("pump/test/normal_id_00_00000000.wav")])
    assert row.machine == "machine"
