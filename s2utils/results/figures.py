"""Figures: one look, written as PNG, SVG and PDF, shown with an alternative text and a caption, and read back."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from IPython.display import HTML
from matplotlib.figure import Figure

from s2utils.workflow import artefacts

METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None},
}


def style() -> None:
    """One look for every figure; colour-blind safe; the same bytes for the same data."""
    sns.set_theme(
        context="notebook", style="whitegrid", palette="colorblind", rc={"figure.dpi": 100, "svg.hashsalt": "s2"}
    )


def save(figure: Figure, name: str, folder: Path, alt: str, caption: str) -> HTML:
    """Write <name>.png, .svg, .pdf and .txt (alt text, caption) into `folder`; returns the figure for display.

    `alt` says what the picture shows, `caption` what to see in it.
    """
    figure.tight_layout()
    for kind, metadata in METADATA.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, bbox_inches="tight", metadata=metadata)
        with artefacts.replacing(folder / f"{name}.{kind}", "wb") as file:
            file.write(buffer.getvalue())
    plt.close(figure)
    with artefacts.replacing(folder / f"{name}.txt") as file:
        file.write(f"{alt}\n{caption}\n")
    return HTML(
        f'<figure><img alt="{html.escape(alt)}" src="{_uri(folder / f"{name}.png")}" style="max-width:100%">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def read(png: Path) -> dict:
    """A picture with its text: {name, data (URI), alt, caption, files}."""
    text = png.with_suffix(".txt")
    alt, _, caption = (text.read_text(encoding="utf-8") if text.is_file() else png.stem).partition("\n")
    return {
        "name": png.stem,
        "data": _uri(png),
        "alt": alt.strip(),
        "caption": caption.strip(),
        "files": [f"{png.stem}.{kind}" for kind in ("svg", "pdf") if png.with_suffix(f".{kind}").is_file()],
    }


def _uri(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"
