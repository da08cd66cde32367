"""Where the lab gets its torch: from a named folder, else PyTorch's index if it answers, else PyPI's wheel without CUDA.

No test fetches a wheel: the lab's own image build uses the last way, which works without an index.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from lab import cache
from lab.commands import LabError
from lab.images import torch

NAME = f"torch-{torch.VERSION}+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
VISION = Path("torchvision-0.28.0.whl")


@pytest.fixture(autouse=True)
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that a test uses, from an empty cache on."""
    ways: list[str] = []

    def fetch(requirements: Iterable[str], folder: Path, *more: str) -> None:
        ways.append(f"index {' '.join(requirements)}")
        (folder / NAME).touch()

    def slim(vision: Path, folder: Path) -> None:
        ways.append("slim")
        (folder / NAME).touch()

    monkeypatch.delenv("LAB_WHEELS", raising=False)
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(torch, "fetch", fetch)
    monkeypatch.setattr(torch, "_slim", slim)
    return ways


def test_a_named_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    (tmp_path / NAME).touch()
    monkeypatch.setenv("LAB_WHEELS", str(tmp_path))
    assert (torch.wheel(VISION), ways) == (tmp_path / NAME, [])


def test_a_named_folder_without_the_wheel_is_an_error_and_no_other_way_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    (tmp_path / NAME.replace("cp311", "cp312")).touch()
    monkeypatch.setenv("LAB_WHEELS", str(tmp_path))
    with pytest.raises(LabError, match=f"holds no torch {torch.VERSION}"):
        torch.wheel(VISION)
    assert ways == []


@pytest.mark.parametrize(("answers", "way"), [(True, f"index torch=={torch.VERSION}+cpu"), (False, "slim")])
def test_the_lab_uses_the_index_first_where_it_answers_and_keeps_the_wheel(
    monkeypatch: pytest.MonkeyPatch, ways: list[str], answers: bool, way: str
) -> None:
    monkeypatch.setattr(torch, "_index_answers", lambda: answers)
    assert torch.wheel(VISION) == torch.wheel(VISION)
    assert ways == [way]
