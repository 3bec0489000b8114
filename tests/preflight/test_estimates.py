"""Estimates at their limits, against recorded runs, and against what the graph counts."""

import dataclasses
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

from s2utils.evaluation import attention_heads, attention_windows
from s2utils.preflight import assumptions, check, estimates, machine
from s2utils.preflight.machine import A100, REFERENCE
from s2utils.training import architecture_arms
from s2utils.workflow import params

RECORDED = {  # seconds of all jobs of a step on 2026-11-30, two at a time; REFERENCE holds that machine's rates
    "cpu": {"01_eda": 16, "02_datasets": 88, "03_sft": 213, "04_generate": 385, "05_text_metrics": 75,
            "06_leaderboard": 468, "07_mtbench": 333},
    "smoke": {"01_eda": 13, "02_datasets": 62, "03_sft": 63, "04_generate": 173, "05_text_metrics": 30,
              "06_leaderboard": 105, "07_mtbench": 185},
}  # fmt: skip
PINNED = {  # what those runs had where a profile may move, so that the truth does not
    "cpu": {
        "data": {"train_max": 40, "validation": {"sciq": 12, "wikilead": 12}, "test": {"sciq": 12, "wikilead": 12}},
        "questions": {"writer": {"batch_size": 32, "max_new_tokens": 24}},
        "sft": {"r": 16, "max_steps": 8, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
            "max_length": 192, "evaluations": 2,
                "eval_rows": 8, "sample_tokens": 12},
        "merge": {"modes": ["bf16", "dequantized"]},
        "generate": {"n": 12, "max_new_tokens": 56, "batch_size": 48},
        "membership": {"n": 12, "shuffles": 1},
        "leaderboard": {
            "limit": {"arc": 4, "hellaswag": 4, "mmlu": 1, "truthfulqa": 20}, "mmlu_subjects": 8,
            "compared": {"limit": {"arc": 2, "hellaswag": 2, "mmlu": 1, "truthfulqa": 5}, "mmlu_subjects": 2},
        },
        "mtbench": {
            "n": 4, "max_new_tokens": 48, "reasons": False, "validation": 1, "pairs": 1,
            "panel": {"questions": 2, "repeats": 2}, "judge": {"max_new_tokens": 64, "batch_size": 24},
        },
    },
    "smoke": {"data": {"train_max": 24, "validation": {"sciq": 8, "wikilead": 8}, "test": {"sciq": 8, "wikilead": 8}}},
}  # fmt: skip
MODEL = {"cpu": "smollm2-135m", "smoke": "smollm2-135m", "a100-7b": "llama-2-7b", "a100-13b": "llama-2-13b"}
SHAPES = {name: machine.shape(machine.known(name), name, "published sizes") for name in assumptions.PUBLISHED}


def by_step(profile: str, changes="", rates=REFERENCE) -> dict[str, estimates.Estimate]:
    made = estimates.estimate(params.load(profile, changes), SHAPES[MODEL[profile]], rates)
    return {e.step: e for e in made}


@pytest.mark.parametrize("profile", ["a100-7b", "a100-13b"])
def test_llama_2_trains_where_the_study_trained_it(profile):
    assert 10e9 < by_step(profile, rates=A100)["03_sft"].memory < 40e9  # one A100 of 40 GB


@pytest.mark.parametrize("key", ["sft.per_device_train_batch_size", "sft.max_length", "sft.r"])
@pytest.mark.parametrize("profile", ["cpu", "a100-7b"])
def test_training_memory_grows(profile, key):
    values = [by_step(profile, f"{key}={n}")["03_sft"].memory for n in (2, 4, 64, 2048)]
    assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("step", "key"),
    [("03_sft", "sft.max_steps"), ("03_sft", "sft.r"), ("03_sft", "sft.per_device_train_batch_size"),
        ("04_generate", "generate.n"),
     ("04_generate", "generate.max_new_tokens"), ("07_mtbench", "mtbench.max_new_tokens"),
     ("06_leaderboard", "leaderboard.mmlu_subjects"), ("02_datasets", "data.train_max"),
     ("05_text_metrics", "text_metrics.resamples"), ("05_text_metrics", "membership.n"), ("01_eda", "eda.sample")],
)  # fmt: skip
def test_time_grows(step, key):
    values = [by_step("cpu", f"{key}={n}")[step].seconds for n in (2, 8, 50)]
    assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("step", "key"),
    [("04_generate", "generate.batch_size"),
     ("07_mtbench", "mtbench.max_new_tokens"), ("06_leaderboard", "leaderboard.shots.arc")],
)  # fmt: skip
def test_memory_grows_and_is_the_sum_of_what_is_shown(step, key):
    values = [by_step("cpu", f"{key}={n}")[step] for n in (2, 50, 100)]
    assert values[0].memory < values[1].memory < values[2].memory
    for e in values:
        shown = [float(text.split()[-1]) for text in e.sizes]
        assert sum(shown) == pytest.approx(e.memory / 1e9, abs=0.02), e.sizes


def test_checkpointing_trades_memory_for_time():
    kept, again = (
        by_step("a100-7b", f"sft.gradient_checkpointing={on}", A100)["03_sft"] for on in ("false", "true")
    )  # fmt: skip
    assert again.memory < kept.memory and again.seconds > kept.seconds


@pytest.mark.parametrize(("profile", "rates"), [("cpu", REFERENCE), ("a100-7b", A100)])
@pytest.mark.parametrize("more", [{"validation": 3}, {"pairs": 3}, {"panel": {"questions": 3}}], ids=str)
def test_what_else_the_judge_is_asked_takes_time_and_money(profile, rates, more):
    few = {"validation": 0, "pairs": 0, "panel": {"questions": 0}}
    none, some = (by_step(profile, {"mtbench": few | m}, rates)["07_mtbench"] for m in ({}, more))
    assert some.seconds > none.seconds and (some.dollars > none.dollars) == (profile != "cpu")


def test_a_server_is_paid_by_the_token_and_paced_by_the_minute():
    def writing(**changes) -> estimates.Estimate:
        writer = {"backend": "openai", "price_in": 1.0, "price_out": 2.0, "requests_per_minute": 0} | changes
        return by_step("cpu", {"questions": {"writer": writer}, "data": {"shards": 1}})["02_datasets"]

    plain = writing()
    (_, _, dollars), (_, seconds, formula) = plain.asked[0], plain.parts[1]
    assert plain.dollars == dollars > 0 and writing(price_in=2.0, price_out=4.0).dollars == pytest.approx(2 * dollars)
    n = float(re.search(r"([\d,]+) requests", formula)[1].replace(",", ""))
    assert writing(requests_per_minute=1).parts[1][1] == pytest.approx(60 * n, rel=0.01) and seconds < 60 * n


def test_models_beside_the_study_take_what_their_own_sizes_say():
    p = params.load("a100-7b")
    beside = [SHAPES[name.lower().removesuffix("-v0.1")] for name in p.fit.models]
    alone, more = (
        {e.step: e for e in estimates.estimate(load, SHAPES["llama-2-7b"], A100, given)}
        for load, given in ((params.load("a100-7b", {"fit": {"models": {}}}), ()), (p, beside))
    )
    assert more["10_fit"].rules["fit_one"] == alone["10_fit"].rules["fit_one"] + 6
    of = {one.name: [s for _, s, text in more["10_fit"].parts if f" {one.name}" in text] for one in beside}
    assert all(len(parts) == 2 for parts in of.values()), "each scores and loads"
    assert sum(of["pythia-14m"]) < sum(of["pythia-160m"]) < sum(of["pythia-6.9b"]) < sum(of["mistral-7b"])
    starts = 6 * assumptions.RULES["fit_one"] * A100.loop / REFERENCE.loop
    more_seconds = more["10_fit"].seconds - alone["10_fit"].seconds
    assert more_seconds == pytest.approx(starts + sum(map(sum, of.values())), rel=1e-6)
    assert more["10_fit"].memory > alone["10_fit"].memory, "Mistral-7B is the largest"
    assert all(more[step].seconds == alone[step].seconds for step in alone if step != "10_fit")


def test_a_faster_machine_takes_less():
    fast = dataclasses.replace(REFERENCE, bf16=1e15, f32=1e15, fresh=1e12, copy=1e12, topk=1e12, call=1e-9, loop=1e-10)
    slow, quick = by_step("cpu"), by_step("cpu", rates=fast)
    assert all(quick[s].seconds < slow[s].seconds / 10 for s in slow)


@pytest.mark.parametrize("profile", list(RECORDED))
def test_estimates_lie_within_30_percent_of_recorded_runs(profile):
    made = by_step(profile, PINNED[profile])
    ratios = {step: round(made[step].seconds / seconds, 2) for step, seconds in RECORDED[profile].items()}
    assert made.keys() >= ratios.keys() and all(0.7 <= r <= 1.3 for r in ratios.values()), ratios


def test_memory_and_disk_lie_within_30_percent_of_the_recorded_run():
    made = by_step("cpu", PINNED["cpu"])
    assert made["03_sft"].memory == pytest.approx(2.1e9, rel=0.3)
    assert made["06_leaderboard"].memory == pytest.approx(1.62e9, rel=0.3)
    assert sum(e.disk for e in made.values()) == pytest.approx(1.6e9, rel=0.3)


def test_a_source_nobody_counted_is_guessed_and_says_so():
    made = by_step("cpu", "data.sources.sciq.path=someone/answers")
    assert "of sciq only guessed" in made["02_datasets"].parts[0][2] and made["03_sft"].seconds > 0


def test_bfloat16_without_its_units_takes_several_times_as_long():
    wide = dataclasses.replace(REFERENCE, bf16=303e9)
    narrow, lesser, quick = (
        sum(e.seconds for e in by_step("cpu", f"model.dtype={dtype}", rates).values())
        for dtype, rates in (("float32", REFERENCE), ("bfloat16", REFERENCE), ("bfloat16", wide))
    )
    assert lesser > 3 * narrow and quick < narrow


@pytest.mark.parametrize("changes", ["", "merge.modes=[adapter] data.shards=1", "model.chat.revision=other"])
def test_the_plan_holds_every_rule_of_the_graph_and_adds_up(tree, changes):
    """Rules as Snakemake counts them; two jobs that nobody waits for beside them, preflight and the link to all."""
    made = list(by_step("smoke", changes).values())
    plan = check.plan("smoke", {"estimates": made, "machine": REFERENCE, "dtype": "float32"})
    call = [sys.executable, *"-m snakemake -n --cores 2 --config profile=smoke".split()]
    call.append(f"set={changes and changes + ' '}")
    shutil.copy(REPOSITORY / "Snakefile", tree)
    done = subprocess.run(call, cwd=tree, capture_output=True, text=True, timeout=100)
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)}
    assert {rule: jobs for rule, (_, jobs, _) in plan["rules"].items()} == {
        rule: n for rule, n in counts.items() if rule not in ("all", "preflight", "total")
    }, done.stderr[-2000:]
    assert sum(n * s for of, n, s in plan["rules"].values() if of) == pytest.approx(sum(e.seconds for e in made), abs=2)


def test_a_sweep_multiplies_what_its_points_make_anew(tree):
    """Three seeds of training: sources once, trainings three times, base and chat (two of six models) once."""
    changes = "sweep.sft.seed=[42,43,44]"
    p, once, made = params.load("smoke", changes), by_step("smoke"), list(by_step("smoke").values())
    swept = {e.step: e for e in estimates.swept(made, "smoke", p, changes)}
    assert p.sft.seed == 42 and len(p.sft.train_sets) == len(p.merge.modes) == 2
    times = {"01_eda": 1, "02_datasets": 1, "03_sft": 3, "04_generate": (2 + 3 * 4) / 6, "05_text_metrics": 3}
    for step, factor in times.items():
        assert swept[step].seconds == pytest.approx(factor * once[step].seconds), step
        assert swept[step].disk == pytest.approx(factor * once[step].disk) and swept[step].memory == once[step].memory
    assert swept["03_sft"].rules == {"sft_one": 6, "sft": 3}


def test_what_is_counted_of_11_is_what_it_makes():
    """Counts stand where they need no import of torch."""
    assert len(architecture_arms.CHANGES) == assumptions.ARMS
    assert len(attention_windows.KINDS) == assumptions.CACHES
    config = SimpleNamespace(num_attention_heads=32, num_key_value_heads=8)
    assert len(attention_heads.variants(config)) == assumptions.HEADS
    values = [by_step("cpu", f"attention_heads.steps={n}")["11_attention"].seconds for n in (1, 4, 20)]
    values += [by_step("cpu", f"attention_windows.documents={n}")["11_attention"].seconds for n in (50, 500)]
    assert values == sorted(set(values))
    few, many = (by_step("cpu", f"architecture.seeds={seeds}")["11_attention"].seconds for seeds in ("[1]", "[1,2]"))
    assert few < many
