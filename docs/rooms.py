"""The rooms of s2utils and which imports which, drawn from the code into docs/rooms.svg.

    python docs/rooms.py

A row a room, in the order of import-linter's contract (pyproject.toml): a dot where it imports the room of the column,
so that all dots lie left of the diagonal.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
CELL, LEFT, TEXT = 30, 110, 680  # of a dot, of the names, of what a room is for


def rooms() -> list[str]:
    """The rooms, each of which may import only from those before it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [layer.split("|") for layer in settings["contracts"][0]["layers"]]
    return [room.strip().rpartition(".")[2] for layer in reversed(layers) for room in layer]


def imports() -> list[tuple[str, str]]:
    """(importing room, imported room), in the order of the rooms."""
    graph, order = grimp.build_graph("s2utils", cache_dir=None), rooms()
    pairs = {
        (module.split(".")[1], other.split(".")[1])
        for module in graph.modules if "." in module
        for other in graph.find_modules_directly_imported_by(module) if "." in other
    }  # fmt: skip
    inside = [pair for pair in pairs if set(pair) <= set(order) and pair[0] != pair[1]]
    return sorted(inside, key=lambda pair: (order.index(pair[0]), order.index(pair[1])))


def drawn() -> list[tuple[str, str]]:
    """What the picture shows."""
    return re.findall(r'<circle data-room="(\w+)" data-imports="(\w+)"', PICTURE.read_text(encoding="utf-8"))


def draw() -> str:
    """The picture as SVG; the same code gives the same bytes."""
    order = rooms()
    place = {room: i for i, room in enumerate(order)}
    wide, tall = LEFT + CELL * len(order) + TEXT, 100 + CELL * len(order)
    parts = []
    for room, i in place.items():
        x, y = LEFT + CELL * i + CELL / 2, 90 + CELL * i + CELL / 2
        about = importlib.import_module(f"s2utils.{room}").__doc__.strip().replace("&", "&amp;")
        parts += [
            f'<rect x="0" y="{y - CELL / 2:g}" width="{wide}" height="{CELL}" class="band{i % 2}"/>',
            f'<text x="{LEFT - 10}" y="{y + 5:g}" class="name">{room}</text>',
            f'<text x="{x + 4:g}" y="82" transform="rotate(-55 {x + 4:g} 82)">{room}</text>',
            f'<rect x="{x - 5:g}" y="{y - 5:g}" width="10" height="10" class="self"/>',
            f'<text x="{LEFT + CELL * len(order) + 14}" y="{y + 5:g}" class="about">{about}</text>',
        ]
    for one, two in imports():
        x, y = LEFT + CELL * place[two] + CELL / 2, 90 + CELL * place[one] + CELL / 2
        parts.append(f'<circle data-room="{one}" data-imports="{two}" cx="{x:g}" cy="{y:g}" r="6"/>')
    style = (
        ".band0{fill:#f3f6f9}.band1{fill:#fff}.self{fill:#c9d3dd}circle{fill:#1f5f8b}text{font:13px "
        "sans-serif;fill:#1b2733}.name{text-anchor:end;font-weight:600}.about{fill:#4a5764;font-size:12px}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" role="img">'
    title = "<title>The rooms of s2utils: a dot where the room of a row imports that of a column</title>"
    paper = f'<rect width="{wide}" height="{tall}" style="fill:#fff"/>'
    return "\n".join([head, title, f"<style>{style}</style>", paper, *parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
