"""Every metric of the study, a row each, and every table that shows them: whoever needs a fact of a metric reads it
here.

`sample` names the function that gives the value of one sample, below s2utils.evaluation; a table's value is the mean of
its samples, on the leaderboard the mean of tasks whose MMLU is a mean of subjects (`stats.stratified`); where it is a
ratio of sums, the function named makes it. A metric more is a row here, its function and the function's test. Traps: of
some metrics the lower value is the better, and of some neither; what a document of the leaderboard scores is lm-eval's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NAN = math.nan


@dataclass(frozen=True)
class Metric:
    """One column of a table of results."""

    column: str
    label: str  # in its table
    table: str
    sample: str  # module.function that scores one sample, or makes the ratio
    decimals: int = 2  # of a mean
    sample_decimals: int | None = None  # of a single sample; one fewer where nothing is said
    better: int = 1  # 1: higher, -1: lower, 0: neither
    ends: tuple[float, float] = (NAN, NAN)  # of its scale
    unit: str = ""  # of a difference, in words
    name: str = ""  # where it stands without its table; the label where nothing is said
    higher: str = "higher"  # what a higher value is, in words
    lower: str = "lower"
    published: str = ""  # column of the published table, "" where that has none
    aggregation: str = "mean"  # of samples; "tasks": by subject and task; "ratio": of sums over them

    @property
    def full_name(self) -> str:
        """Its name where no table says what it is of."""
        return self.name or self.label


@dataclass(frozen=True)
class ResultTable:
    """One table of results: a row per model and merge, where answers are scored also per data set."""

    name: str
    title: str
    headline: str  # the column that stands for it
    step: str  # whose artefacts hold its samples
    unit: str = "question"  # what is averaged
    protocol: str = ""  # of the published values, "" where there are none
    published: str = ""  # file of them below reports/published, without its ending

    @property
    def number(self) -> str:
        """As in "Table 3"; the title itself where it has none."""
        return self.title.partition(" · ")[0]

    @property
    def bare_title(self) -> str:
        """The title without its number."""
        return self.title.rpartition(" · ")[2]


PROMPTED = "Published: prompt probably scored with the answer, no intervals."
TABLES = {
    table.name: table
    for table in (
        ResultTable("leaderboard", "Table 1 · Open LLM Leaderboard (v1 tasks, %)", "average", "leaderboard", "document",
                    "Published: harness of 2023 (v1), no intervals.", "leaderboard"),
        ResultTable("rouge", "Table 2 · ROUGE F1 of the answers", "rouge_l_f1", "text_metrics", protocol=PROMPTED,
                    published="rouge"),
        ResultTable("bertscore", "Table 3 · BERTScore of the answers", "bertscore_f1", "text_metrics",
                    protocol=PROMPTED, published="bertscore"),
        ResultTable("flesch", "Table 4 · Readability of the answers", "flesch_reading_ease", "text_metrics", "question",
                    "Published: prompt scored with the answer, textstat 0.7.3, no intervals.", "flesch"),
        ResultTable("mtbench", "Table 5 · MT(S)-bench, judge's rating 1–10", "single_turn_rating", "mtbench",
                    "question", "Published: 30 questions of MT-bench, rated by GPT-4, no intervals.", "mtbench"),
        ResultTable("judge", "Table 6 · Judged validation set, 1–10", "judge_rating", "judged", "question",
                    "Published (revision): 100 questions, one rating each by GPT-4, no intervals.", "revised/judge"),
        ResultTable("manner", "Manner of the answers", "answer_words", "text_metrics"),
        ResultTable("fit", "Fit by domain", "bits_per_byte", "fit", "document"),
    )
}  # fmt: skip
NEARER = {"higher": "nearer to the human answers", "lower": "further from the human answers"}
ROUGE = {"table": "rouge", "sample": "text_metrics.rouge", "decimals": 4, "ends": (0, 1)}
BERT = {"table": "bertscore", "sample": "bertscore.score", "decimals": 4}
FLESCH = {"table": "flesch", "sample": "text_metrics.readability"}
MANNER = {"table": "manner", "decimals": 3}
HARNESS = {
    "table": "leaderboard",
    "sample": "leaderboard.evaluate._row",
    "ends": (0, 100),
    "unit": "points",
    "aggregation": "tasks",
}
RATED = {"ends": (1, 10), "unit": "points"}
TURN = RATED | {"table": "mtbench", "sample": "judge.readings.reading"}
RUBRIC = RATED | {"table": "judge", "sample": "judge.readings.reading"}
METRICS = {
    metric.column: metric
    for metric in (
        Metric("average", "Average", published="average", **HARNESS),
        Metric("arc_acc_norm", "ARC", published="arc", **HARNESS),
        Metric("hellaswag_acc_norm", "HellaSwag", published="hellaswag", **HARNESS),
        Metric("mmlu_acc", "MMLU", published="mmlu", **HARNESS),
        Metric("truthfulqa_mc2", "TruthfulQA", published="truthfulqa", **HARNESS),
        Metric("rouge_1_f1", "ROUGE-1", published="rouge1", unit="ROUGE-1", **ROUGE),
        Metric("rouge_2_f1", "ROUGE-2", published="rouge2", unit="ROUGE-2", **ROUGE),
        Metric("rouge_l_f1", "ROUGE-L", published="rougeL", unit="ROUGE-L", **ROUGE, **NEARER),
        Metric("rouge_lsum_f1", "ROUGE-Lsum", published="rougeLsum", unit="ROUGE-Lsum", **ROUGE),
        Metric("bertscore_precision", "Precision", published="precision", name="BERTScore Precision", **BERT),
        Metric("bertscore_recall", "Recall", published="recall", name="BERTScore Recall", **BERT),
        Metric("bertscore_f1", "F1", published="f1", name="BERTScore F1", unit="BERTScore F1", **BERT, **NEARER),
        Metric("flesch_reading_ease", "Reading ease", published="fre", unit="points of reading ease",
               higher="easier to read", lower="harder to read", **FLESCH),
        Metric("flesch_kincaid_grade", "Grade", published="fkg", better=-1, unit="grades",
               higher="of a higher grade", lower="of a lower grade", **FLESCH),
        Metric("single_turn_rating", "Single turn", published="single_turn", **TURN),
        Metric("multi_turn_rating", "Multi-turn", published="multi_turn", **TURN),
        Metric("judge_rating", "Overall", published="score", name="Judge's rating", **RUBRIC),
        Metric("judge_simplicity", "Simplicity", **RUBRIC),
        Metric("judge_helpfulness", "Helpfulness", **RUBRIC),
        Metric("judge_relevance", "Relevance", **RUBRIC),
        Metric("judge_accuracy", "Accuracy", **RUBRIC),
        Metric("judge_depth", "Depth", **RUBRIC),
        Metric("judge_safety", "Safety", **RUBRIC),
        Metric("answer_words", "Words", sample="text_metrics.answer_words", sample_decimals=0, better=0, unit="words",
               table="manner", decimals=1),
        Metric("distinct_2", "Distinct pairs", name="Distinct pairs of words", sample="text_metrics.distinct_2",
               sample_decimals=3, better=0, ends=(0, 1), **MANNER),
        Metric("within_limits", "Share within limits", name="Within the S² limits",
               sample="text_metrics.within_limits", sample_decimals=0, ends=(0, 1), **MANNER),
        Metric("toxic", "Share toxic", name="Toxic", sample="text_metrics.toxic", sample_decimals=0, better=-1,
               ends=(0, 1), unit="of the answers", higher="more often toxic", lower="less often toxic", **MANNER),
        Metric("bits_per_byte", "Bits a byte", "fit", "fit.by_domain", decimals=3, better=-1, unit="bits a byte",
               higher="costs more bits", lower="costs fewer bits", aggregation="ratio"),
        Metric("perplexity", "Perplexity", "fit", "fit.by_domain", better=-1, aggregation="ratio"),
        Metric("reference_cosine", "Nearness", sample="text_metrics.reference_cosine",
               sample_decimals=3, ends=(-1, 1), **MANNER),
    )
}  # fmt: skip
STUDY = [name for name, table in TABLES.items() if table.published]  # the study's own tables


def of(table: str) -> list[Metric]:
    """Metrics of a table, in the order of its columns; none where it is not a table of results."""
    return [metric for metric in METRICS.values() if metric.table == table]


def columns(table: str) -> list[str]:
    """Their columns."""
    return [metric.column for metric in of(table)]


def name(column: str) -> str:
    """A metric's name where it stands without its table; an unknown column as it is."""
    return METRICS[column].full_name if column in METRICS else column
