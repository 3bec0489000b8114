"""What papers on open models claim of corpora and of fit, judged by their own tables and by ours.

The claims, their papers and the tables that measure them stand in reports/published/lecture/claims.csv; here is how
each becomes comparisons, numbers that are above 0 where it is as claimed (verdicts: `claims.judged`). Limits of words
("almost no", "much", "most") are ours and stand in the statement. A published share is of a whole corpus, so only
rounding can move it; published losses are compared over fields, as are ours: n counts fields there, and the interval
is of other fields, not of other documents. Trap: two shares of the same documents are not independent; their
difference has the widest interval that any overlap of the two allows (Agresti & Min 2005). Δ and losses by position
come as intervals alone, and what they share makes their combined ones too wide rather than too narrow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from s2utils.data import corpus_mix
from s2utils.results import attention_claims, claims, expert_claims, tables
from s2utils.results.claims import Difference
from s2utils.stats import intervals
from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

NAME = "model_claims"
ALMOST_NONE = 0.05  # bits a byte
MUCH, SOME = 0.1, 0.25  # of a field's bits; of the fields
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99, "max": 1.0}
ORIGINS = {  # axis → the origin that stands for the West, and further ones of it, which it is not compared with
    "nationality": ("american", {"british", "english", "canadian", "french", "german", "irish", "italian", "spanish"}),
    "race and ethnicity": ("european", {"caucasian", "white people", "white man", "white woman"}),
}
FIGURE, NO_NUMBER = "the paper has a figure and no table", "the paper prints no number"

Found = list[Difference | str]


def listed() -> pd.DataFrame:
    """The claims: id, paper, statement, published_source, measured_by."""
    return corpus_mix.published("lecture", "claims")


def shorter_than_mean(lengths: pd.DataFrame, params: Params) -> Found:
    """Share of documents shorter than the mean one, by the quantiles of `corpus_lengths`, minus a half."""
    row = lengths[(lengths["domain"] == "all") & (lengths["unit"] == "bytes")].iloc[0]
    at, known = row[list(QUANTILES)].astype(float), [*QUANTILES.values()]
    share = [np.interp(row[end], at, known) for end in intervals.names("mean")]
    spread = [intervals.share(s * row["n"], row["n"], params.text_metrics.confidence) for s in share]
    return [Difference("shorter than the mean", share[0] - 0.5, spread[1][1] - 0.5, spread[2][2] - 0.5, row["n"])]


def shorter_components(components: pd.DataFrame, params: Params) -> Found:
    """The same of documents of components whose mean is below the whole's, for no others are printed."""
    total, parts = components.iloc[-1], components[components["kind"] == "component"]
    documents = parts["raw_size_gib"] / parts["mean_document_size_kib"]
    moved = documents * (0.005 / parts["raw_size_gib"] + 0.005 / parts["mean_document_size_kib"])
    short = parts["mean_document_size_kib"] < total["mean_document_size_kib"]
    share = [
        (d := documents + sign * moved * np.where(short, 1, -1))[short].sum() / d.sum() - 0.5 for sign in (0, -1, 1)
    ]
    return [Difference("documents of components of short ones", *share, interval="rounding")]


def unlike_its_own(delta: pd.DataFrame, params: Params) -> Found:
    """Each fine-tune's mean Δ over domains unlike its training data, minus that of the domain that is its source's."""
    domains = {component.path: component.domain for component in params.corpus.components.values()}
    union, found = params.train_set_name(params.data.union), []
    for row in steps.models(params):
        sources = [s for name, s in params.data.sources.items() if row.train_set in (name, union)]
        own = {domains.get(source.path) for source in sources}
        part = delta[(delta["model"] == row.model) & (delta["merge_mode"] == row.merge_mode)]
        part = part.dropna(subset=["delta_ci_low"])
        like = part["domain"].isin(own)
        if like.any() and not like.all():
            far, near = (_mean(part[rows], "delta") for rows in (~like, like))
            found.append(_minus(f"{row.model} ({row.merge_mode})", far, near, part["n"].min()))
    return found or ["no fine-tune has documents of its own kind and of another among those scored"]


def filtered(bits: pd.DataFrame, raw: str, better: str, params: Params) -> Found:
    """`ALMOST_NONE` minus the gain by filtering (`raw` − `better`, columns of bits a byte, a row a field)."""
    gain = intervals.mean(bits[raw] - bits[better], params)
    low, high = ALMOST_NONE - gain[2], ALMOST_NONE - gain[1]
    return [
        Difference(f"{ALMOST_NONE:g} − ({raw} − {better})", ALMOST_NONE - gain[0], low, high, len(bits), 0, "paired")
    ]


def much_better(bits: pd.DataFrame, raw: str, mix: str, params: Params) -> Found:
    """Share of the fields that `mix` improves over `raw` by `MUCH` or more, minus `SOME`."""
    hits = int((1 - bits[mix] / bits[raw] >= MUCH).sum())
    share = (end - SOME for end in intervals.share(hits, len(bits), params.text_metrics.confidence))
    return [Difference(f"fields that {mix} improves over {raw}", *share, len(bits), 0, "Wilson")]


def doublings(positions: pd.DataFrame, params: Params) -> Found:
    """The base's loss at each position minus that at twice it, mean of the domains whose documents all reach both."""
    rows = positions[(positions["model"] == params.model.name) & positions["loss_ci_low"].notna()]
    found: Found = []
    for before, after in itertools.pairwise(sorted(rows["position"].unique())):
        both = rows[rows["position"] == before].merge(rows[rows["position"] == after], on="domain", suffixes=("", "_2"))
        both = both[both["n"] == both["n_2"]]
        if len(both):
            early, late = (_mean(both, "loss", end) for end in ("", "_2"))
            found.append(_minus(f"positions {before} − {after}", early, late, both["n"].min()))
    return found or ["no domain has two documents that reach a second position"]


def english(shares: dict[str, tuple], params: Params) -> Found:
    """Share of English minus a half."""
    share, low, high, n, how = shares["en"]
    return [Difference("English", share - 0.5, low - 0.5, high - 0.5, n, math.nan, how)]


def _languages(frame: pd.DataFrame) -> dict[str, tuple]:
    return {r.language: (r.share, r.share_ci_low, r.share_ci_high, r.n, "Wilson") for r in frame.itertuples()}


def he_and_she(pronouns: pd.DataFrame, params: Params) -> Found:
    """Share of documents with “he” minus that with “she”."""
    rows = pronouns[pronouns["axis"] == "gender pronouns"].set_index("group")
    return [_shares("he − she", rows.loc["he"], rows.loc["she"], params)]


def west(named: pd.DataFrame, params: Params) -> Found:
    """Of two axes the share of the origin that stands for the West, minus that of the most named other."""
    found: Found = []
    for axis, (origin, alike) in ORIGINS.items():
        rows = named[(named["axis"] == axis) & (named["descriptor"] != "any")].set_index("descriptor")
        others = rows[~rows.index.isin({origin, *alike})]
        if origin not in rows.index or not len(others):
            found.append(f"corpus_demographics does not list {origin} and another origin")
            continue
        other = others.iloc[0]
        found.append(_shares(f"{origin} − {other.name}", rows.loc[origin], other, params))
    return found


def _mean(rows: pd.DataFrame, column: str, suffix: str = "") -> tuple[float, float, float]:
    columns = [f"{end}{suffix}" for end in intervals.names(column)]
    return intervals.average(list(rows[columns].itertuples(index=False, name=None)))


def _minus(name: str, one: tuple, other: tuple, n: int) -> Difference:
    return Difference(name, *intervals.difference(one, other), n, math.nan, "combined")


def _shares(name: str, one: pd.Series, other: pd.Series, params: Params) -> Difference:
    """Difference of two shares of the same n documents: as measured (n, n_hits), or as printed (share, rounding)."""
    if "n" not in one:
        value, moved = one["share"] - other["share"], one["rounding"] + other["rounding"]
        return Difference(name, value, value - moved, value + moved, interval="rounding")
    n = one["n"] + 2  # Agresti & Min: half a document in each cell of the two by two
    first, second = (one["n_hits"] + 1) / n, (other["n_hits"] + 1) / n
    both = max(0.0, first + second - 1)  # the least overlap, of which the variance is largest
    apart = first - second
    z = stats.norm.ppf((1 + params.text_metrics.confidence) / 2)
    wide = z * math.sqrt((first + second - 2 * both - apart**2) / n)
    ends = max(apart - wide, -1.0), min(apart + wide, 1.0)
    return Difference(name, one["share"] - other["share"], *ends, one["n"], one.get("n_failed", math.nan), "bound")


def _printed(name: str, column: str, **keys: str) -> pd.DataFrame:
    """A published table of Llama 2 with share and rounding of a column of percent, keys renamed as ours are."""
    percent = corpus_mix.published("llama2", name)[column]
    rounding = percent.map(corpus_mix.half_unit) / 100
    frame = corpus_mix.published("llama2", name).rename(columns=keys)
    return frame.assign(share=percent.astype(float) / 100, rounding=rounding)


def _printed_languages() -> dict[str, tuple]:
    rows = _printed("languages", "percent").itertuples()
    return {r.language: (r.share, r.share - r.rounding, r.share + r.rounding, math.nan, "rounding") for r in rows}


def _ablation() -> pd.DataFrame:
    return corpus_mix.published_numbers("pile", "ablation")


def _arms(frame: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, str, str, str]:
    """(bits a byte, a row a domain and a column an arm, mean of seeds; the mix, the filtered and the raw arm)."""
    arms = params.ladder.ablation.arms
    from s2utils.evaluation import fit  # slow

    inside = frame[~frame["domain"].isin([fit.MACRO, fit.POOLED])]
    bits = inside.groupby(["domain", "trained_on"])["bits_per_byte"].mean().unstack()
    raw = next((name for name, arm in arms.items() if arm.raw), "")
    clean = next((n for n, a in arms.items() if raw and not a.raw and a.only == arms[raw].only and not a.upsampled), "")
    mix = next((n for n, arm in arms.items() if not (arm.only or arm.raw or arm.upsampled)), "")
    return bits, mix, clean, raw


def _arm(judge: Callable, which: int) -> Callable[[pd.DataFrame, Params], Found]:
    def found(frame: pd.DataFrame, params: Params) -> Found:
        bits, *arms = _arms(frame, params)
        arm, raw = arms[which], arms[2]
        return judge(bits, raw, arm, params) if arm and raw else ["no arm of ladder.ablation is of raw documents"]

    return found


MEASURES: dict[str, tuple[Callable[[Params], Found], Callable[[pd.DataFrame, Params], Found]]] = {
    "L1": (lambda p: shorter_components(corpus_mix.published_numbers("pile", "components"), p), shorter_than_mean),
    "L2": (lambda p: [FIGURE], unlike_its_own),
    "L3": (lambda p: filtered(_ablation(), "raw_cc_en_bpb", "cc_100_en_bpb", p), _arm(filtered, 1)),
    "L4": (lambda p: much_better(_ablation(), "raw_cc_en_bpb", "pile_bpb", p), _arm(much_better, 0)),
    "L8": (lambda p: [NO_NUMBER], lambda frame, p: attention_claims.faster(frame)),
    "L9": (lambda p: attention_claims.fewer_heads(), lambda frame, p: attention_claims.smaller(frame)),
    "L10a": (lambda p: attention_claims.printed_reach(), lambda frame, p: attention_claims.far(frame, "reached")),
    "L10b": (lambda p: [NO_NUMBER], lambda frame, p: attention_claims.far(frame, "felt")),
    "L11": (lambda p: [NO_NUMBER], lambda frame, p: attention_claims.bounded(frame)),
    "L18": (lambda p: expert_claims.wins(), expert_claims.worth_more),
    "L21": (lambda p: [FIGURE], expert_claims.found_everywhere),
    "L22": (lambda p: [FIGURE], doublings),
    "L25a": (lambda p: [FIGURE], expert_claims.alike_by_domain),
    "L25b": (lambda p: expert_claims.mathematics_apart(expert_claims.printed()),
             lambda frame, p: expert_claims.mathematics_apart(frame)),
    "L26": (lambda p: expert_claims.structured(expert_claims.printed()),
            lambda frame, p: expert_claims.structured(frame)),
    "L45": (lambda p: english(_printed_languages(), p), lambda frame, p: english(_languages(frame), p)),
    "L46a": (lambda p: he_and_she(_printed("pronouns", "percent", entry="group"), p), he_and_she),
    "L46b": (lambda p: west(_printed("demographics", "percent_of_axis_documents"), p), west),
}  # fmt: skip


def table(folder: Path, params: Params) -> pd.DataFrame:
    """One row a claim, as `claims.table`, with its paper: published and measured value, interval, n and verdict.

    `folder` holds our tables, as far as they are made.
    """
    rows, level = [], params.text_metrics.confidence
    for claim in listed().to_dict("records"):
        notebook, _, name = claim["measured_by"].partition(" ")
        published, measured = MEASURES[claim["id"]]
        csv, key = folder / f"{name}.csv", ("id", "paper", "statement")
        ours = (
            measured(tables.read(csv), params) if csv.is_file() else [f"{name} is not there yet (notebook {notebook})"]
        )
        row = dict(zip(("claim", "paper", "statement"), (claim[k] for k in key))) | {"notebook": notebook}
        row |= claims.judged(published(params), "published", claims.CONFIDENCE)
        rows.append(row | claims.judged(ours, "measured", level, fewest=intervals.fewest(level)))
    return pd.DataFrame(rows)


def caption(profile: str, params: Params) -> str:
    """How the claims are judged, in words."""
    small = f", {params.model.name} and models from nothing that are smaller" if params.study == "embedded" else ""
    least = intervals.fewest(params.text_metrics.confidence)
    return (
        f"Profile {profile}{small}. Differences, above 0 as claimed; of several comparisons the weakest, with its own "
        "interval; “does not” asks for one that lies on the other side when widened for their number (Bonferroni), "
        f"and nothing is told of fewer than {least} documents or fields: so few differences of one sign are chance. "
        "Published shares are of whole corpora and move by rounding only; losses are compared over fields. The limits "
        "in the statements are ours, and so is what stands for a paper's corpus: ours shows how a claim is measured."
    )


def shown(frame: pd.DataFrame, notebook: str = "") -> pd.DataFrame:
    """The claims of one notebook ("09"), or all, as readers see them."""
    view = claims.shown(frame, notebook)
    view.insert(1, "paper", frame.loc[view.index, "paper"])
    return view


def section(run: Run, notebook: str) -> str:
    """The claims that one notebook ("09") measures, as Markdown."""
    frame = table(run.tables, run.params)
    return f"{caption(run.profile, run.params)}\n\n{tables.markdown(shown(frame, notebook))}"


def write(profile: str, params: Params) -> pd.DataFrame | None:
    """model_claims.csv, Markdown, LaTeX and schema beside the profile's tables, where one that measures is there."""
    folder = Run("report", profile, params).tables
    if not any((folder / f"{by.split()[1]}.csv").is_file() for by in listed()["measured_by"]):
        return None
    frame = table(folder, params)
    about = {"title": "Claims of the papers on open models", "caption": caption(profile, params), "keys": ["claim"]}
    tables.write(frame, NAME, folder, about | {"unit": "as each claim says"}, shown(frame))
    return frame
