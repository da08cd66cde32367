"""Pictures drawn from a case file: coloured bottles on a table, so that the truth is known to the pixel.

Needs Pillow. Called by case.py for requests, by report.py for the page, by lab/model for training.
"""

import io
from collections.abc import Mapping
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

Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw(scene: Mapping[str, Any]) -> Image.Image:
    """Draw a scene {size: [width, height], bottles: [{colour, box: [left, top, right, bottom] in pixels}]}."""
    width, height = scene["size"]
    image = Image.new("RGB", (width, height), WALL)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, round(height * 0.7), width, height), fill=TABLE)
    for bottle in scene["bottles"]:
        left, top, right, bottom = bottle["box"]
        neck, shoulder = (right - left) // 3, top + (bottom - top) // 3
        colour = COLOURS[bottle["colour"]]
        pen.rounded_rectangle((left, shoulder, right, bottom), 8, fill=colour, outline=GLASS_EDGE)
        pen.rectangle((left + neck, top, right - neck, shoulder), fill=colour, outline=GLASS_EDGE)
    return image


def png(scene: Mapping[str, Any]) -> bytes:
    """Return the drawn scene as a PNG file."""
    file = io.BytesIO()
    draw(scene).save(file, "PNG")
    return file.getvalue()


def on_grid(box: Box, scene: Mapping[str, Any]) -> Box:
    """Return a box in pixels as GLM counts: 0 to 1000 over width and height."""
    width, height = scene["size"]
    left, top, right, bottom = box
    return (left * GRID / width, top * GRID / height, right * GRID / width, bottom * GRID / height)


def bottles(scene: Mapping[str, Any], colour: str = "") -> list[tuple[str, Box]]:
    """Return (colour, box on the grid) of the bottles of a colour, or of all of them."""
    return [(one["colour"], on_grid(one["box"], scene)) for one in scene["bottles"] if colour in ("", one["colour"])]
