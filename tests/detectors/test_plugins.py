"""Systems of other packages: installed, registered, missing and broken ones."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import doc_pages
import pytest
from command_line import run_cli

import asd_jax
from asd_jax import detectors
from asd_jax.commands import listing
from asd_jax.config import Config, from_dict, load_config, plugins, to_dict
from asd_jax.detectors import config_classes, registry
from asd_jax.detectors.mel_mahalanobis import MelMahalanobis, MelMahalanobisConfig
from asd_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# The example of the documentation, as a package of somebody else's.
(EXAMPLE,) = [
    block.text
    for block in doc_pages.blocks("docs/add_a_system.md")
    if block.text.startswith("# asd_jax/detectors/next_frame.py")
]
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "stranger-systems"
version = "1.0"

[project.entry-points."asd_jax.detectors"]
strange_frame = "stranger:NextFrameDetector"
"""
CONTRACT = """
import asd_jax
from asd_jax.testing import DetectorContract

SMALL = {"front_end.n_mels": "16", "train.epochs": "20", "train.batch_size": "32"}


class TestStranger(DetectorContract):
    config = asd_jax.load_config("strange_frame", {**SMALL, "train.learning_rate": "1e-2"})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that the stranger's package is installed to, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "stranger").mkdir()
    text = EXAMPLE.replace(
        'name: ClassVar[str] = "next_frame"', 'name: ClassVar[str] = "strange_frame"'
    )
    assert "strange_frame" in text
    (source / "stranger/__init__.py").write_text(text, encoding="utf-8")
    (source / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index")
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--target", target, source)
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def forget():
    for cached in (plugins.entry_points, registry):
        cached.cache_clear()
    sys.modules.pop("stranger", None)


@pytest.fixture
def known(site, monkeypatch):
    """The package is on the path of this process."""
    monkeypatch.setattr(plugins, "_registered", {})
    monkeypatch.syspath_prepend(site)
    forget()
    yield site
    monkeypatch.undo()
    forget()


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten."""
    found = {}
    monkeypatch.setattr(plugins, "_registered", found)
    return found


def in_new_process(site, *arguments, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, site), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )


SMALL = ("--config.train.epochs=1", "--config.seeds=0,", "--config.front_end.n_mels=8")


def test_an_installed_system_runs_by_name_and_is_loaded_in_a_new_process(
    known, single, cache, tmp_path, capsys, monkeypatch, no_pictures
):
    assert "strange_frame" in asd_jax.list_detectors()
    places = (f"--data_dir={single}", f"--out_dir={tmp_path / 'run'}", f"--cache_dir={cache}")
    status, out, err = run_cli(capsys, "run", "--config=strange_frame", *places, *SMALL)
    assert status == 0 and "fan" in out, err
    status, out, err = run_cli(capsys, "run", "--config=strange_frame", *places, *SMALL)
    assert status == 0 and "is finished; nothing to do" in err
    assert load_config("strange_frame").name == "strange_frame"
    assert (tmp_path / "run/config.json").read_text().count('"package": "stranger"') == 1

    monkeypatch.setattr(listing, "shown", lambda: ["spectral"])
    status, out, err = run_cli(capsys, "list")
    assert status == 0 and "prediction of the next frame" in out and err == ""
    assert "configuration   strange_frame (" in out
    status, out, err = run_cli(capsys, "list", f"--data_dir={single}")
    assert "strange_frame  runs" in out
    assert run_cli(capsys, "list", "--config=strange_frame")[1].count("detector.hidden ") == 1
    status, _, err = run_cli(capsys, "list", "--config=strange_fram")
    assert status == 2 and "did you mean strange_frame" in err

    wav = next(single.glob("**/test/*.wav"))
    score = ("asd_jax", "score", tmp_path / "run", wav)
    done = in_new_process([known], *score)
    assert done.returncode == 0 and done.stdout.startswith(str(wav)), done.stderr
    done = in_new_process([], *score)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "detector 'strange_frame' is of the package 'stranger', which is not installed" in (
        done.stderr
    )


@pytest.mark.slow
def test_the_contract_runs_on_it_in_two_lines(site, tmp_path):
    (tmp_path / "test_stranger.py").write_text(CONTRACT, encoding="utf-8")
    done = in_new_process([site], "pytest", "-q", "-p", "no:xdist", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    n_tests = sum(name.startswith("test_") for name in vars(contract()))
    assert f"{n_tests} passed" in done.stdout


def contract():
    from asd_jax.testing import DetectorContract

    return DetectorContract


def test_the_contract_fails_where_a_system_breaks_it(tmp_path):
    """A score that depends on a clip's company, and one that is the same for all clips."""
    broken = CONTRACT.replace(
        "class TestStranger",
        """
class Broken(asd_jax.detectors.registry()["mel_mahalanobis"]):
    def score_pooled(self, calibration, pooled, facts):
        return 0 * super().score_pooled(calibration, pooled, facts)


class TestStranger""",
    ).replace('"strange_frame", {**SMALL, "train.learning_rate": "1e-2"}', '"mel_mahalanobis"')
    broken += """
    def test_scores_are_finite_and_differ_between_clips(self, fitted):
        import dataclasses
        fitted = dataclasses.replace(fitted, detector=Broken(fitted.config))
        super().test_scores_are_finite_and_differ_between_clips(fitted)
"""
    (tmp_path / "test_broken.py").write_text(broken, encoding="utf-8")
    chosen = ("-k", "finite_and_differ")
    done = in_new_process([], "pytest", "-q", "-p", "no:xdist", tmp_path, *chosen, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout


def test_broken_entry_points_are_one_line_each(known, tmp_path, capsys, monkeypatch):
    """Of a module that fails, of another name, of a name that is taken, and twice one name."""
    (tmp_path / "bad_module.py").write_text("import not_there_at_all\n", encoding="utf-8")
    points = {
        "one": "broken = bad_module:Detector\nother_name = stranger:NextFrameDetector\n",
        "two": "dense_ae = stranger:NextFrameDetector\nstrange_frame = bad_module:Detector\n",
    }
    for name, lines in points.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[asd_jax.detectors]\n{lines}")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    forget()
    monkeypatch.setattr(listing, "shown", lambda: ["spectral"])
    status, out, err = run_cli(capsys, "list")
    assert status == 0 and "prediction of the next frame" in out and "dense_ae: dense" in out
    assert len(err.splitlines()) == 4
    for text in (
        "detector 'broken' of package one cannot be loaded: ModuleNotFoundError",
        "detector 'other_name' of package one calls itself 'strange_frame'",
        "detector 'dense_ae' of package two is left out: the name is asd_jax's",
        "detector 'strange_frame' of package two is left out: package stranger-systems has one",
    ):
        assert text in err
    status, _, err = run_cli(capsys, "run", "--dry_run", "--config=broken")
    assert (status, err.count("\n")) == (2, 1) and "cannot be loaded" in err
    assert load_config("dense_ae").detector.name == "dense_ae"


@dataclasses.dataclass(frozen=True)
class MineConfig(MelMahalanobisConfig):
    """Settings of mine."""

    name = "mine"


class Mine(MelMahalanobis):
    """A system of one's own."""

    Config = MineConfig
    title = "mine"
    paper = "none"


def test_a_registered_class_is_found_by_name_and_as_a_decorator(registered):
    assert asd_jax.register(Mine) is Mine and registered == {"mine": Mine}
    assert asd_jax.register(Mine) is Mine  # again
    assert registry()["mine"] is Mine and asd_jax.list_detectors()[-1] == "mine"
    config = load_config("mine", {"front_end.n_mels": "16"})
    assert isinstance(config, Config) and config.seeds == (0,) and config.front_end.n_mels == 16
    assert from_dict(to_dict(config), config_classes()) == config
    assert type(detectors.make_detector(config)) is Mine

    class Given(Mine):
        @staticmethod
        def get_config():
            return Config(MineConfig(states="clusters"), seeds=(0,))

    registered.clear()
    asd_jax.register(Given)
    assert load_config("mine").detector.states == "clusters"
    Given.get_config = staticmethod(lambda: 1 / 0)
    with pytest.raises(UserError, match="get_config: ZeroDivisionError"):
        load_config("mine")
    Given.get_config = staticmethod(lambda: "mine")
    with pytest.raises(UserError, match=r"get_config\(\) gave a str"):
        load_config("mine")


def changed(**attributes):
    return type("Changed", (Mine,), attributes)


def settings(**attributes):
    return dataclasses.dataclass(frozen=True)(type("C", (MelMahalanobisConfig,), attributes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeedsOne(MelMahalanobisConfig):
    """Settings without a default."""

    needed: int
    name = "mine"


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (int, "int is no detector"),
        ("mine", "'mine' is no detector"),
        (detectors.Detector, "Detector lacks pool, task, views"),
        (changed(Config=None), "Changed needs Config"),
        (changed(Config=settings(name="")), "Config.name is ''"),
        (changed(Config=settings(name="a b")), "Config.name is 'a b'"),
        (changed(Config=settings(name="dense_ae")), "'dense_ae' is a detector of asd_jax"),
        (changed(Config=settings(name="iaeo3_opt")), "'iaeo3_opt' is a configuration of asd_jax"),
        (changed(Config=NeedsOne), "needed needs a default"),
        (changed(title=None), "Changed needs title"),
        (changed(scope="machines"), "Changed.scope must be one of 'machine', 'section'"),
    ],
)
def test_a_class_that_lacks_something_is_one_line(system, message, registered):
    with pytest.raises(UserError, match=message):
        asd_jax.register(system)
    assert registered == {}


def test_a_name_is_taken_once(registered, known):
    plugins._registered = registered
    asd_jax.register(Mine)
    with pytest.raises(UserError, match="'mine' is registered already"):
        asd_jax.register(changed())
    with pytest.raises(UserError, match="is of package stranger-systems already"):
        asd_jax.register(changed(Config=settings(name="strange_frame")))


def test_a_configuration_file_may_register_a_system(registered, single, tmp_path, capsys):
    """And be read again, by the same command: its class is made anew."""
    path = tmp_path / "conf.py"
    shipped = (ROOT / "asd_jax/detectors/mel_mahalanobis.py").read_text(encoding="utf-8")
    added = """
import asd_jax
from asd_jax.config import Config

asd_jax.register(MelMahalanobis)


def get_config():
    return Config(MelMahalanobisConfig(), seeds=(0,))
"""
    text = shipped.replace('"mel_mahalanobis"', '"of_a_file"') + added
    path.write_text(text, encoding="utf-8")
    arguments = ("run", f"--config={path}", f"--data_dir={single}", f"--out_dir={tmp_path / 'run'}")
    for said in ("results are in", "is finished; nothing to do"):
        status, out, err = run_cli(capsys, *arguments, f"--cache_dir={tmp_path / 'cache'}")
        assert status == 0 and said in err, err
    assert "package" not in (tmp_path / "run/config.json").read_text()
    registered.clear()
    with pytest.raises(UserError, match="no detector 'of_a_file'"):
        asd_jax.load(tmp_path / "run")
