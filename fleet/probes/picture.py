"""The pictures of the cases: bottles drawn from the case file, or a photograph with boxes that a person drew.

The true boxes are exact in a drawing, and as good as the eye in a photograph. Needs Pillow.
Called by case.py for requests, by checks.py for the true boxes, by report.py for the page, by lab/model for training.
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
GRID = 1000  # GLM gives boxes in thousandths of the picture, at any size
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
    """Return media type and bytes of the picture: a photograph's own file, a drawing as PNG."""
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
    """Return (label, box on the grid) of each object with this label, or of all; a bottle's label is its colour."""
    width, height = size(scene)
    items, key = (scene["objects"], "label") if "file" in scene else (scene["bottles"], "colour")
    return [(item[key], _on_grid(item["box"], width, height)) for item in items if label in ("", item[key])]


def noun(scene: Scene, label: str) -> str:
    """Return the noun for the object with this label: "red bottle", "cup"."""
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
    """Return a box in pixels as GLM gives it: 0 to 1000 over width and height."""
    left, top, right, bottom = box
    return (left * GRID / width, top * GRID / height, right * GRID / width, bottom * GRID / height)
