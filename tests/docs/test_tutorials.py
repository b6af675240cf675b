"""The tutorials are programs: they run, and print what they say."""

import doc_pages
import jax
import numpy as np
import pytest
from fits import trained_before

import asd_jax


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, no_pictures):
    """Tutorials write files beside themselves, and fill the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASD_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("page", ["tutorials/own_arrays", "tutorials/own_network", "experiments"])
def test_tutorial_prints_what_it_says(page):
    doc_pages.run(f"docs/{page}.md")


def test_tutorial_of_new_recordings_and_the_readme(monkeypatch):
    """The README's block takes the tutorial's run, and arrays that are its reader's.

    Its own network is that of the run, and takes its weights.
    """
    doc_pages.run("docs/tutorials/new_recordings.md")
    load_config = asd_jax.load_config
    small = {"front_end.n_mels": "64", "detector.hidden": "32,", "seeds": "0"}
    monkeypatch.setattr(
        asd_jax, "load_config", lambda name, overrides: load_config(name, overrides | small)
    )
    rng = np.random.default_rng(0)
    own = {
        "waveforms": rng.normal(0, 0.1, (2, 16000)).astype(np.float32),
        "features": list(rng.normal(-40, 5, (3, 20, 64)).astype(np.float32)),
        "new_features": list(rng.normal(-40, 5, (3, 20, 64)).astype(np.float32)),
        "labels": np.array([0, 1, 1]),
    }
    weights = jax.tree.map(lambda leaf: leaf[:1], asd_jax.load("RUN").weights)
    with trained_before(weights):
        names = doc_pages.run("README.md", own)
    assert names["anomalous"].shape == (2,)
    assert names["scores"].shape == (3,)
    assert names["decibels"].shape == (2, 32, 128)


def test_a_page_that_prints_something_else_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2 printed\n2\n"):
        doc_pages.run(str(page))
    page.write_text("```python\nprint(1 + 1)\n```\n")
    with pytest.raises(AssertionError, match="printed"):
        doc_pages.run(str(page))
