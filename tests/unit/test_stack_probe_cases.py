"""A user's own cases: a preview reports each mistake with file and key, whatever the file holds; a right one runs as ours do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fleet import errors, probes, program
from fleet.probes import case as shipped
from fleet.probes import checks
from fleet.stack import probe_cases

GOLDEN = Path(__file__).parent / "golden" / "stack_probe_cases"
TAKEN = ["bottle-grounding"]
RIGHT: dict[str, Any] = {
    "about": "It reads our meters.",
    "question": "Where is the dial?",
    "picture": {"file": "meter.png", "objects": [{"label": "dial", "box": [10, 10, 40, 40]}]},
    "checks": [{"status": [200]}, {"box": "dial"}],
}
DRAWN = {"size": [448, 336], "bottles": [{"colour": "red", "box": [40, 100, 100, 264]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a picture and the right case."""
    Image.new("RGB", (64, 48)).save(tmp_path / "meter.png")
    (tmp_path / "movie.mp4").write_bytes(b"anything")
    write(tmp_path)
    return tmp_path


def write(folder: Path, name: str = "meter", **change: Any) -> None:
    case = {key: value for key, value in {**RIGHT, **change}.items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(case))


def raw(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "meter.yaml").write_text(text) and None


def changed(**change: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, **change)


def placed(**change: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, picture={**RIGHT["picture"], **change})


def big(folder: Path) -> None:
    with (folder / "meter.png").open("r+b") as file:
        file.truncate(probe_cases.MOST + 1)


def cut_off(folder: Path) -> None:
    whole = (shipped.MEDIA / "coffee.jpg").read_bytes()
    (folder / "coffee.jpg").write_bytes(whole[: len(whole) // 2])
    placed(file="coffee.jpg")(folder)


# claim → the change to the folder with the right case
MISTAKES: dict[str, Callable[[Path], None]] = {
    "a-misspelled-key": changed(questoin="Where?"),
    "a-misspelled-check": changed(checks=[{"boks": "dial"}]),
    "a-check-of-another-type": changed(checks=[{"status": "200"}]),
    "a-check-without-a-value": raw("about: It.\nquestion: What?\nchecks: [{status: }]\n"),
    "a-key-without-a-value": raw("about: It.\nquestion:\nchecks: [{status: [200]}]\n"),
    "no-checks": changed(checks=[]),
    "no-question": changed(question=None),
    "a-box-of-nothing-on-the-picture": changed(checks=[{"box": "dail"}]),
    "a-box-without-a-picture": changed(picture=None),
    "two-things-with-one-label": placed(objects=RIGHT["picture"]["objects"] * 2),
    "a-box-that-is-not-on-the-picture": placed(objects=[{"label": "dial", "box": [10, 10, 400, 40]}]),
    "a-box-the-wrong-way-round": placed(objects=[{"label": "dial", "box": [40, 40, 10, 10]}]),
    "bottles-on-a-photograph": changed(checks=[{"bottles": True}]),
    "no-such-picture": placed(file="metre.png"),
    "a-picture-elsewhere": placed(file="../meter.png"),
    "a-picture-of-another-kind": placed(file="movie.mp4"),
    "a-picture-that-is-none": lambda folder: (folder / "meter.png").write_bytes(b"GIF89a") and None,
    "a-picture-that-is-cut-off": cut_off,
    "a-picture-too-big": big,
    "a-drawing-and-a-photograph": placed(size=[448, 336]),
    "no-such-video": changed(video="left.mp4"),
    "top-p-above-one": changed(sampling={"top_p": 60}),
    "no-yaml": raw("about: [\n"),
    "no-mapping": raw("- a\n"),
    "control-characters": raw("about: \x00\n"),
    "deep-yaml": raw("- " * 5000),
    "many-brackets": raw("[" * 5000),
    "long-yaml": raw("#" * 70_000),
    "a-name-that-is-taken": lambda folder: write(folder, "bottle-grounding"),
    "a-name-that-is-none": lambda folder: write(folder, "My case"),
    "an-empty-folder": lambda folder: (folder / "meter.yaml").unlink(),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_reported_with_file_and_key(claim: str, folder: Path) -> None:
    MISTAKES[claim](folder)
    _, mistakes = probe_cases.read_folder(folder, "probes/own", TAKEN)
    assert "\n".join(map(str, mistakes)) + "\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_every_golden_text_belongs_to_a_claim() -> None:
    unused = {path.stem for path in GOLDEN.iterdir()} - set(MISTAKES)
    assert not unused, "no claim in MISTAKES has this golden text: remove it"


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    _, (mistake,) = probe_cases.read_folder(tmp_path / "own", "own", TAKEN)
    assert str(mistake) == "own: there is no such folder\n  wanted: a folder with a YAML file for each case"


def test_all_mistakes_of_all_files_are_reported_at_once(folder: Path) -> None:
    write(folder, "a", question=None)
    write(folder, "b", checks=[{"box": "x"}, {"box": "y"}])
    _, mistakes = probe_cases.read_folder(folder, "own/", TAKEN)
    places = [f"{mistake.file}: {mistake.key}" for mistake in mistakes]
    assert places == ["own/a.yaml: question", "own/b.yaml: checks[0].box", "own/b.yaml: checks[1].box"]


def test_our_own_cases_have_the_form_of_a_user_s() -> None:
    media = [path.name for path in shipped.MEDIA.iterdir()]
    for path in (shipped.HERE / "cases").iterdir():
        case = probe_cases.CaseFile.model_validate(yaml.safe_load(path.read_text()))
        assert (case.video or "left-to-right.mp4") in media
        assert not case.picture or (case.picture.file or "coffee.jpg") in media


def test_the_form_knows_every_check_and_every_colour() -> None:
    assert set(probe_cases.Check.model_fields) == set(checks.CHECKS), (
        "CHECKS in fleet/probes/checks.py and Check in fleet/stack/probe_cases.py have the same names"
    )
    assert set(probe_cases.COLOURS.__args__) == set(checks.picture.COLOURS), (  # type: ignore[attr-defined]
        "COLOURS in fleet/probes/picture.py and in fleet/stack/probe_cases.py are the same"
    )


def test_a_user_s_own_case_runs_as_ours_do_with_its_picture(folder: Path) -> None:
    write(folder, "drawn", picture=DRAWN, checks=[{"bottles": True}], sampling={"top_p": 0.6}, advisory=True)
    names = [case.name for case in probes.load(extra=folder)]
    assert names == [*(case.name for case in probes.load()), "drawn", "meter"]
    (own,) = probes.load(["meter"], 0.7, folder)
    (content, _) = own.body("m")["messages"][0]["content"]
    assert content["image_url"]["url"].startswith("data:image/png;base64,")
    assert checks.truth(own) == [("dial", (156.25, 208.33333333333334, 625.0, 833.3333333333334))]
    assert own.min_iou == 0.7
    (drawn,) = probes.load(["drawn"], extra=folder)
    assert drawn.advisory and drawn.body("m")["top_p"] == 0.6


def test_a_user_s_own_video_is_beside_the_case(folder: Path) -> None:
    write(folder, "movie", picture=None, video="movie.mp4", checks=[{"words": ["left"]}])
    (own,) = probes.load(["movie"], extra=folder)
    assert own.body("m")["messages"][0]["content"][0]["video_url"]["url"] == "data:video/mp4;base64,YW55dGhpbmc="


def test_a_case_that_became_wrong_after_the_preview_is_a_failure_and_no_traceback(folder: Path) -> None:
    write(folder, question=None)
    with pytest.raises(errors.SettingsError, match="this key is missing"):
        probes.load(extra=folder)


def test_a_changed_or_renamed_case_or_picture_is_another_digest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    digests = [program.probes_digest(), program.probes_digest(folder.name)]
    write(folder, question="Which dial?")
    digests.append(program.probes_digest(folder.name))
    Image.new("RGB", (64, 48), "red").save(folder / "meter.png")
    digests.append(program.probes_digest(folder.name))
    (folder / "meter.png").rename(folder / "dial.png")
    digests.append(program.probes_digest(folder.name))
    assert len(set(digests)) == 5


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from([*probe_cases.CaseFile.model_fields, "x"])
CHECK = st.dictionaries(st.sampled_from([*probe_cases.Check.model_fields]), VALUES, max_size=2)
CHANGES = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.fixed_dictionaries({"checks": st.lists(CHECK, max_size=2)}),
    st.fixed_dictionaries({"picture": st.dictionaries(st.sampled_from([*probe_cases.Picture.model_fields]), VALUES)}),
)


@given(CHANGES)
def test_any_keys_are_a_case_or_mistakes(tmp_path_factory: pytest.TempPathFactory, change: dict[str, Any]) -> None:
    read_any(tmp_path_factory, yaml.safe_dump({**RIGHT, **change}).encode())


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode(errors="replace")), VALUES.map(yaml.safe_dump)))
def test_any_file_is_a_case_or_mistakes(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    read_any(tmp_path_factory, content if isinstance(content, bytes) else content.encode())


def read_any(factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = factory.getbasetemp()
    if not (folder / "meter.png").exists():
        Image.new("RGB", (64, 48)).save(folder / "meter.png")
    (folder / "meter.yaml").write_bytes(content)
    read, mistakes = probe_cases.read_folder(folder, "own", TAKEN)
    for mistake in mistakes:
        assert mistake.file == "own/meter.yaml" and str(mistake)
    if not mistakes:
        assert json.dumps(read, default=str)
        (case,) = probes.load(["meter"], extra=folder)
        assert case.body("m")
        checks.problems(case, checks.Answer(200, "[[1,2,3,4]]"))
