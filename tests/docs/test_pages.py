"""What the pages name is there: links, files, configurations, systems with embeddings."""

import itertools
import re
import runpy

import jax
import pytest
from doc_pages import ROOT

from asd_jax.config import load_config, shipped_configs
from asd_jax.detectors import Detector, registry
from asd_jax.training import fleet

PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
# Made by the reader, or by a build.
_NOT_HERE = ("asd_jax/detectors/next_frame.py", "configs/next_frame.py", "asd_jax/models/NAME.py")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (folder / target).resolve() if target else ROOT / page
        assert path.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(str(path.relative_to(ROOT))), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    if page == "CHANGELOG.md":  # names what is gone
        return
    for name in re.findall(
        r"\b(?:asd_jax|benchmarks|configs|docs|scripts|tests)/[\w/.]+", text(page)
    ):
        name = name.rstrip(".")
        if name not in _NOT_HERE and "NAME" not in name:
            assert (ROOT / name).exists(), f"{page}: {name}"


def test_every_page_is_in_the_index():
    index = text("docs/README.md")
    for page in PAGES:
        if page.startswith("docs/") and page != "docs/README.md":
            assert f"({page.removeprefix('docs/')})" in index, page


def test_the_readme_is_short():
    lines = text("README.md").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("page", ["README.md", "docs/systems.md"])
def test_every_configuration_is_in_the_table_of_systems(page):
    rows = "\n".join(row for row in text(page).splitlines() if row.startswith("| `"))
    named = set(re.findall(r"`(\w+)`", rows))
    for name in shipped_configs():
        base, _, number = name.rpartition("system")
        series = bool(base) and number.isdigit() and f"{base}system1" in named
        suffix = name.replace("mobilenet_v2_id", "") in named  # written as `_mix`
        assert name in named or series or suffix, f"{page}: {name}"


def test_the_systems_with_an_embedding_are_those_of_the_code():
    section = text("docs/systems.md").split("## Scores from embeddings")[1].split("\n## ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", " ".join(cells)))
    (sentence,) = re.findall(r"\n\n([^.|]*)\shave none\.", section)
    systems = registry()
    has = {name for name, system in systems.items() if system.embed is not Detector.embed}
    assert named & set(systems) == has
    assert set(re.findall(r"`(\w+)`", sentence)) == set(systems) - has


def test_the_configurations_of_classifiers_are_of_that_system():
    """What systems.md says of `mobilenet_v2_…` and `resnet50_id`."""
    for name in shipped_configs():
        if name.startswith("mobilenet_v2_") or name == "resnet50_id":
            assert load_config(name).detector.name == "id_classifier"


def _rows(page, heading):
    """Cells of the first table after a heading, without its two first lines."""
    lines = iter(text(page).split(heading)[1].splitlines())
    beginning = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    table = [*itertools.takewhile(lambda line: line.startswith("|"), beginning)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_drivers_are_those_of_the_code(monkeypatch):
    config = load_config("dense_ae").train
    for kinds, on_cpu, elsewhere in _rows("docs/concepts.md", "\n## Fleets and drivers"):
        for kind in kinds.replace("convolutional", "convolution").split(", "):
            for backend, driver in (("cpu", on_cpu), ("gpu", elsewhere)):
                monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
                assert f"`{fleet.choose_driver(config, kind)}`" == driver


# Two that compile quickly; all others are of the same code.
@pytest.mark.parametrize(
    "name",
    [
        *("dense_ae", "interpolation_ae"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm_ae", "ganomaly", "group_made")),
    ],
)
def test_the_memory_of_fleets_is_what_the_plan_says(name):
    """The bytes of a step, and of all, are XLA's: they may be half or double in another version."""
    path = ROOT / "scripts" / "plan_table.py"
    table = runpy.run_path(str(path))
    rows = {row[0]: row for row in _rows("docs/systems.md", "\n## All machines of DCASE 2020")}
    assert len(rows) == len(table["ROWS"])
    printed, ours = rows[f"`{name}`"], table["cells"](name)
    assert printed[:-2] == ours[:-2]
    for one, other in zip(printed[-2:], ours[-2:], strict=True):
        assert 0.5 <= _mebibytes(one) / _mebibytes(other) <= 2


def _mebibytes(text):
    number, unit = text.split()
    return float(number) * {"MiB": 1, "GiB": 1024}[unit]
