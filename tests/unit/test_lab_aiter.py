"""The stand-in of AMD's AITER in the lab's serving image fails where the real one does, and nowhere else: lab/images/serving/aiter.

Without vLLM: tests/roles/test_served_aiter.py proves what it calls, and what calls it.
"""

import importlib
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SERVING = Path(__file__).resolve().parents[2] / "lab" / "images" / "serving"
LIBRARY = next(Path(sysconfig.get_config_var("DESTSHARED")).glob("_queue.*.so"))  # as the image's setup.sh takes it
PREBUILT = ("module_aiter_core", "module_gemm_a8w8", "module_moe_asm", "module_rmsnorm")


class Image:
    """A copy of the package with its prebuilt modules, as the image has it, imported from there."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site-packages"
        shutil.copytree(SERVING / "aiter", self.site / "aiter", ignore=shutil.ignore_patterns("__pycache__"))
        self.jit = self.site / "aiter" / "jit"
        for name in (*PREBUILT, "compiled"):
            shutil.copy(LIBRARY, self.jit / f"{name}.so")

    def module(self, name: str) -> Any:
        return importlib.import_module(f"aiter.{name}")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Image]:
    image = Image(tmp_path)
    monkeypatch.syspath_prepend(image.site)
    for name in ("AITER_JIT_DIR", "AITER_ROOT_DIR", "MAX_JOBS", "VLLM_ROCM_USE_AITER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_HIPCC_SECONDS", "0")
    yield image
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiter"]:
        del sys.modules[name]
    logging.getLogger("aiter").handlers.clear()  # it wrote to this test's stderr


@pytest.fixture
def readonly(image: Image, monkeypatch: pytest.MonkeyPatch) -> Image:
    """As in a container: the package's own folder belongs to root."""
    core = image.module("jit.core")
    monkeypatch.setattr(core.os, "access", lambda path, _mode: Path(path) != image.jit)
    return image


@pytest.fixture
def cache(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that AITER_JIT_DIR names."""
    monkeypatch.setenv("AITER_JIT_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_aiter_loads_the_prebuilt_modules_from_its_package(image: Image) -> None:
    for name in PREBUILT:
        assert Path(image.module("jit.core").load(name)._name) == image.jit / f"{name}.so"
    assert not (image.jit / "build").exists()


def test_another_folder_hides_the_prebuilt_modules_and_aiter_builds_each_again(
    image: Image, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = image.module("jit.core")
    assert core.PREBUILT.keys() == {*PREBUILT} and min(core.PREBUILT.values()) >= 20
    for name in PREBUILT:
        core.load(name)
    log = capsys.readouterr().err
    assert [log.count(f"start build {cache}/{name}.so") for name in PREBUILT] == [1, 1, 1, 1]


def test_aiter_loads_links_to_the_prebuilt_modules_in_that_folder(
    image: Image, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir()
    for name in PREBUILT:
        (cache / f"{name}.so").symlink_to(image.jit / f"{name}.so")
        image.module("jit.core").load(name)
    assert "start build" not in capsys.readouterr().err


def test_aiter_builds_a_module_of_the_model_s_own_shape_once_in_that_folder(
    image: Image, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = image.module("jit.core")
    (shaped,) = core.SHAPED
    core.load(shaped)
    core.load(shaped)
    assert capsys.readouterr().err.count("start build") == 1
    assert [file.name for file in (cache / "build").iterdir()] == []  # the lock is gone


def test_without_that_folder_aiter_builds_below_home_and_does_not_find_the_module(
    readonly: Image, tmp_path: Path
) -> None:
    core = readonly.module("jit.core")
    (shaped,) = core.SHAPED
    with pytest.raises(ModuleNotFoundError, match=shaped):
        core.load(shaped)
    assert (tmp_path / "home" / ".aiter" / "jit" / f"{shaped}.so").exists()


@pytest.mark.parametrize(("root", "below"), [("", "home/.aiter/build"), ("root", "root/build")])
def test_aiter_compiles_a_sampler_once_below_the_root_folder_or_home(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, below: str
) -> None:
    if root:
        monkeypatch.setenv("AITER_ROOT_DIR", str(tmp_path / root))
    sampling = image.module("ops.sampling")
    for _ in range(2):
        sampling.sample(top_k=True, top_p=True)
    sampling.sample(top_k=False, top_p=True)
    sampling.sample(top_k=False, top_p=False)
    libraries = sorted(file.relative_to(tmp_path / below).parts[0] for file in (tmp_path / below).rglob("lib.so"))
    assert [name.rpartition("_")[0] for name in libraries] == [
        "top_k_top_p_sampling_from_probs",
        "top_p_sampling_from_probs",
    ]


def test_a_broken_library_is_an_error(image: Image) -> None:
    (image.jit / "compiled.so").write_bytes(b"\x7fELF of no use")
    with pytest.raises(OSError, match=r"lib\.so"):
        image.module("ops.sampling").sample(top_k=True, top_p=False)


def test_a_killed_build_blocks_the_next_start_on_another_host_name(image: Image, cache: Path) -> None:
    (shaped,) = image.module("jit.core").SHAPED
    environment = {**os.environ, "PYTHONPATH": str(image.site)}
    command = [sys.executable, "-c", f"from aiter.jit import core; core.load({shaped!r})"]
    lock = cache / "build" / f"lock_{shaped}"
    with subprocess.Popen(command, env={**environment, "LAB_HIPCC_SECONDS": "60"}) as first:
        end = time.monotonic() + 30
        while not (lock.exists() and lock.read_text().count("\n") == 2):
            assert time.monotonic() < end
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    assert lock.read_text() == f"{first.pid}\n{socket.gethostname()}\n"
    lock.write_text(f"{first.pid}\n3f2a9c1d0b7e\n")  # as the next container sees it
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        assert "waiting for baton release at" in second.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
        lock.unlink()
        second.wait(30)
    assert not (cache / f"{shaped}.so").exists()  # AITER takes a removed lock for a finished build
    assert second.returncode != 0
    subprocess.run(command, env=environment, check=True, timeout=30)


@pytest.mark.parametrize(
    ("owner", "age", "stolen"),
    [
        ("{gone}\n{host}\n", 0, True),
        ("{alive}\n{host}\n", 3600, False),
        ("{gone}\nelsewhere\n", 3600, False),
        ("", 3600, True),
        ("", 0, False),
    ],
)
def test_a_build_steals_the_lock_of_an_ended_process_of_this_host_only(
    image: Image, tmp_path: Path, owner: str, age: float, stolen: bool
) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    baton = image.module("jit.utils.file_baton")
    lock = tmp_path / "lock"
    lock.write_text(owner.format(gone=ended.pid, alive=os.getpid(), host=socket.gethostname()))
    os.utime(lock, (time.time() - age, time.time() - age))
    builds: list[bool] = []
    thread = threading.Thread(target=lambda: baton.alone(lock, lambda: builds.append(True)), daemon=True)
    thread.start()
    if not stolen:
        thread.join(1)
        assert thread.is_alive()  # it waits
        lock.unlink()
    thread.join(10)
    assert (builds, lock.exists(), thread.is_alive()) == ([True] * stolen, False, False)


@pytest.mark.parametrize(("limit", "jobs"), [("", 51), ("6", 6), ("200", 51), ("0", 51), ("many", 51)])
def test_a_build_uses_most_cores_unless_the_limit_is_lower(
    image: Image, monkeypatch: pytest.MonkeyPatch, limit: str, jobs: int
) -> None:
    core = image.module("jit.core")
    monkeypatch.setattr(core.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(core.os, "sysconf", {"SC_AVPHYS_PAGES": 2**28, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setenv("MAX_JOBS", limit)
    assert core.jobs() == jobs
    monkeypatch.setattr(core.os, "sysconf", {"SC_AVPHYS_PAGES": 2**18, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert core.jobs() == 2  # a gigabyte is free


class Base:
    """Stand-in for vLLM's class of a logits processor."""


def update_entries(entries: dict[int, Any], update: Any, state: Callable[..., Any]) -> None:
    """Stand-in for vLLM's process_dict_updates: add a step's new requests to the entries."""
    for index, params in (update or {}).items():
        entries[index] = state(params, None, [])
        if entries[index] is None:
            del entries[index]


@pytest.fixture
def plugin(image: Image, monkeypatch: pytest.MonkeyPatch) -> Any:
    processor = "vllm.v1.sample.logits_processor"
    for name in ("vllm", "vllm.v1", "vllm.v1.sample", processor, f"{processor}.builtin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[processor], "LogitsProcessor", Base, raising=False)
    monkeypatch.setattr(sys.modules[f"{processor}.builtin"], "process_dict_updates", update_entries, raising=False)
    return image.module("vllm_plugin")


def request(temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0, seed: int | None = None) -> Any:
    return types.SimpleNamespace(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)


@pytest.mark.parametrize(
    ("requests", "compiled"),
    [
        ([request(temperature=0, top_p=0.6)], 0),
        ([request()], 0),
        ([request(top_p=0.6)], 1),
        ([request(top_k=2)], 1),
        ([request(temperature=0), request(top_k=2, top_p=0.6)], 1),
        ([request(top_p=0.6), request(seed=7)], 0),  # as vLLM: with a seed in the batch PyTorch samples
    ],
)
def test_aiter_samples_only_a_batch_with_top_k_or_top_p(
    plugin: Any, tmp_path: Path, requests: list[Any], compiled: int
) -> None:
    sampling = plugin.Sampling(None, "cpu", False)
    sampling.update_state(dict(enumerate(requests)))
    sampling.update_state(None)
    logits = object()
    assert sampling.is_argmax_invariant() and sampling.apply(logits) is logits
    assert len(list((tmp_path / "home").rglob("lib.so"))) == compiled


def test_the_plugin_does_nothing_when_it_is_off(
    plugin: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ROCM_USE_AITER", "0")
    cache.mkdir()
    plugin.load()
    sampling = plugin.Sampling(None, "cpu", False)
    sampling.update_state({0: request(top_p=0.6)})
    sampling.apply(None)
    assert list(cache.iterdir()) == [] and not (tmp_path / "home").exists()


def test_vllm_finds_the_plugin_by_its_entry_points(plugin: Any) -> None:
    (folder,) = SERVING.glob("aiter-*.dist-info")
    entries = importlib.metadata.PathDistribution(folder).entry_points
    assert {(entry.group, entry.load()) for entry in entries} == {
        ("vllm.general_plugins", plugin.load),
        ("vllm.logits_processors", plugin.Sampling),
    }


def test_the_image_has_each_module_that_aiter_lists_as_prebuilt(image: Image) -> None:
    setup = (SERVING / "setup.sh").read_text()
    (line,) = [line for line in setup.splitlines() if line.startswith("for module in ")]
    assert line.removeprefix("for module in ").removesuffix("; do").split() == ["compiled", *PREBUILT]
    assert tuple(image.module("jit.core").PREBUILT) == PREBUILT
    assert image.module("jit.core").SOURCE.name == "compiled.so"
