"""What papers claim of mixtures of experts, as comparisons that are above 0 where it is as claimed.

Tables of 12: `mixture`, `passkey`, `experts_routing`, `experts_repeats`, and Mixtral's own as printed. A table may hold
several models; each is compared with itself. Limits of words ("alike", "everywhere") are ours and stand in the
statement. n is documents, for a document's tokens go together. Trap: Mixtral's table has no marginals, so its repeats
stand against uniform choices, ours against choices that are as frequent as these within each document.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from s2utils.data import corpus_mix
from s2utils.results.claims import Difference
from s2utils.stats import intervals, routing
from s2utils.workflow.params import Params

Found = list[Difference | str]

NEARLY_ALL, SOME_MOVE = 0.9, 0.1  # of the prompts; of a domain's assignments
MATHEMATICS = "DM Mathematics"
MIXTRAL = 8, 2  # experts, and how many a token chooses


def wins() -> Found:
    """Share of the printed benchmarks that Mixtral wins against Llama 2 70B, minus a half."""
    benchmarks = corpus_mix.published_numbers("mixtral", "benchmarks")
    ahead = benchmarks["mixtral_8x7b"] - benchmarks["llama_2_70b"]
    value = (ahead > 0).mean() - 0.5
    return [Difference("benchmarks won", value, value, value, interval="exact")]


def worth_more(losses: pd.DataFrame, params: Params) -> Found:
    """At equal steps, loss of the dense model nearest in active parameters minus each mixture's, mean over domains.

    One that was upcycled was smaller and dense for part of its life, so it is no test of experts.
    """
    from s2utils.evaluation import fit  # slow
    from s2utils.training.mixtures import UPCYCLED

    losses = losses[losses["model"] != UPCYCLED]
    rows = losses[(losses["budget"] == "equal steps") & ~losses["domain"].isin([fit.MACRO, fit.POOLED])]
    dense = rows[rows["total_parameters"] == rows["active_parameters"]]
    found: Found = []
    for name, part in rows.drop(dense.index).groupby("model", sort=False):
        apart = (dense["active_parameters"] - part["active_parameters"].iloc[0]).abs()
        nearest = dense[apart == apart.min()]
        gain = (nearest.groupby("domain")["loss"].mean() - part.groupby("domain")["loss"].mean()).dropna()
        estimate = intervals.mean(gain, params)
        found.append(Difference(f"{nearest['model'].iloc[0]} − {name}", *estimate, len(gain), 0, "paired"))
    return found or ["the table mixture has no mixture at equal steps"]


def found_everywhere(passkey: pd.DataFrame, params: Params) -> Found:
    """Share of keys found at each length, all places together, the model's own window, minus nine tenths.

    A place alone has too few prompts; each has as many, so one where keys are lost weighs in what is found.
    """
    own = passkey[passkey["window"] == 0]
    found: Found = []
    for cell, part in own.groupby([key for key in ("model", "template", "length") if key in own], sort=False):
        hits, n = int(part["n_hits"].sum()), int(part["n"].sum())
        ends = (end - NEARLY_ALL for end in intervals.share(hits, n, params.text_metrics.confidence))
        name = f"{' '.join(map(str, cell))} tokens, {len(part)} places"
        found.append(Difference(name, *ends, n, 0, "Wilson"))
    return found


def alike_by_domain(shared: pd.DataFrame, params: Params) -> Found:
    """A tenth minus the part of each domain's assignments that would have to move to be shared as the others' are.

    Less what noise alone would make of domains that are alike: a sum of |differences| is never below it. Its interval
    takes this off at one end only, so it is too wide rather than too narrow.
    """
    rows = shared[(shared["choice"] == "any") & (shared["domain"] != MATHEMATICS)].dropna(subset=["share_ci_low"])
    rows = rows.drop_duplicates([*_layers(rows), "domain", "expert"])  # a middle layer that is the last one too
    rows = rows.assign(half=(rows["share_ci_high"] - rows["share_ci_low"]) / 2)
    found: Found = []
    for place, part in rows.groupby(_layers(rows), sort=False):
        shares, half = (part.pivot(index="domain", columns="expert", values=name) for name in ("share", "half"))
        for domain, own in shares.iterrows():
            if len(others := shares.index.drop(domain)) == 0:
                continue
            value = SOME_MOVE - (own - shares.loc[others].mean()).abs().sum() / 2
            errors = np.hypot(half.loc[domain], np.sqrt((half.loc[others] ** 2).sum()) / len(others))
            wide = errors.sum() / 2  # as if all experts erred together: the table does not tell how they do
            noise = wide * math.sqrt(2 / math.pi) / stats.norm.ppf((1 + params.text_metrics.confidence) / 2)
            n = part.loc[part["domain"] == domain, "n_documents"].iloc[0]
            if math.isfinite(value):
                name = f"{domain}, {_named(place)}"
                found.append(Difference(name, value + noise, value - wide, value + noise + wide, n, math.nan, "bound"))
    return found or ["no layer has two domains with an interval"]


def mathematics_apart(repeats: pd.DataFrame) -> Found:
    """Overlap of neighbours' experts in the domain that overlaps least of the others, minus that in mathematics."""
    layer = repeats["layer"]
    every = repeats.groupby("model")["layer"] if "model" in repeats else layer.groupby(lambda _: 0)
    outer = (layer == every.transform("min")) | (layer == every.transform("max"))
    rows = repeats[(repeats["kind"] == "any") & outer].dropna(subset=["repeats_ci_low"])
    rows = rows.drop_duplicates([*_layers(rows), "domain"]).set_index("domain")
    found: Found = []
    for place, part in rows.groupby(_layers(rows), sort=False):
        if MATHEMATICS in part.index and len(part) > 1:
            least = part.drop(MATHEMATICS)["repeats"].idxmin()
            one, other = (tuple(part.loc[domain, intervals.names("repeats")]) for domain in (least, MATHEMATICS))
            n = part.loc[[least, MATHEMATICS], "n_documents"].min()
            ends, how = intervals.difference(one, other), "combined"
            if math.isnan(n):
                ends, how = (one[0] - other[0], one[1] - other[2], one[2] - other[1]), "rounding"
            found.append(Difference(f"{least} − {MATHEMATICS}, {_named(place)}", *ends, n, math.nan, how))
    return found or [f"experts_repeats has no domain {MATHEMATICS} beside others"]


def structured(repeats: pd.DataFrame) -> Found:
    """First choices that repeat minus those by chance, in each domain and layer but the first."""
    rows = repeats[(repeats["kind"] == "first") & (repeats["layer"] > repeats["layer"].min())]
    rows = rows.drop_duplicates([*_layers(rows), "domain"])
    found: Found = []
    for row in rows.dropna(subset=["repeats_ci_low"]).to_dict("records"):
        ends = (row[end] - row["document_null"] for end in intervals.names("repeats"))
        how = "rounding" if math.isnan(row["n_documents"]) else "over documents"
        name = f"{row['domain']}, {_named(tuple(row[key] for key in _layers(rows)))}"
        found.append(Difference(name, *ends, row["n_documents"], math.nan, how))
    return found or ["experts_repeats has no layer after the first with an interval"]


def printed() -> pd.DataFrame:
    """Mixtral's table as `experts_repeats` is: no n, intervals of rounding, and uniform choices for the null."""
    table = corpus_mix.published("mixtral", "repeats")
    parts = []
    for kind, chosen in {"first": 1, "any": MIXTRAL[1]}.items():
        percent = table[f"{kind}_percent"]
        value, moved = percent.astype(float) / 100, percent.map(corpus_mix.half_unit) / 100
        null = routing.uniform_null(MIXTRAL[0], chosen)
        part = table[["domain"]].assign(layer=table["layer"].astype(int), kind=kind, n_documents=math.nan)
        part = part.assign(document_null=null)
        parts.append(part.assign(**dict(zip(intervals.names("repeats"), (value, value - moved, value + moved)))))
    return pd.concat(parts, ignore_index=True)


def _layers(rows: pd.DataFrame) -> list[str]:
    return [key for key in ("model", "layer") if key in rows]


def _named(place: tuple) -> str:
    return f"{', '.join(map(str, place[:-1]))} layer {place[-1]}".strip()
