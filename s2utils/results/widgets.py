"""What a reader may turn in JupyterLab: limits of the filter, weights of a mix, a window, whose answers are looked at.

Each widget is a thin frame around a function that computes a table; the same table stands beside it for those who read
a page. Nothing here makes an artefact. Trap: a widget lives in its kernel only, so a run without a reader shows none
(`live`), and a saved notebook keeps no more of it than its name.
"""

from __future__ import annotations

import html
import os

import pandas as pd
from IPython.display import display

from s2utils.data.parameters import S2
from s2utils.text import safe


def live() -> bool:
    """Whether somebody has this notebook open: its kernel was started by JupyterLab or VS Code, not by papermill."""
    try:
        cells = get_ipython().user_ns.get("In", [])
    except NameError:
        return False
    injected = any(cell.lstrip().startswith("# Parameters") for cell in cells)
    return not injected and any(k == "JPY_SESSION_NAME" or k.startswith("VSCODE") for k in os.environ)


def kept(frame: pd.DataFrame, fre_min: float, fkg_max: float, min_words: dict[str, int]) -> pd.DataFrame:
    """One row a data set of `frame` (dataset, n_words, fre, fkg; a row an answer): n, kept, share.

    Kept is what has at least `min_words` of its data set, an ease of at least `fre_min` and a grade below `fkg_max`. A
    text without words has neither ease nor grade and is not kept.
    """
    enough = frame["n_words"] >= frame["dataset"].map(min_words)
    stays = enough & (frame["fre"] >= fre_min) & (frame["fkg"] < fkg_max)
    found = stays.groupby(frame["dataset"], sort=False).agg(n="size", kept="sum")
    return found.astype(int).assign(share=found["kept"] / found["n"])


def around(frame: pd.DataFrame, s2: S2, kinds: dict[str, str], ease: float = 10, grade: float = 2) -> pd.DataFrame:
    """Share kept in each data set under the profile's limits and with one of them looser or tighter, a row a setting.

    `kinds` gives the kind of each data set. Words are halved and doubled; n stands in the columns' names.
    """
    words = {name: s2.min_words[kind] for name, kind in kinds.items()}
    settings = {"as the profile": (s2.fre_min, s2.fkg_max, words)}
    for step in (-ease, ease):
        settings[f"FRE at least {s2.fre_min + step:g}"] = (s2.fre_min + step, s2.fkg_max, words)
    for step in (grade, -grade):
        settings[f"FKG below {s2.fkg_max + step:g}"] = (s2.fre_min, s2.fkg_max + step, words)
    for factor, text in ((0.5, "half the words at least"), (2, "twice the words at least")):
        settings[text] = (s2.fre_min, s2.fkg_max, {name: n * factor for name, n in words.items()})
    rows = {text: kept(frame, *setting) for text, setting in settings.items()}
    n = rows["as the profile"]["n"]
    table = pd.DataFrame({text: found["share"] for text, found in rows.items()}).T
    return table.rename(columns={name: f"{name} (n = {n[name]:,})" for name in table}).rename_axis("limits")


def limits(frame: pd.DataFrame, s2: S2, kinds: dict[str, str]):
    """Sliders for the limits, starting at the profile's, above the counts they leave in each data set."""
    import ipywidgets

    ease = ipywidgets.FloatSlider(s2.fre_min, min=0, max=100, step=1, description="FRE at least")
    grade = ipywidgets.FloatSlider(s2.fkg_max, min=1, max=20, step=0.5, description="FKG below")
    words = {
        kind: ipywidgets.IntSlider(s2.min_words[kind], min=0, max=200, description=f"words, {kind}")
        for kind in dict.fromkeys(kinds.values())
    }
    table = ipywidgets.HTML()

    def show(_=None) -> None:
        least = {name: words[kind].value for name, kind in kinds.items()}
        found = kept(frame, ease.value, grade.value, least)
        table.value = found.to_html(formatters={"n": "{:,}".format, "kept": "{:,}".format, "share": "{:.1%}".format})

    return framed([ease, grade, *words.values()], table, show)


def reweighted(mix: pd.DataFrame, times: dict[str, float] | None = None) -> pd.DataFrame:
    """Weights of a mix's components (`corpus_mix.table`) as they are, and with each one's epochs doubled and halved.

    With `times`, {component: factor of its epochs}, as they are and under these. One row a component.
    """
    parts = mix[mix["component"] != "total"].set_index("component")["effective_size"]
    if times is not None:
        changed = parts * pd.Series(times).reindex(parts.index, fill_value=1.0)
        return pd.DataFrame({"weight": parts / parts.sum(), "changed": changed / changed.sum()})
    own = {f"seen {f:g} times as often": f * parts / (parts.sum() + (f - 1) * parts) for f in (2, 0.5)}
    return pd.DataFrame({"weight": parts / parts.sum()} | own)


def epochs(mix: pd.DataFrame):
    """A slider of epochs for each component, above the weights that they make."""
    import ipywidgets

    parts = mix[mix["component"] != "total"].set_index("component")["epochs"]
    sliders = {
        name: ipywidgets.FloatSlider(value, min=0.1, max=max(10, 2 * value), step=0.1, description=name)
        for name, value in parts.items()
    }
    table = ipywidgets.HTML()

    def show(_=None) -> None:
        times = {name: slider.value / parts[name] for name, slider in sliders.items()}
        table.value = reweighted(mix, times).to_html(float_format="{:.1%}".format)

    return framed(list(sliders.values()), table, show)


def token_table(scores: pd.DataFrame, documents: pd.DataFrame, tok, place: int) -> pd.DataFrame:
    """Tokens of the document at `place` and the loss of each, in nats; `scores` and `documents` as `fit` has them."""
    from s2utils.models import likelihood  # slow

    losses = scores["losses"].iat[place]
    (ids,) = likelihood.encoded(tok, [documents["text"].iat[place]])
    texts = [safe.visible(tok.decode([token])) for token in ids[: len(losses)]]
    return pd.DataFrame({"token": texts, "loss": losses})


def costliest(scores: pd.DataFrame, documents: pd.DataFrame, tok, n: int = 5) -> pd.DataFrame:
    """Of the first document of each domain the `n` tokens of the largest loss, in nats, and its mean."""
    rows = []
    for domain, part in documents.reset_index(drop=True).groupby("domain", sort=False):
        table = token_table(scores, documents, tok, part.index[0])
        most = table.nlargest(n, "loss")
        told = ", ".join(f"{token!r} {loss:.1f}" for token, loss in most.itertuples(index=False))
        rows.append({"domain": domain, "mean loss": round(table["loss"].mean(), 2), "costliest tokens": told})
    return pd.DataFrame(rows).set_index("domain")


def token_losses(scores: dict[str, pd.DataFrame], documents: pd.DataFrame, tok):
    """Lists of models, domains and documents, above the document with each token on a ground as dark as its loss."""
    import ipywidgets

    model = ipywidgets.Dropdown(options=list(scores), description="model")
    names = [f"{row.domain} · {row.id}"[:80] for row in documents.itertuples()]
    place = ipywidgets.Dropdown(options=[(name, i) for i, name in enumerate(names)], description="document")
    text = ipywidgets.HTML()

    def show(_=None) -> None:
        table = token_table(scores[model.value], documents, tok, place.value)
        text.value = "".join(
            f'<span title="{loss:.2f} nats" style="background:rgba(200,60,40,{min(loss / 10, 1):.2f})">'
            f"{html.escape(token)}</span>"
            for token, loss in table.itertuples(index=False)
        )

    return framed([model, place], text, show)


def reach(windows: list[int | None], sinks: list[int], tokens: int, layers: int, bytes_a_token: int) -> pd.DataFrame:
    """What the last of `tokens` tokens sees of those before it: a row a window (None: none) and number of sinks in it.

    Columns: keys in its sight, which a cache must keep, and their bytes; the share of all causal pairs that is looked
    at; how many tokens back values can come from through `layers` layers, sinks aside.
    """
    rows = []
    for window, first in [(width, first) for width in windows for first in (sinks if width else [0])]:
        kept = min(window or tokens, tokens)
        pairs = kept * (kept + 1) / 2 + kept * (tokens - kept)
        back = min(tokens - 1, layers * (kept - first - 1))
        row = (window or "none", first, kept, kept * bytes_a_token, pairs / (tokens * (tokens + 1) / 2), back)
        rows.append(row)
    names = ["window", "sinks", "keys seen", "bytes of cache", "share of pairs", "reach back"]
    return pd.DataFrame(rows, columns=names).set_index(names[:2])


def windows(tokens: int, layers: int, bytes_a_token: int, drawn: int = 24):
    """Sliders of window and sinks above the mask of `drawn` tokens, and what they leave of `tokens` (`reach`)."""
    import ipywidgets
    import torch

    from s2utils.architecture import attention  # slow

    window = ipywidgets.IntSlider(8, min=1, max=drawn, description="window")
    sinks = ipywidgets.IntSlider(0, min=0, max=drawn, description="sinks")
    length = ipywidgets.IntSlider(tokens, min=drawn, max=4 * tokens, description="tokens")
    picture, places = ipywidgets.HTML(), torch.arange(drawn)

    def show(_=None) -> None:
        first = min(sinks.value, window.value - 1)
        mask = attention.visible(places, places, window.value, first)
        rows = "\n".join("".join("■" if seen else "·" for seen in row) for row in mask.tolist())
        table = reach([window.value], [first], length.value, layers, bytes_a_token)
        picture.value = f"<pre style='line-height:1'>{rows}</pre>{table.to_html()}"

    return framed([window, sinks, length], picture, show)


def side_by_side(answers: pd.DataFrame, dataset: str, question: str) -> pd.DataFrame:
    """The reference and every model's answer to one question of a data set; `answers` as 04 writes them, a row each."""
    part = answers[(answers["dataset"] == dataset) & (answers["question"] == question)]
    reference = {"model": "reference", "text": part["reference"].iat[0], "n_tokens": pd.NA, "ended": pd.NA}
    rows = [reference, *part[["model", "text", "n_tokens", "ended"]].to_dict("records")]
    return pd.DataFrame(rows).set_index("model")


def explorer(answers: pd.DataFrame):
    """Two lists, of data sets and of their questions, above all answers to the one that is chosen."""
    import ipywidgets

    dataset = ipywidgets.Dropdown(options=list(dict.fromkeys(answers["dataset"])), description="data set")
    question = ipywidgets.Dropdown(description="question", layout={"width": "90%"})
    table = ipywidgets.HTML()

    def ask(_=None) -> None:
        asked = answers.loc[answers["dataset"] == dataset.value, "question"]
        question.options = [(text[:120], text) for text in dict.fromkeys(asked)]
        question.index = 0

    def show(_=None) -> None:
        if question.value is not None:
            with pd.option_context("display.max_colwidth", None):
                table.value = side_by_side(
                    answers, dataset.value, question.value
                ).to_html()  # escapes what models wrote

    ask()
    dataset.observe(ask, "value")
    return framed([dataset, question], table, show)


def framed(controls: list, table, show):
    """Controls above a table that follows them."""
    import ipywidgets

    for control in controls:
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([*controls, table])


def offer(widget) -> None:
    """Display what `widget()` makes where somebody can turn it; nothing elsewhere."""
    if live():
        display(widget())
