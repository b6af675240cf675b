"""The contract that every system keeps, as tests that pytest runs; of one's own in two lines.

    class TestMine(DetectorContract):
        config = asd_jax.load_config("mine", {"train.epochs": "20", "front_end.n_mels": "16"})

A configuration that trains in a few seconds serves best: the contract fits it to twelve clips of
two sections. It needs pytest, which asd_jax does not install. Systems of this package are held to
it by `tests/detectors/test_contract.py`.
"""

import dataclasses
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asd_jax.config import Config, from_dict, to_dict
from asd_jax.data.clips import Clip
from asd_jax.detectors import check_system, config_classes, make_detector, registry
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames
from asd_jax.features.embeddings import embeddings_of
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.arrays import fit
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.layout import lay_out
from asd_jax.fitting.pooled import take
from asd_jax.training import Interrupted
from asd_jax.training.checkpoints import Checkpoints

MACHINE = "fan"
SECTIONS = 6 * ("00",) + 6 * ("02",)  # of the training clips
# Clips that are scored together: as many pieces, so one program for all the tests of a system.
TOGETHER = 8
_SAMPLE_RATE, _SAMPLES = 16_000, 20_000


class DetectorContract:
    """Tests of a system: scores, seeds, pieces of long clips, files, resuming, bad input.

    Subclass it in a test module.

    Attributes:
        config: the configuration, which trains in a few seconds. Of a system that trains, two
            seeds are fitted, whatever it says.
    """

    config: ClassVar[Config]

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> FittedDetector:
        """The system, fitted to `SECTIONS`."""
        return fit_contract(cls.config)

    def strange(self, fitted: FittedDetector, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Clips that the system must find stranger than normal ones of section 00.

        Sections that the system distinguishes are strange for one another; else every seventh
        band is 15 dB louder, or a whine is added to waveforms. Override it for a system that
        hears other faults.

        Args:
            fitted: the fitted system.
            clips: normal clips, as of `make_clips`.
        """
        if fitted.detector.scope == "machine by section":
            return make_clips(fitted.config, len(clips) * ["02"], seed=4)
        if fitted.config.detector.hears_waveforms:
            whine = 0.1 * np.sin(2 * np.pi * 3000 * np.arange(_SAMPLES) / _SAMPLE_RATE)
            return [clip + whine for clip in clips]
        return [clip + 15 * (np.arange(clip.shape[1]) % 7 == 0) for clip in clips]

    def test_it_is_known_by_its_name_and_says_where_it_is_from(
        self, fitted: FittedDetector
    ) -> None:
        """What `asd-jax list` and saved models need."""
        name = fitted.config.detector.name
        system = registry()[name]
        assert check_system(system) == name and isinstance(fitted.detector, system)
        assert system.title and system.paper
        assert from_dict(to_dict(fitted.config), config_classes()) == fitted.config

    def test_scores_are_finite_and_differ_between_clips(self, fitted: FittedDetector) -> None:
        """One score a clip, and a threshold."""
        clips = make_clips(fitted.config, TOGETHER * ["00"], seed=1)
        scores = score_clips(fitted, clips, section="00")
        assert scores.shape == (TOGETHER,)
        assert np.isfinite(scores).all()
        assert len(set(scores.tolist())) == TOGETHER
        assert np.isfinite(fitted.threshold(section="00"))

    def test_a_clip_s_score_does_not_depend_on_its_company(self, fitted: FittedDetector) -> None:
        """To 1e-5: sums over padded clips may group otherwise."""
        clips = make_clips(fitted.config, TOGETHER * ["02"], seed=2)
        together = score_clips(fitted, clips, section="02")
        alone = [score_clips(fitted, [clip], section="02")[0] for clip in clips[::3]]
        np.testing.assert_allclose(together[::3], alone, rtol=1e-5)

    def test_the_default_score_is_the_mean_over_the_seeds(self, fitted: FittedDetector) -> None:
        """To 1e-6, float32; the scores of two trained seeds differ."""
        clips = make_clips(fitted.config, TOGETHER * ["00"], seed=3)
        each = [score_clips(fitted, clips, section="00", seed=seed) for seed in fitted.config.seeds]
        if fitted.config.detector.trains:
            assert (each[0] != each[1]).all()
        mean = score_clips(fitted, clips, section="00")
        np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-6)

    def test_a_strange_clip_scores_higher(self, fitted: FittedDetector) -> None:
        """More than four of five do."""
        clips = make_clips(fitted.config, TOGETHER * ["00"], seed=4)
        normal = score_clips(fitted, clips, section="00")
        strange = score_clips(fitted, self.strange(fitted, clips), section="00")
        assert np.mean(strange > normal) > 0.8

    def test_its_score_has_a_map(self, fitted: FittedDetector) -> None:
        """Over time and frequency, of the score that it gives without; a loud spot is found there.

        Of a spot that a network was not made for, by how its own cells are spread: ten times the
        share of the area at least, which is 1 % or so.
        """
        clips = make_clips(fitted.config, 2 * ["00"], seed=9)
        if fitted.config.detector.hears_waveforms:
            clips[1][8000:10_000] += 0.5 * np.sin(2 * np.pi * 3000 * np.arange(2000) / 16_000)
            found = fitted.explain(np.stack(clips), 16_000, section="00")
        else:
            clips = [clip[: min(map(len, clips))] for clip in clips]
            clips[1][6:9, 5:7] += 40
            found = fitted.explain_features(clips, section="00")
        scores = score_clips(fitted, clips, section="00")
        np.testing.assert_allclose([each.score for each in found], scores, rtol=1e-5)
        for each in found:
            assert each.map is not None and each.times is not None and each.levels is not None
            assert each.map.shape == each.levels.shape == (len(each.times), len(each.hz))
            assert (each.map >= 0).all() and each.map.sum() == pytest.approx(1)
            assert (np.diff(each.times, axis=1) > 0).all()
            assert (np.diff(each.times[:, 0]) > 0).all() and (np.diff(each.hz, axis=1) > 0).all()
            assert each.nearest is not None and each.when() and each.which_hz() and each.lines()
        last = found[1]
        assert last.map is not None and last.times is not None
        if fitted.config.detector.hears_waveforms:
            inside = (last.times[:, 1] > 0.4) & (last.times[:, 0] < 0.75)
            bands = (last.hz[:, 1] > 2700) & (last.hz[:, 0] < 3300)
        else:
            inside = np.isin(np.arange(len(last.map)), range(3, 12))
            bands = np.isin(np.arange(len(last.hz)), range(3, 9))
        assert last.map[np.ix_(inside, bands)].sum() > 0.5

    def test_scores_of_waveforms_are_those_of_their_features(self, fitted: FittedDetector) -> None:
        """To 1e-4: float32 features, computed in other batches."""
        front_end = fitted.config.front_end
        if fitted.config.detector.hears_waveforms:
            with pytest.raises(UserError, match="hears waveforms, not features"):
                fitted.score_features(np.zeros((2, 40, 128)), section="00")
            return
        n_samples = front_end.n_fft + front_end.hop_length * fitted.detector.views.length
        rng = np.random.default_rng(5)
        waveforms = rng.normal(0, 0.1, (TOGETHER, n_samples)).astype(np.float32)
        features = np.asarray(front_end(jnp.asarray(waveforms)))
        np.testing.assert_allclose(
            fitted.score(waveforms, front_end.sample_rate, section="00"),
            fitted.score_features(features, section="00"),
            rtol=1e-4,
        )

    def test_a_long_clip_s_pieces_have_the_score_of_the_whole(self, fitted: FittedDetector) -> None:
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
        clip = ClipInput(jnp.asarray(frames), len(frames), 0, embedding)
        with jax.enable_x64(fitted.detector.float64):
            whole = jax.jit(fitted.detector.score)(weights, calibration, clip)
        group = fitted.resolve(MACHINE, "00")
        scores = fitted.clip_scores(
            [0], [ClipFrames(0, [frames], fitted.label_of(group), embedding)]
        )
        ((_, score),) = scores
        rtol = 1e-2 if fitted.config.precision == "bfloat16" else 1e-4
        np.testing.assert_allclose(score, [whole], rtol=rtol)

    def test_it_survives_its_file_and_being_pickled(
        self, fitted: FittedDetector, tmp_path: Path
    ) -> None:
        """With programs that it has compiled, too."""
        clips = make_clips(fitted.config, TOGETHER * ["00"], seed=6)
        scores = score_clips(fitted, clips, section="00")
        fitted.save(tmp_path / "model.npz")
        again = FittedDetector.load(tmp_path / "model.npz")
        np.testing.assert_array_equal(score_clips(again, clips, section="00"), scores)
        pickled = pickle.loads(pickle.dumps(fitted))
        assert pickled.config == fitted.config and type(pickled.detector) is type(fitted.detector)
        if fitted.config.backend.kind != "own":  # a class that is made on demand
            np.testing.assert_array_equal(score_clips(pickled, clips, section="00"), scores)
        assert again.config == fitted.config
        assert again.threshold(section="00") == fitted.threshold(section="00")

    def test_interrupted_and_beside_another_seed_it_is_the_same_to_the_bit(
        self, fitted: FittedDetector, tmp_path: Path
    ) -> None:
        """Resumed after its first epoch, and in another place of a fleet as large.

        As large, so that no other program is compiled; that a model is what it would be alone is
        tested of fleets, whatever is trained.
        """
        if not fitted.config.detector.trains:
            pytest.skip("it trains nothing")
        config = dataclasses.replace(fitted.config, seeds=(1, 2))
        features: Any = table_of(config)
        log: list[Any] = []
        with pytest.raises(Interrupted):
            _fit_table(config, features, tmp_path, log, interrupted=True)
        resumed = _fit_table(config, features, tmp_path, log)
        assert [entry["epoch"] for entry in log] == [*range(1, len(log) + 1)] and len(log) > 1
        new = make_clips(config, TOGETHER * ["00"], seed=8)
        scores = score_clips(fitted, new, section="00", seed=1)
        np.testing.assert_array_equal(score_clips(resumed, new, section="00", seed=1), scores)
        assert (score_clips(fitted, new, section="00", seed=0) != scores).all()

    def test_wrong_features_and_names_are_one_line(self, fitted: FittedDetector) -> None:
        """Each a `UserError` that says what is wrong."""
        if fitted.config.detector.hears_waveforms:
            pytest.skip("it takes no features; waveforms have tests of their own")
        n_mels = fitted.config.front_end.n_mels
        views = fitted.detector.views
        length = views.fewest
        good = np.zeros((views.length + 5, n_mels), np.float32)
        cases: list[tuple[list[np.ndarray], str]] = [
            ([], "no clips"),
            ([good[:, :-1]], rf"a clip is \(frames, {n_mels}\)"),
            ([good, good[: length - 1]], rf"features\[1\] has {length - 1} frames"),
            ([np.full_like(good, np.nan)], "NaN"),
        ]
        for clips, message in cases:
            with pytest.raises(UserError, match=message):
                fitted.score_features(clips, section="00")
            with pytest.raises(UserError, match=message):
                fit(fitted.config, clips)
        with pytest.raises(UserError, match="'fen' was not fitted; did you mean fan"):
            fitted.score_features([good], machine="fen")
        seeds = ", ".join(map(str, fitted.seeds))
        with pytest.raises(UserError, match=f"seed 9 was not fitted; there are {seeds}"):
            fitted.score_features([good], section="00", seed=9)
        with pytest.raises(UserError, match="1 clips, but 2 sections"):
            fit(fitted.config, [good], sections=["00", "01"])
        with pytest.raises(UserError, match="NaN or infinite samples"):
            fitted.score(np.full(_SAMPLE_RATE, np.nan), _SAMPLE_RATE, section="00")


def fit_contract(config: Config) -> FittedDetector:
    """A system as the contract fits it: twelve clips of two sections, two seeds if it trains."""
    if config.detector.trains:
        config = dataclasses.replace(config, seeds=(0, 1))
    clips = make_clips(config, SECTIONS)
    if config.detector.hears_waveforms:
        return fit(
            config,
            waveforms=clips,
            sample_rate=_SAMPLE_RATE,
            machine=MACHINE,
            sections=SECTIONS,
        )
    return fit(config, clips, machine=MACHINE, sections=SECTIONS)


def score_clips(fitted: FittedDetector, clips: Sequence[np.ndarray], **names: Any) -> np.ndarray:
    """(clips,) scores of clips of `make_clips`; `section` and `seed` as of `score`."""
    if fitted.config.detector.hears_waveforms:
        return fitted.score(np.stack(clips), _SAMPLE_RATE, **names)
    return fitted.score_features(clips, **names)


def make_clips(
    config: Config, sections: Sequence[str] = 12 * ("00",), seed: int = 0
) -> list[np.ndarray]:
    """Clips as the system hears them: features, or waveforms of a tone and noise at 16 kHz.

    Args:
        config: the configuration.
        sections: section of each clip, "00" or "02".
        seed: of the random draws.

    Returns:
        Features (frames, mels) in dB of a tilted spectrum and noise, of unequal lengths, or
        waveforms (samples,); a section has its tilt or its tone.
    """
    rng = np.random.default_rng(seed)
    if config.detector.hears_waveforms:
        hz = {"00": 400, "02": 900}
        seconds = np.arange(_SAMPLES) / _SAMPLE_RATE
        return [
            0.1 * np.sin(2 * np.pi * hz[section] * seconds) + rng.normal(0, 0.02, len(seconds))
            for section in sections
        ]
    n_mels = config.front_end.n_mels
    tilts = {"00": np.linspace(-20, -60, n_mels), "02": np.linspace(-30, -50, n_mels)}
    shortest = make_detector(config).views.length + 10
    lengths = rng.integers(shortest, shortest + 20, len(sections))
    return [
        (tilts[section] + rng.normal(0, 5, (n, n_mels))).astype(np.float32)
        for section, n in zip(sections, lengths, strict=True)
    ]


def table_of(config: Config) -> ArrayFeatures:
    """A table of the training clips, with embeddings where the system has them."""
    clips = [Clip(MACHINE, section, "train", f"{i}.wav", "") for i, section in enumerate(SECTIONS)]
    arrays = make_clips(config, SECTIONS)
    if config.detector.hears_waveforms:
        front_end = make_detector(config).front_end
        arrays = [np.asarray(front_end.of_padded(clip)) for clip in arrays]
    features = ArrayFeatures(clips, arrays)
    features.embeddings = embeddings_of(config, features)
    return features


def _fit_table(
    config: Config,
    features: ArrayFeatures,
    folder: os.PathLike | str,
    log: list[Any],
    *,
    interrupted: bool = False,
) -> FittedDetector:
    """Fits to a table from the checkpoints in a folder, and stops after an epoch if asked to."""
    detector = make_detector(config)
    checkpoints = Checkpoints(folder)
    if not interrupted:
        assert checkpoints.latest == 1
    try:
        return fit_clips(
            detector,
            features,
            lay_out(detector, features.clips, features.n_frames),
            checkpoints=checkpoints,
            log=log.append,
            should_stop=lambda: interrupted,
        )
    finally:
        checkpoints.close()
