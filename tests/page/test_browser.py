"""The page in a real browser: no errors, no requests, accessible, and a slider that counts.

Skips where Chromium, Playwright or axe (`pip install -e '.[dev]'`) is missing.
"""

import os
import shutil

import numpy as np
import pytest
import soundfile
from report_pages import score_rows, write_run

from asd_jax.data.clips import OWN, Clip
from asd_jax.evaluation.results import TrainingRow, read_scores_csv
from asd_jax.runs.page import write_page
from asd_jax.runs.places import write_places

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        # The sandbox does not start for the superuser, as in containers.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = started.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


def written(path, rows, year=OWN):
    """A page with sounds, pictures and a normal recording to compare with."""
    groups = sorted({row[:2] for row in rows})
    training = [TrainingRow(*g, "", 0, f"train{i}.wav", i / 99) for g in groups for i in range(9)]
    run_dir = write_run(path, rows, training, year)
    sound = path / "sound.wav"
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    write_places(
        run_dir.recordings_csv,
        [
            Clip(row.machine, row.section, split, name, str(sound))
            for row in rows
            for split, name in (("test", row.clip), ("train", "train4.wav"))
        ],
    )
    write_page(path, print, explain=lambda clips: {})
    return run_dir.report_html


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of labelled machines and ids, of unlabelled recordings, and of one without a threshold."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    labels = [0] * 12 + [1] * 12
    rows = []
    for machine in ("fan", "<b>ß a machine of an exceedingly-long_name_" + 40 * "x"):
        for section in ("00", "02"):
            scores = rng.gamma(3, 0.5, 24) + np.array(labels)
            rows += score_rows(scores, labels, machine, section, name="clip {} " + 30 * "y")
    return {
        "labelled": written(folder / "labelled", rows, 2020),
        "unlabelled": written(folder / "unlabelled", score_rows([1, 5, 1.5, 7, 2.5, 0.5])),
        "odd": written(folder / "odd", score_rows([np.nan], threshold=np.nan)),
    }


@pytest.fixture
def opened(browser, pages):
    """Opens a page of a name, and checks at the end that nothing went wrong with it."""
    contexts, wrong = [], []

    def open_page(name, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        address = pages[name].as_uri()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url in (address,)
                or request.url.startswith("data:")
                or wrong.append(request.url)
            ),
        )
        page.goto(address)
        page.wait_for_load_state("load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
@pytest.mark.parametrize("name", ["labelled", "unlabelled", "odd"])
def test_axe_finds_nothing_and_nothing_sticks_out(opened, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(name, width, scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    found = axe.run(page).response["violations"]
    assert not [(each["id"], each["nodes"][0]["html"]) for each in found]
    # Wide tables scroll inside their own boxes.
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


def counts(page, place):
    """Cells of a chart's table, and what a screen reader says of its slider."""
    panel = page.locator(f"[data-chart={place}]")
    rows = panel.locator("tbody tr")
    cells = {
        rows.nth(i).get_attribute("data-class"): int(rows.nth(i).locator(".above").inner_text())
        for i in range(rows.count())
    }
    return cells, panel.locator("input").get_attribute("aria-valuetext")


def test_the_slider_counts_by_keyboard(opened):
    """Scores 0.5, 1, 1.5, 2.5, 5, 7 and the threshold 2: a step up is 2.5, which two exceed.

    Those of training recordings are below all of them.
    """
    page = opened("unlabelled")
    cells, said = counts(page, "m1s0")
    assert cells["unknown"] == 3 and said.startswith("threshold 2,")
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("ArrowRight")
    cells, said = counts(page, "m1s0")
    assert cells["unknown"] == 2 and "threshold 2.5" in said and "2 of 6" in said
    page.keyboard.press("Home")
    assert counts(page, "m1s0")[0]["unknown"] == 6
    page.keyboard.press("End")
    assert counts(page, "m1s0")[0]["unknown"] == 0
    assert page.locator(".moved .cursor").evaluate("line => getComputedStyle(line).visibility") == (
        "visible"
    )
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert counts(page, "m1s0")[0]["unknown"] == 3 and page.locator(".moved").count() == 0


def test_the_slider_counts_right_and_wrong_decisions(opened, pages):
    page = opened("labelled")
    rows = [
        row
        for row in read_scores_csv(pages["labelled"].parent / "scores.csv")
        if (row.machine, row.section) == ("fan", "02")
    ]
    slider = page.locator("#m2s1-slider")  # the second machine's second section
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    cells, said = counts(page, "m2s1")
    threshold = sorted(row.score for row in rows if row.score < 2)[-3]
    for name, label in (("normal", 0), ("anomalous", 1)):
        assert cells[name] == sum(row.score > threshold for row in rows if row.label == label)
    called, right = cells["normal"] + cells["anomalous"], cells["anomalous"]
    rates = page.locator("[data-chart=m2s1] .rates").inner_text()
    expected = f"precision {100 * right / called:.1f} %, recall {100 * right / 12:.1f} %"
    assert rates.startswith(expected) and f"{cells['normal']} of 12" in said


def test_recordings_play(opened):
    page = opened("unlabelled")
    players = page.locator("audio")
    assert players.count() == 6
    page.wait_for_function("document.querySelector('audio').readyState > 0")
    assert players.first.evaluate("player => player.duration") == pytest.approx(0.5, abs=0.01)
    assert players.first.evaluate("player => player.error") is None


def test_it_reads_without_a_script(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["unlabelled"].as_uri())
    assert not page.locator(".slider").first.is_visible()
    assert page.locator("[data-class=unknown] .above").inner_text() == "3"
    assert page.locator("svg").count() == 7
    context.close()


def test_it_prints_with_all_of_its_parts(opened):
    page = opened("labelled", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("audio").first.is_visible()
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 50_000
