"""What papers claim of mixtures of experts, as comparisons that are above 0 where it is as claimed.

Tables of 12: `mixture`, `passkey`, `experts_routing`, `experts_repeats`, and Mixtral's own as printed. A table may hold
several models; each is compared with itself. Limits of words ("alike", "everywhere") are ours and stand in the
statement. Trap: Mixtral's table has no marginals, so its repeats stand against uniform choices, ours against choices
that are as frequent as these.
"""

from __future__ import annotations

import math

import pandas as pd

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


def found_everywhere(passkey: pd.DataFrame) -> Found:
    """Share of keys found at each length and place, the model's own window, minus nine tenths."""
    found: Found = []
    for row in passkey[passkey["window"] == 0].to_dict("records"):
        ends = (row[end] - NEARLY_ALL for end in _ends("accuracy"))
        name = " ".join(row[key] for key in ("model", "template") if key in row)
        name = f"{name} {row['length']} tokens, key at {row['place']:g}".strip()
        found.append(Difference(name, *ends, row["n"], 0, "Wilson"))
    return found


def alike_by_domain(shared: pd.DataFrame) -> Found:
    """A tenth minus the part of each domain's assignments that would have to move to be shared as the others' are."""
    rows = shared[(shared["choice"] == "any") & (shared["domain"] != MATHEMATICS)].dropna(subset=["share_ci_low"])
    rows = rows.drop_duplicates([*_layers(rows), "domain", "expert"])  # a middle layer that is the last one too
    rows = rows.assign(half=(rows["share_ci_high"] - rows["share_ci_low"]) / 2)
    found: Found = []
    for place, part in rows.groupby(_layers(rows), sort=False):
        shares, half = (part.pivot(index="domain", columns="expert", values=name) for name in ("share", "half"))
        for domain, own in shares.iterrows():
            value = SOME_MOVE - (own - shares.drop(domain).mean()).abs().sum() / 2
            spread = math.hypot(*half.loc[domain]) / 2
            n = part.loc[part["domain"] == domain, "n"].iloc[0]
            if math.isfinite(value):  # a domain alone has no others
                name = f"{domain}, {_named(place)}"
                found.append(Difference(name, value, value - spread, value + spread, n, math.nan, "combined"))
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
            one, other = (tuple(part.loc[domain, _ends("repeats")]) for domain in (least, MATHEMATICS))
            n = part.loc[[least, MATHEMATICS], "n"].min()
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
        ends = (row[end] - row["marginal_null"] for end in _ends("repeats"))
        how = "rounding" if math.isnan(row["n"]) else "over documents"
        name = f"{row['domain']}, {_named(tuple(row[key] for key in _layers(rows)))}"
        found.append(Difference(name, *ends, row["n"], math.nan, how))
    return found or ["experts_repeats has no layer after the first with an interval"]


def printed() -> pd.DataFrame:
    """Mixtral's table as `experts_repeats` is: no n, intervals of rounding, and uniform choices for marginals."""
    table = corpus_mix.published("mixtral", "repeats")
    parts = []
    for kind, chosen in {"first": 1, "any": MIXTRAL[1]}.items():
        percent = table[f"{kind}_percent"]
        value, moved = percent.astype(float) / 100, percent.map(corpus_mix.half_unit) / 100
        null = routing.uniform_null(MIXTRAL[0], chosen)
        part = table[["domain"]].assign(layer=table["layer"].astype(int), kind=kind, n=math.nan, marginal_null=null)
        parts.append(part.assign(**dict(zip(_ends("repeats"), (value, value - moved, value + moved)))))
    return pd.concat(parts, ignore_index=True)


def _layers(rows: pd.DataFrame) -> list[str]:
    return [key for key in ("model", "layer") if key in rows]


def _named(place: tuple) -> str:
    return f"{', '.join(map(str, place[:-1]))} layer {place[-1]}".strip()


def _ends(column: str) -> list[str]:
    return [column, f"{column}_ci_low", f"{column}_ci_high"]
