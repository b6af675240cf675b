"""What every system must do; a new one is picked up by itself."""

import dataclasses
import pickle

import jax
import numpy as np
import pytest
from fits import fit_table

import asd_jax
from asd_jax.config import Config, load_config, shipped_configs
from asd_jax.data.clips import Clip
from asd_jax.detectors import list_detectors, make_detector, registry
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames
from asd_jax.features.embeddings import embeddings_of
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.pooled import take
from asd_jax.training import Interrupted
from asd_jax.training.checkpoints import Checkpoints

# Every system has a configuration of its own name, or one that is named here; others of its
# configurations differ in settings, of which the ones that train or score in another way are
# tested alike.
NAMED = {"id_classifier": "mobilenet_v2_id"}
SYSTEMS = tuple(NAMED.get(name, name) for name in list_detectors())
VARIANTS = {
    "dense_ae with Mahalanobis": ("dense_ae", {"detector.score": "mahalanobis"}),
    "mobilenet_v2_id with all else": (
        "mobilenet_v2_arcface",
        {"detector.mix": "both", "detector.warp": "0.2"},
    ),
    "iaeo3 with an embedding": ("iaeo3", {"embedding.kind": "log_mel"}),
    "iaeo3 by the largest error": ("iaeo3", {"detector.predictor": "max"}),
    "dense_ae by neighbours": ("dense_ae", {"backend": "knn"}),
    "mobilenet_v2_id by neighbours": ("mobilenet_v2_id", {"backend": "knn"}),
    "dense_ae in bfloat16": ("dense_ae", {"precision": "bfloat16"}),
    "mobilenet_v2_id in bfloat16": ("mobilenet_v2_id", {"precision": "bfloat16"}),
}
# Run apart: what compiles for long and is for the most part tested by the others. The systems among
# them are also fitted and score clips in tests of their own, or of their reports.
_SLOW = (
    "lstm_ae",
    "multibranch",
    "outlier_exposure_ae",
    "picture_mobilenet",
    "tastgram_mfn",
    "mobilenet_v2_id with all else",
    "iaeo3 with an embedding",
    "iaeo3 by the largest error",
    "mobilenet_v2_id by neighbours",
    "dense_ae in bfloat16",
    "mobilenet_v2_id in bfloat16",
    "mel_mahalanobis",
    "spectrum_knn",
    "twfr_gmm",
)
TESTED = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in (*SYSTEMS, *VARIANTS)
]
_SMALL_NETWORK = {"detector.stages": "1", "detector.momentum": "0.5"}
_SMALL_CLASSIFIER = {"detector.frames": "16", **_SMALL_NETWORK}
# What makes a shipped configuration small enough to train in a second.
_SMALL_AUTOENCODER = {"detector.hidden": "32,32"}
SMALL = {
    "dense_ae": _SMALL_AUTOENCODER,
    "outlier_exposure_ae": _SMALL_AUTOENCODER,
    "interpolation_ae": {"detector.encoder": "32,16"},
    "ganomaly": {"detector.width": "4", "detector.frames": "16"},
    "group_made": {"detector.hidden": "32,16,32", "detector.components": "3"},
    "mobilenet_v2_id": _SMALL_CLASSIFIER,
    "mobilenet_v2_arcface": _SMALL_CLASSIFIER,
    "iaeo3": {
        "embedding.kind": "none",
        "detector.encoder": "16,8",
        "detector.trainings": "2",
    },
    "lstm_ae": {"detector.encoder": "16,4"},
    "multibranch": {
        "detector.seconds": "1.25",
        "detector.spectrum": "false",
        "detector.n_ffts": "1024,",
        "detector.width": "8",
    },
    "picture_mobilenet": {
        "detector.from_scratch": "true",
        "detector.width": "0.35",
        "detector.copies": "0",
        "detector.frames": "16",
        "detector.size": "16",
        **_SMALL_NETWORK,
    },
    "tastgram_mfn": {
        "detector.seconds": "1.25",
        "detector.n_mels": "32",
        "detector.width": "16",
        "detector.stages": "1",
        "detector.warm_up": "2",
    },
}
# Clips that are scored together: as many pieces, so one program for all the tests of a system.
TOGETHER = 8
MACHINE = {"machine": "fan", "sections": ["00"] * 6 + ["02"] * 6}


def small(name, **train):
    """A shipped configuration, or a variant of one, that trains in a second.

    All at one learning rate and batch size, which are constants of the compiled programs.
    """
    name, settings = VARIANTS.get(name, (name, {}))
    bands = {} if load_config(name).detector.hears_waveforms else {"front_end.n_mels": "16"}
    config = load_config(name, {**bands, **SMALL.get(name, {}), **settings})
    if not config.detector.trains:
        return config
    train = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "checkpoint_every": 100, **train}
    return dataclasses.replace(
        config, seeds=(0, 1), train=dataclasses.replace(config.train, **train)
    )


def make_clips(config, sections=12 * ["00"], seed=0):
    """Clips as the system hears them: features, or waveforms of a tone and noise at 16 kHz."""
    if not config.detector.hears_waveforms:
        return make_features(config, sections, seed)
    rng = np.random.default_rng(seed)
    hz = {"00": 400, "02": 900}
    seconds = np.arange(20_000) / 16_000
    return [
        0.1 * np.sin(2 * np.pi * hz[section] * seconds) + rng.normal(0, 0.02, len(seconds))
        for section in sections
    ]


def fit(config, clips, **names):
    """A detector fitted to clips of `make_clips`."""
    if config.detector.hears_waveforms:
        return asd_jax.fit(config, waveforms=clips, sample_rate=16_000, **names)
    return asd_jax.fit(config, clips, **names)


def score(fitted, clips, **names):
    """Scores of clips of `make_clips`."""
    if fitted.config.detector.hears_waveforms:
        return fitted.score(np.stack(clips), 16_000, **names)
    return fitted.score_features(clips, **names)


def make_features(config, sections=12 * ["00"], seed=0):
    """Clips of a tilted spectrum and noise, of unequal lengths, in dB; a section has its tilt."""
    rng = np.random.default_rng(seed)
    tilts = {
        "00": np.linspace(-20, -60, config.front_end.n_mels),
        "02": np.linspace(-30, -50, config.front_end.n_mels),
    }
    shortest = make_detector(config).views.length + 10
    lengths = rng.integers(shortest, shortest + 20, len(sections))
    return [
        (tilts[section] + rng.normal(0, 5, (n, config.front_end.n_mels))).astype(np.float32)
        for section, n in zip(sections, lengths, strict=True)
    ]


@pytest.fixture(scope="module", params=TESTED)
def fitted(request):
    # Enough to tell a strange clip; of convolutional networks, whose epochs are long, fewer are.
    convolutional = {
        *("ganomaly", "id_classifier", "multibranch", "picture_mobilenet", "tastgram_mfn")
    }
    few = small(request.param, epochs=8)
    config = few if few.detector.name in convolutional else small(request.param, epochs=40)
    return fit(config, make_clips(config, MACHINE["sections"]), **MACHINE)


def test_every_system_has_a_configuration_and_says_where_it_is_from():
    shipped = {name: load_config(name) for name in shipped_configs()}
    found = {
        name: config.detector.name for name, config in shipped.items() if isinstance(config, Config)
    }
    assert [found[name] for name in SYSTEMS] == [*list_detectors()]
    assert set(found.values()) == set(list_detectors())
    for cls in registry().values():
        assert cls.title
        assert cls.paper
        assert cls.scope in ("machine", "section", "machine by section")
        assert cls.Config.name == cls.__module__.rpartition(".")[2]


def test_scores_are_finite_and_differ_between_clips(fitted):
    clips = make_clips(fitted.config, TOGETHER * ["00"], seed=1)
    scores = score(fitted, clips, section="00")
    assert scores.shape == (TOGETHER,)
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) == TOGETHER
    assert np.isfinite(fitted.threshold(section="00"))


def test_a_clip_s_score_does_not_depend_on_its_company(fitted):
    """To 1e-5: sums over padded clips may group otherwise."""
    clips = make_clips(fitted.config, TOGETHER * ["02"], seed=2)
    together = score(fitted, clips, section="02")
    alone = [score(fitted, [clip], section="02")[0] for clip in clips[::3]]
    np.testing.assert_allclose(together[::3], alone, rtol=1e-5)


def test_the_default_score_is_the_mean_over_the_seeds(fitted):
    clips = make_clips(fitted.config, TOGETHER * ["00"], seed=3)
    each = [score(fitted, clips, section="00", seed=seed) for seed in fitted.config.seeds]
    if fitted.config.detector.trains:
        assert (each[0] != each[1]).all()
    mean = score(fitted, clips, section="00")
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-6)


def test_a_strange_clip_scores_higher(fitted):
    clips = make_clips(fitted.config, TOGETHER * ["00"], seed=4)
    # What a classifier can tell is what it was shown: other sections, spectra upside down.
    if fitted.detector.scope == "machine by section":
        strange = make_clips(fitted.config, TOGETHER * ["02"], seed=4)
    elif fitted.config.detector.name == "picture_mobilenet":
        strange = [clip[:, ::-1] for clip in clips]
    elif fitted.config.detector.hears_waveforms:
        whine = 0.1 * np.sin(2 * np.pi * 3000 * np.arange(20_000) / 16_000)
        strange = [clip + whine for clip in clips]
    else:
        strange = [clip + 15 * (np.arange(clip.shape[1]) % 7 == 0) for clip in clips]
    normal = score(fitted, clips, section="00")
    assert np.mean(score(fitted, strange, section="00") > normal) > 0.8


def test_its_score_has_a_map(fitted):
    """Over time and frequency, of the score that it gives without; a loud spot is found there.

    Of a spot that a network was not made for, by how its own cells are spread: ten times the share
    of the area at least, which is 1 % or so.
    """
    clips = make_clips(fitted.config, 2 * ["00"], seed=9)
    if fitted.config.detector.hears_waveforms:
        clips[1][8000:10_000] += 0.5 * np.sin(2 * np.pi * 3000 * np.arange(2000) / 16_000)
        found = fitted.explain(np.stack(clips), 16_000, section="00")
    else:
        clips = [clip[: min(map(len, clips))] for clip in clips]
        clips[1][6:9, 5:7] += 40
        found = fitted.explain_features(clips, section="00")
    scores = score(fitted, clips, section="00")
    np.testing.assert_allclose([each.score for each in found], scores, rtol=1e-5)
    for each in found:
        assert each.map.shape == each.levels.shape == (len(each.times), len(each.hz))
        assert (each.map >= 0).all() and each.map.sum() == pytest.approx(1)
        assert (np.diff(each.times, axis=1) > 0).all() and (np.diff(each.times[:, 0]) > 0).all()
        assert (np.diff(each.hz, axis=1) > 0).all()
        assert each.nearest is not None and each.when() and each.which_hz() and each.lines()
    if fitted.config.detector.hears_waveforms:
        inside = (found[1].times[:, 1] > 0.4) & (found[1].times[:, 0] < 0.75)
        bands = (found[1].hz[:, 1] > 2700) & (found[1].hz[:, 0] < 3300)
    else:
        inside = np.isin(np.arange(len(found[1].map)), range(3, 12))
        bands = np.isin(np.arange(len(found[1].hz)), range(3, 9))
    share = found[1].map[np.ix_(inside, bands)].sum()
    assert share > 0.5


def test_scores_of_waveforms_are_those_of_their_features(fitted):
    front_end = fitted.config.front_end
    if fitted.config.detector.hears_waveforms:
        with pytest.raises(UserError, match="hears waveforms, not features"):
            fitted.score_features(np.zeros((2, 40, 128)), section="00")
        return
    n_samples = front_end.n_fft + front_end.hop_length * fitted.detector.views.length
    rng = np.random.default_rng(5)
    waveforms = rng.normal(0, 0.1, (TOGETHER, n_samples)).astype(np.float32)
    features = np.asarray(front_end(waveforms))
    np.testing.assert_allclose(
        fitted.score(waveforms, front_end.sample_rate, section="00"),
        fitted.score_features(features, section="00"),
        rtol=1e-4,
    )


def test_a_long_clip_s_pieces_have_the_score_of_the_whole(fitted):
    """A clip of more than 400 frames, in one piece and in another program.

    To 1e-4 in float32, to 1 % in bfloat16, whose numbers have three digits.
    """
    rng = np.random.default_rng(7)
    shape = 400 + fitted.detector.views.length, fitted.config.front_end.n_mels
    frames = rng.normal(-40, 10, shape).astype(np.float32)
    if fitted.config.detector.hears_waveforms:
        sound = rng.normal(0, 0.1, shape[0] * 500).astype(np.float32)
        frames = np.asarray(fitted.detector.front_end.of_padded(sound))
    table = ArrayFeatures((), [frames])
    embeddings = embeddings_of(fitted.config, table)
    embedding = None if embeddings is None else embeddings[0]
    weights, calibration = take((fitted.weights, fitted.calibration), 0)
    clip = ClipInput(frames, len(frames), 0, embedding)
    with jax.enable_x64(fitted.detector.float64):
        whole = jax.jit(fitted.detector.score)(weights, calibration, clip)
    group = fitted.resolve("fan", "00")
    scores = fitted.clip_scores([0], [ClipFrames(0, [frames], fitted.label_of(group), embedding)])
    ((_, score),) = scores
    rtol = 1e-2 if fitted.config.precision == "bfloat16" else 1e-4
    np.testing.assert_allclose(score, [whole], rtol=rtol)


def test_it_survives_its_file_and_being_pickled(fitted, tmp_path):
    """With programs that it has compiled, too."""
    clips = make_clips(fitted.config, TOGETHER * ["00"], seed=6)
    scores = score(fitted, clips, section="00")
    fitted.save(tmp_path / "model.npz")
    again = FittedDetector.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(score(again, clips, section="00"), scores)
    pickled = pickle.loads(pickle.dumps(fitted))
    assert pickled.config == fitted.config and type(pickled.detector) is type(fitted.detector)
    if fitted.config.backend.kind != "own":  # a class that is made on demand
        np.testing.assert_array_equal(score(pickled, clips, section="00"), scores)
    assert again.config == fitted.config
    assert again.threshold(section="00") == fitted.threshold(section="00")


def clips_of(config):
    """A table of training clips, with embeddings where the system has them."""
    clips = [
        Clip("fan", section, "train", f"{i}.wav", "")
        for i, section in enumerate(MACHINE["sections"])
    ]
    arrays = make_clips(config, MACHINE["sections"])
    if config.detector.hears_waveforms:
        front_end = make_detector(config).front_end
        arrays = [np.asarray(front_end.of_padded(clip)) for clip in arrays]
    features = ArrayFeatures(clips, arrays)
    features.embeddings = embeddings_of(config, features)
    return features


# One system of each kind: one optimiser in a compiled loop; two, and running statistics, in a loop
# of Python. The others are run apart, as are variants, which train as the system does, or nearly.
_EACH_KIND = ("dense_ae", "ganomaly")
TRAINED = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in _EACH_KIND))
    for name in (*SYSTEMS, *VARIANTS)
    if small(name).detector.trains
]


@pytest.mark.parametrize("fitted", TRAINED, indirect=True)
def test_interrupted_and_beside_another_seed_it_is_the_same_to_the_bit(fitted, tmp_path):
    """Resumed after its first epoch, and in another place of a fleet as large.

    As large, so that no other program is compiled; that a model is what it would be alone is
    tested of fleets, whatever is trained.
    """
    config = dataclasses.replace(fitted.config, seeds=(1, 2))
    features, log = clips_of(config), []
    checkpoints = Checkpoints(tmp_path)
    options = {"checkpoints": checkpoints, "log": log.append}
    with pytest.raises(Interrupted):
        fit_table(config, features, should_stop=lambda: True, **options)
    checkpoints.close()
    options["checkpoints"] = checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest == 1
    resumed = fit_table(config, features, **options)
    checkpoints.close()
    assert [entry["epoch"] for entry in log] == [*range(1, len(log) + 1)] and len(log) > 1
    new = make_clips(config, TOGETHER * ["00"], seed=8)
    scores = [score(each, new, section="00", seed=1) for each in (fitted, resumed)]
    np.testing.assert_array_equal(*scores)
    assert (score(fitted, new, section="00", seed=0) != scores[0]).all()


def test_wrong_features_and_names_are_one_line(fitted):
    if fitted.config.detector.hears_waveforms:
        pytest.skip("it takes no features; waveforms have tests of their own")
    n_mels = fitted.config.front_end.n_mels
    views = fitted.detector.views
    length = views.fewest
    good = np.zeros((views.length + 5, n_mels), np.float32)
    for clips, message in [
        ([], "no clips"),
        ([good[:, :-1]], rf"a clip is \(frames, {n_mels}\)"),
        ([good, good[: length - 1]], rf"features\[1\] has {length - 1} frames"),
        ([np.full_like(good, np.nan)], "NaN"),
    ]:
        with pytest.raises(UserError, match=message):
            fitted.score_features(clips, section="00")
        with pytest.raises(UserError, match=message):
            asd_jax.fit(fitted.config, clips)
    with pytest.raises(UserError, match="'fen' was not fitted; did you mean fan"):
        fitted.score_features([good], machine="fen")
    seeds = ", ".join(map(str, fitted.seeds))
    with pytest.raises(UserError, match=f"seed 9 was not fitted; there are {seeds}"):
        fitted.score_features([good], section="00", seed=9)
    with pytest.raises(UserError, match="1 clips, but 2 sections"):
        asd_jax.fit(fitted.config, [good], sections=["00", "01"])
    with pytest.raises(UserError, match="NaN or infinite samples"):
        fitted.score(np.full(16000, np.nan), 16000, section="00")


def test_a_damaged_or_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has not finished training"):
        FittedDetector.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UserError, match="damaged"):
        FittedDetector.load(tmp_path / "bad.npz")
