"""Scores from embeddings against scikit-learn on the embeddings of the training clips."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from command_line import run_cli
from fits import fit_table, layout_of, trained_before
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from tasks import drawn, standard

from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector, registry
from asd_jax.detectors.backends import on_embeddings
from asd_jax.errors import UserError
from asd_jax.features.table import ArrayFeatures, ClipInput
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import stack
from asd_jax.fitting.scores import score_training
from asd_jax.runtime.progress import Silent
from asd_jax.scoring.pooling import Mean
from asd_jax.training import variables

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "detector.frames": "3",
    "detector.hidden": "16",
    "detector.latent": "6",
    "front_end.n_mels": "8",
    "train.epochs": "2",
    "train.batch_size": "32",
    "seeds": "0,1",
}
# (machine, section, domain) of the training clips: a machine of one id, without target clips,
# beside one of two, of which one has them; and of unequal numbers.
GROUPS = {
    ("fan", "00", "source"): 9,
    ("fan", "00", "target"): 3,
    ("fan", "02", "source"): 6,
    ("pump", "00", "source"): 5,
}
BACKENDS = {
    "cosine": {"backend": "knn"},
    # More neighbours than there are target clips.
    "euclidean": {"backend": "knn", "backend.neighbours": "4", "backend.metric": "euclidean"},
    "mahalanobis": {"backend": "mahalanobis"},
}


def small(**more):
    return load_config("dense_ae", {**SMALL, **more})


def make_clips(count, n_mels, seed, lengths=(20, 37)):
    rng = np.random.default_rng(seed)
    around = rng.normal(0, 2, n_mels)
    return [
        (around + rng.normal(0, 1, (n, n_mels))).astype(np.float32)
        for n in rng.choice(lengths, count)
    ]


def make_table(config, groups=GROUPS):
    """Features of the training clips; each group's clips have a spectrum of their own."""
    clips, arrays = [], []
    for place, ((machine, section, domain), count) in enumerate(groups.items()):
        clips += [Clip(machine, section, "train", f"{i}", "", domain=domain) for i in range(count)]
        arrays += make_clips(count, config.front_end.n_mels, place)
    return ArrayFeatures(clips, arrays)


@pytest.fixture(scope="module")
def weights():
    """Of four models, for that table."""
    task = make_detector(small()).task()
    models = [variables(drawn(task, standard(8), seed)) for seed in range(4)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *models)


@pytest.fixture(scope="module")
def embed():
    detector = make_detector(small(backend="knn"))
    return jax.jit(lambda weights, clip: detector.embed(weights, clip).value)


def embeddings_of(embed, weights, arrays):
    """float64 (clips, values) of one model, clip by clip; clips are padded to one length."""
    clips = [
        ClipInput(np.pad(array, ((0, 37 - len(array)), (0, 0))), np.int32(len(array)))
        for array in arrays
    ]
    return np.array([embed(weights, clip) for clip in clips], np.float64)


def distance_of(backend, own, queries):
    """Of queries from the clips of one domain."""
    if backend.kind == "knn":
        # Of fewer clips than neighbours, all.
        neighbours = NearestNeighbors(
            n_neighbors=min(backend.neighbours, len(own)),
            metric=backend.metric,
            algorithm="brute",
        )
        return neighbours.fit(own).kneighbors(queries)[0].mean(axis=1)
    moved = queries - own.mean(axis=0)
    return np.sum(moved @ np.linalg.inv(LedoitWolf().fit(own).covariance_) * moved, axis=1)


def selective(backend, own, target, queries):
    """The smaller of the distances from the source's and the target's clips."""
    domains = [own[which] for which in (~target, target) if which.any()]
    return np.min([distance_of(backend, domain, queries) for domain in domains], axis=0)


@pytest.mark.parametrize("backend", ["cosine", "mahalanobis"])
def test_scores_are_those_of_scikit_learn(backend, weights, embed, tmp_path):
    """To 1e-3 where float32 meets float64: covariances are of condition 1e4 and less.

    Each domain's clips by themselves; all from a file. A training clip's nearest is itself, so
    its own score, for the threshold, is its distance from the others.
    """
    config = small(**BACKENDS[backend])
    features = make_table(config)
    with trained_before(weights):
        fit_table(config, features).save(tmp_path / "model.npz")
    fitted = FittedDetector.load(tmp_path / "model.npz")
    new = make_clips(6, config.front_end.n_mels, seed=0, lengths=(37,))
    trained = score_training(fitted, features, layout_of(config, features), Silent())
    for place, model in enumerate(fitted.models):
        own_weights = jax.tree.map(lambda leaf, place=place: leaf[place], weights)
        queries = embeddings_of(embed, own_weights, new)
        own = [i for i, clip in enumerate(features.clips) if clip.machine == model.machine]
        target = np.array([features.clips[i].domain == "target" for i in own])
        embedded = embeddings_of(embed, own_weights, features.read_clips(own))
        assert embedded.std(axis=0).max() > 1e-2
        assert target.any() == (model.machine == "fan")

        expected = selective(config.backend, embedded, target, queries)
        asked = {"machine": model.machine, "section": "00", "seed": model.seed}
        found = fitted.score_features(new, **asked)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)

        trained_on = selective(config.backend, embedded, target, embedded)
        if config.backend.kind == "knn":
            trained_on = [
                selective(
                    config.backend,
                    np.delete(embedded, i, axis=0),
                    np.delete(target, i),
                    embedded[[i]],
                )[0]
                for i in range(len(own))
            ]
        rows = [
            row.score for row in trained if (row.machine, row.seed) == (model.machine, model.seed)
        ]
        np.testing.assert_allclose(rows, trained_on, rtol=1e-3, atol=1e-5)


def test_the_embedding_of_the_dense_autoencoder_is_its_narrow_layer(weights, embed):
    """Layer by layer in float64, over vectors of three frames; float32 sums, so to 1e-4.

    What is sown for it is no part of the weights.
    """
    detector = make_detector(small(backend="knn"))
    assert set(weights) == {"params", "batch_stats"}
    first = jax.tree.map(lambda leaf: leaf[0], weights)
    weights = jax.tree.map(np.float64, first)
    (clip,) = make_clips(1, 8, seed=5)
    x = np.stack([clip[i : i + 3].ravel() for i in range(len(clip) - 2)]).astype(np.float64)
    for layer in range(2):  # of the encoder, and the narrow one
        dense = weights["params"][f"Dense_{layer}"]
        norm = weights["params"][f"BatchNorm_{layer}"]
        running = weights["batch_stats"][f"BatchNorm_{layer}"]
        x = x @ dense["kernel"] + dense["bias"]
        x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-3) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    expected = x.mean(axis=0)
    assert expected.shape == (6,) and expected.max() > 0.1
    padded = np.pad(clip, ((0, 37 - len(clip)), (0, 0)), constant_values=100)
    for array in (clip, padded):
        found = embed(first, ClipInput(array, np.int32(len(clip))))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # What comes out is the same, whether that is kept or not.
    vectors = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    apply = detector.module.apply
    output, _ = jax.jit(functools.partial(apply, mutable=["intermediates"]))(first, vectors)
    np.testing.assert_array_equal(output, jax.jit(apply)(first, vectors))


class MeanFrame(registry()["id_classifier"]):
    """A classifier of ids whose embedding of a clip is its mean frame."""

    def embed(self, weights, clip):
        return Mean.of(clip.features, jnp.arange(len(clip.features)) < clip.n_frames)


@functools.cache
def compiled(backend):
    """That classifier with a back end, and its compiled scores of clips, new and of training."""
    detector = on_embeddings(MeanFrame)(load_config("mobilenet_v2_id", BACKENDS[backend]))
    of_training = functools.partial(detector.score, trained=True)
    return detector, jax.jit(detector.score), jax.jit(of_training)


class Models:
    """Models whose training clips are given as {(section, domain): embeddings}."""

    def __init__(self, backend, *models):
        self.detector, self._score, self._score_trained = compiled(backend)
        found = [self.detector.calibrate(self._clips(model)) for model in models]
        stacked = {
            name: stack(*(np.asarray(each[name], np.float32) for each in found))
            for name in found[0]
        }
        self.calibrations = self.detector.calibrate_fleet(stacked, [None] * len(models), None)

    def _clips(self, model):
        for (section, domain), rows in model.items():
            for row in rows:
                yield Clip("fan", section, "train", "", "", domain=domain), row

    def score(self, place, query, label, trained=False):
        calibration = jax.tree.map(lambda leaf: leaf[place], self.calibrations)
        score = self._score_trained if trained else self._score
        return float(score({}, calibration, ClipInput(query[None], 1, label)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sections_are_apart_where_a_system_tells_them_apart(backend):
    """A model of one section beside one of two, against scikit-learn; tolerance as above."""
    rng = np.random.default_rng(0)
    two = {
        ("00", "source"): rng.normal(0, 1, (9, 4)),
        ("00", "target"): rng.normal(3, 1, (4, 4)),
        ("02", "source"): rng.normal(-3, 2, (6, 4)),
    }
    one = {("02", "source"): rng.normal(1, 1, (5, 4))}
    models = Models(backend, two, one)
    settings = models.detector.config.backend
    for query in rng.normal(0, 2, (8, 4)):
        for place, label, own in [
            (0, 0, [two["00", "source"], two["00", "target"]]),
            (0, 1, [two["02", "source"]]),
            (1, 0, [one["02", "source"]]),
        ]:
            expected = min(distance_of(settings, rows, query[None])[0] for rows in own)
            assert models.score(place, query, label) == pytest.approx(expected, rel=1e-3)
    if settings.kind == "mahalanobis":
        return
    # A training clip, from the others; of two that are equal each is the other's neighbour.
    two["02", "source"][1] = two["02", "source"][0]
    models = Models(backend, two, one)
    for label, group in enumerate([("00", "target"), ("02", "source")]):
        rest = [rows for key, rows in two.items() if key[0] == group[0] and key != group]
        for i, row in enumerate(two[group]):
            others = [np.delete(two[group], i, axis=0), *rest]
            expected = min(distance_of(settings, rows, row[None])[0] for rows in others)
            found = models.score(0, row, label, trained=True)
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("backend", ["cosine", "mahalanobis"])
def test_what_cannot_be_compared_has_no_score(backend):
    """A section of one clip has no covariance, a diverged model no embeddings.

    The others have the scores that they have alone.
    """
    rng = np.random.default_rng(0)
    # As many rows as above, for the same programs.
    sound = {(section, "source"): rng.normal(size=(13, 4)) for section in ("00", "02")}
    single = {**sound, ("02", "source"): rng.normal(size=(1, 4))}
    diverged = {group: np.full_like(rows, np.nan) for group, rows in sound.items()}
    models = Models(backend, sound, single, diverged)
    alone = Models(backend, sound)
    query = rng.normal(size=4)
    for label in (0, 1):
        assert models.score(0, query, label) == pytest.approx(alone.score(0, query, label))
        assert np.isnan(models.score(2, query, label))
    assert models.score(1, query, 0) == pytest.approx(alone.score(0, query, 0))
    # One clip is a neighbour, though.
    assert np.isnan(models.score(1, query, 1)) == (backend == "mahalanobis")
    if backend == "mahalanobis":
        with pytest.raises(UserError, match="whose embeddings differ") as error:
            Models(backend, diverged)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", ["knn", "mahalanobis"])
def test_a_system_without_embeddings_is_refused_before_anything_is_done(backend, tmp_path, capsys):
    data = tmp_path / "data"
    for split, kind in (("train", "normal"), ("test", "anomaly")):
        folder = data / "fan" / split
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{kind}_id_00_00000000.wav", np.zeros(16000), 16000)
    status, out, err = run_cli(
        capsys,
        "run",
        "--config=group_made",
        f"--config.backend={backend}",
        f"--data_dir={data}",
        f"--cache_dir={tmp_path / 'cache'}",
        f"--out_dir={tmp_path / 'run'}",
    )
    assert (status, out) == (2, "")
    assert "backend needs embeddings of clips, and group_made has none" in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend.neighbours": "0"}, "backend.neighbours is 0; it must be 1 or more"),
        ({"backend": "nearest"}, "own, knn"),
        ({"backend.metric": "manhattan"}, "cosine, euclidean|cosine or euclidean"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message) as error:
        load_config("dense_ae", settings)
    assert "\n" not in str(error.value)
