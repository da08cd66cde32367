"""docs/policies.md is what the rules say: policies/docs.py."""

from pathlib import Path

from policies import docs


def test_the_page_is_current() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
    assert page == docs.page(), "run `make docs`"
