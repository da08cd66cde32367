"""The pictures that cases ask about: coloured bottles drawn from the case file, or a photograph with boxes that a person drew.

So the truth is known: to the pixel in a drawing, as well as one sees it in a photograph. Needs Pillow.
Called by case.py for requests, by checks.py for the truth, by report.py for the page, by lab/model for training.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {
    "red": (205, 30, 30),
    "green": (30, 150, 50),
    "blue": (30, 60, 200),
    "yellow": (235, 205, 20),
    "white": (250, 250, 250),
    "black": (25, 25, 25),
}
WALL, TABLE, GLASS_EDGE = (225, 228, 235), (150, 105, 60), (60, 60, 60)
GRID = 1000  # GLM answers boxes in thousandths of the picture, whatever its size
PHOTOGRAPHS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}

Box = tuple[float, float, float, float]  # left, top, right, bottom
# {size: [width, height], bottles: [{colour, box: [left, top, right, bottom] in pixels}]}, or
# {file: path of a photograph, objects: [{label, box}], source, licence}.
Scene = Mapping[str, Any]


def image(scene: Scene) -> Image.Image:
    """Return the picture of a scene: the photograph, or the drawing."""
    if "file" in scene:
        with Image.open(scene["file"]) as photograph:
            return photograph.convert("RGB")
    return _drawn(scene)


def encoded(scene: Scene) -> tuple[str, bytes]:
    """Return media type and content of the picture as a file: a photograph as it is, a drawing as PNG."""
    if "file" in scene:
        path = Path(scene["file"])
        return PHOTOGRAPHS[path.suffix], path.read_bytes()
    file = io.BytesIO()
    _drawn(scene).save(file, "PNG")
    return "image/png", file.getvalue()


def size(scene: Scene) -> tuple[int, int]:
    """Return width and height in pixels."""
    if "file" in scene:
        with Image.open(scene["file"]) as photograph:
            return photograph.size
    width, height = scene["size"]
    return width, height


def objects(scene: Scene, label: str = "") -> list[tuple[str, Box]]:
    """Return (label, box on the grid) of what has this label, or of all there is; a bottle's label is its colour."""
    width, height = size(scene)
    found = scene["objects"] if "file" in scene else scene["bottles"]
    named = [(one["label"] if "file" in scene else one["colour"], one["box"]) for one in found]
    return [(name, _on_grid(box, width, height)) for name, box in named if label in ("", name)]


def noun(scene: Scene, label: str) -> str:
    """Return what a sentence calls the object with this label: "red bottle", "cup"."""
    return label if "file" in scene else f"{label} bottle"


def _drawn(scene: Scene) -> Image.Image:
    width, height = scene["size"]
    drawing = Image.new("RGB", (width, height), WALL)
    pen = ImageDraw.Draw(drawing)
    pen.rectangle((0, round(height * 0.7), width, height), fill=TABLE)
    for bottle in scene["bottles"]:
        left, top, right, bottom = bottle["box"]
        neck, shoulder = (right - left) // 3, top + (bottom - top) // 3
        colour = COLOURS[bottle["colour"]]
        pen.rounded_rectangle((left, shoulder, right, bottom), 8, fill=colour, outline=GLASS_EDGE)
        pen.rectangle((left + neck, top, right - neck, shoulder), fill=colour, outline=GLASS_EDGE)
    return drawing


def _on_grid(box: Box, width: int, height: int) -> Box:
    """Return a box in pixels as GLM counts: 0 to 1000 over width and height."""
    left, top, right, bottom = box
    return (left * GRID / width, top * GRID / height, right * GRID / width, bottom * GRID / height)
