"""Figures: one look, written as PNG, SVG and PDF, shown with an alternative text and a caption."""

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
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    return HTML(
        f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" style="max-width:100%">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
