"""Packages of extras: one line names the extra where they are missing, and setup.cfg has them."""

import configparser
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_cli

from asd_jax.audio.perturbation import pitch_and_stretch
from asd_jax.errors import UserError
from asd_jax.models.pretrained.keras_file import read_keras_layers
from asd_jax.models.pretrained.weights import weights_file
from asd_jax.runtime.extras import APART, EXTRAS, check_installed

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_DEV = {"serve", *APART}  # which developers use in environments of their own
BY_SCRIPT = {"jax2onnx"}  # which scripts/export.sh installs, as it excludes what this package needs

BOUND = r"[\w-]+>=[\d.]+(,!=[\d.]+)*(; platform_system [!=]= \"Linux\")?"


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def packages_of(text):
    """Names as they are imported."""
    names = (re.split(r"[<>=!\[ ]", line)[0] for line in text.split("\n") if line)
    return {name.replace("-", "_") for name in names}


def test_setup_cfg_has_every_extra_and_the_developers_have_all():
    options, extras = setup()["options"], setup()["options.extras_require"]
    for package, extra in EXTRAS.items():
        package = package.partition(".")[0]
        assert (package in packages_of(extras[extra])) == (package not in BY_SCRIPT)
        assert (package in packages_of(extras["dev"])) == (extra not in NOT_IN_DEV)
        assert package not in packages_of(options["install_requires"])


def test_every_package_has_a_lower_bound():
    options, extras = setup()["options"], setup()["options.extras_require"]
    texts = [options["install_requires"], *(extras[extra] for extra in set(EXTRAS.values()))]
    for line in "\n".join(texts).split("\n"):
        assert not line or re.fullmatch(BOUND, line), line


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("audiomentations", lambda path: pitch_and_stretch(np.zeros(99, np.float32), 16000, 1)),
        ("h5py", lambda path: read_keras_layers(path / "x.h5")),
        ("pooch", lambda path: weights_file("https://x.test/w.npz", 64 * "0", cache_dir=path)),
    ],
)
def test_a_missing_package_is_one_line(package, use, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as raised:
        use(tmp_path)
    line = rf"needs {package}: pip install 'asd-jax\[{EXTRAS[package]}\]'"
    assert re.search(line, str(raised.value))


def test_a_local_file_of_weights_needs_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    (tmp_path / "weights").write_bytes(b"abc")
    # SHA-256 of "abc": FIPS 180-2, appendix B.1.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path = str(tmp_path / "weights")
    assert weights_file(path, digest.upper(), cache_dir=tmp_path) == Path(path)
    with pytest.raises(UserError, match="its SHA-256 is not"):
        weights_file(path, 64 * "0", cache_dir=tmp_path)


def test_a_run_says_it_before_any_work(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    settings = ("detector.from_scratch=true", "detector.frames=16", "detector.size=16")
    settings = (*settings, "detector.stages=1")
    own = [f"--config.{setting}" for setting in (*settings, "detector.width=0.35")]
    arguments = ("run", "--dry_run", "--config=picture_mobilenet", f"--data_dir={data}", *own)
    status, out, err = run_cli(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "detector.copies=2 needs audiomentations: pip install 'asd-jax[augment]'" in err
    _, out, _ = run_cli(capsys, "list", *arguments[2:], "--format=csv")
    assert "picture_mobilenet,picture_mobilenet,false," in out and "asd-jax[augment]" in out
    assert run_cli(capsys, *arguments, "--config.detector.copies=0")[0] == 0


def test_a_converter_is_had_by_the_script_that_makes_its_environment(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for package, extra in EXTRAS.items():
        wanted = f"scripts/export.sh {extra} makes" if extra in APART else f"asd-jax\\[{extra}\\]"
        with pytest.raises(UserError, match=wanted):
            check_installed(package, "this")
    script = (ROOT / "scripts" / "export.sh").read_text(encoding="utf-8")
    assert f"{' | '.join(APART)})" in script and "build/export" in script
