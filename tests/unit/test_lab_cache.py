"""The lab's cache finds a build again by the content of its recipe, from any clone. Needs no Docker daemon."""

from pathlib import Path

import pytest

from lab import cache


def recipe(folder: Path, text: str = "run") -> list[Path]:
    folder.mkdir(parents=True)
    (folder / "setup").write_text(text)
    return [folder / "setup", folder.parent.parent / "certificate"]


def test_a_key_is_the_same_in_every_clone(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text("CA")
    assert cache.key(recipe(tmp_path / "a" / "clone")) == cache.key(recipe(tmp_path / "z" / "clone"))


def test_a_key_changes_with_a_files_content_and_with_the_text(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text("CA")
    first = recipe(tmp_path / "a" / "clone")
    assert len({cache.key(first), cache.key(recipe(tmp_path / "b" / "clone", "walk")), cache.key(first, "more")}) == 3


def test_the_cache_never_has_half_a_build(tmp_path: Path) -> None:
    def fail() -> None:
        with cache.making(tmp_path / "build") as work:
            (work / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
