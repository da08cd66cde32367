"""Claims about the lab's cache: what was built is found again by what it is made of, from any clone. Needs no engine."""

from pathlib import Path

import pytest

from lab import cache


def recipe(folder: Path, text: str = "run") -> list[Path]:
    folder.mkdir(parents=True)
    (folder / "setup").write_text(text)
    return [folder / "setup", folder.parent.parent / "certificate"]


def test_a_key_is_the_same_wherever_the_clone_lies(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text("CA")
    assert cache.key(recipe(tmp_path / "a" / "clone")) == cache.key(recipe(tmp_path / "z" / "clone"))


def test_a_key_changes_with_a_files_content_and_with_the_text(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text("CA")
    first = recipe(tmp_path / "a" / "clone")
    assert len({cache.key(first), cache.key(recipe(tmp_path / "b" / "clone", "walk")), cache.key(first, "more")}) == 3


def test_half_a_build_is_never_found(tmp_path: Path) -> None:
    def fail() -> None:
        with cache.making(tmp_path / "made") as work:
            (work / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
