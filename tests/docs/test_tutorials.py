"""The tutorials are programs: they run, and print what they say."""

import doc_pages
import pytest


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Tutorials write files beside themselves, and fill the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASD_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["own_arrays", "new_recordings", "own_network"])
def test_tutorial_prints_what_it_says(name):
    doc_pages.run(f"docs/tutorials/{name}.md")


def test_a_page_that_prints_something_else_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2 printed\n2\n"):
        doc_pages.run(str(page))
    page.write_text("```python\nprint(1 + 1)\n```\n")
    with pytest.raises(AssertionError, match="printed"):
        doc_pages.run(str(page))
