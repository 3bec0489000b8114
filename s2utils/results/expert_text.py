"""Texts with every token on the ground of the expert that it is sent to first: HTML, and a list to choose from.

The expert's number stands beneath its token, so that nothing hangs on colour; the pointer shows the experts of a token
with the weight of each, made to sum to 1 (OLMoE leaves them as they are). Tokens are escaped, and controls in them are
signs (`safe.visible`). Trap: colours of two experts far apart in number may be alike where there are many, and the
numbers never are.
"""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
from IPython.display import HTML
from transformers import PreTrainedTokenizerBase

from s2utils.evaluation import expert_routing
from s2utils.results import widgets
from s2utils.text import safe

TEXTS = {  # written for this
    "code": "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n",
    "arithmetic": "Calculate 12 * 11. 132\nWhat is 7 + 35? 42\nSolve 3*x = 27 for x. 9",
    "question": "Why is the sky blue? Sunlight is made of many colours, and the air scatters blue light the most.",
}  # fmt: skip
LINE = "⏎"


def documents() -> pd.DataFrame:
    """`TEXTS` as `expert_routing.routed` reads documents."""
    return pd.DataFrame([{"domain": name, "id": name, "text": text} for name, text in TEXTS.items()])


def tokens(row, tok: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a token of a row of `routed`: token (visible), expert, and experts with their weights, in words."""
    probabilities, choices, _ = expert_routing.stacked(pd.DataFrame([row]))
    chosen = np.take_along_axis(probabilities, choices, axis=1)
    gates = chosen / chosen.sum(axis=1, keepdims=True)
    told = [", ".join(f"expert {expert}: {gate:.0%}" for expert, gate in zip(*token)) for token in zip(choices, gates)]
    shown = [safe.visible(tok.decode([token])) for token in row["ids"]]
    return pd.DataFrame({"token": shown, "expert": choices[:, 0], "told": told}).assign(
        n_experts=probabilities.shape[1]
    )


def coloured(row, tok: PreTrainedTokenizerBase) -> str:
    """A row of `routed` as HTML."""
    parts = []
    for token, expert, told, n_experts in tokens(row, tok).itertuples(index=False):
        ground = f"hsla({360 * expert / n_experts:.0f}, 80%, 50%, 0.3)"  # over light and dark pages
        text = html.escape(token.replace("\n", LINE)).replace(" ", "&nbsp;")
        parts.append(
            f'<ruby title="{html.escape(told)}" style="ruby-position:under;background-color:{ground}">'
            f"{text}<rt>{expert}</rt></ruby>{'<br>' * token.count(chr(10))}"
        )
    return f'<div style="line-height:2.4">{"".join(parts)}</div>'


def page(frame: pd.DataFrame, tok: PreTrainedTokenizerBase) -> HTML:
    """All rows of `routed`, a heading a layer and text: whoever asks for these layers reads them without a kernel."""
    parts = [
        f"<h4>{html.escape(f'{row.place} layer, {row.domain}')}</h4>{coloured(row._asdict(), tok)}"
        for row in frame.itertuples(index=False)
    ]
    return HTML("".join(parts))


def explorer(frame: pd.DataFrame, tok: PreTrainedTokenizerBase):
    """Lists of layers and texts above the text that is chosen; `frame` as `routed`, of one model."""
    import ipywidgets

    layer = ipywidgets.Dropdown(options=list(dict.fromkeys(frame["place"])), description="layer")
    name = ipywidgets.Dropdown(options=list(dict.fromkeys(frame["domain"])), description="text")
    text = ipywidgets.HTML()

    def show(_=None) -> None:
        row = frame[(frame["place"] == layer.value) & (frame["domain"] == name.value)].iloc[0]
        text.value = coloured(row.to_dict(), tok)

    return widgets.framed([layer, name], text, show)
