import math

import pandas as pd
import pytest
import torch
from peft import PeftModel
from tiny_merges import save_adapter, save_base

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora, merge_fidelity, merging, sft
from s2utils.workflow.params import load

LOGITS = torch.log(torch.tensor([[0.5, 0.5, 1e-9], [0.25, 0.25, 0.5]]))
OTHER = torch.log(torch.tensor([[0.75, 0.25, 1e-9], [0.5, 0.25, 0.25]]))


@pytest.fixture
def tok(llama2):
    return loading.prepared(llama2)


@pytest.fixture
def base(tiny_llama, tok, tmp_path) -> Weights:
    return save_base(tiny_llama(vocab_size=len(tok)), tmp_path / "base")


@pytest.fixture
def adapter(base, tmp_path):
    """A LoRA adapter of it whose B is not zero."""
    return save_adapter(loading.full(base, "float32"), tmp_path / "adapter")


@pytest.fixture
def params(tree, base):
    """The smoke profile on that base."""
    loaded = load("smoke", "text_metrics.resamples=500")
    return loaded.model_copy(update={"model": loaded.model.model_copy(update={"base": base})})


@pytest.fixture
def merged(base, adapter, tmp_path) -> dict:
    """Both merges, on the disk."""
    folders = {mode: tmp_path / mode for mode in merging.MODES}
    for mode, folder in folders.items():
        folder.mkdir()
        merging.write(base, adapter, mode, folder)
    return folders


@pytest.fixture
def frame() -> pd.DataFrame:
    """Questions and answers of several lengths, one too long."""
    answers = ["Light.", "The cat sat on the mat because it was warm.", "Rain is water that falls.", "Sun " * 200]
    return pd.DataFrame({"question": ["Why?", "Who sat?", "What is rain?", "How?"], "answer": answers})


def added(base, adapter) -> dict:
    """Name of a weight → what the adapter adds to it."""
    return lora.changes(adapters.read(adapter), loading.full(base, "float32"))


@pytest.fixture
def rows(params, tok, frame) -> list:
    return merge_fidelity.tokens(frame, params, tok)[0]


@pytest.fixture
def compared(params, adapter, merged, rows) -> pd.DataFrame:
    """Every model's distance to the exact one."""
    return pd.DataFrame(merge_fidelity.compare(rows, params, adapter, merged))


def test_a_model_and_itself_are_not_apart():
    found = merge_fidelity.distance(LOGITS, LOGITS, torch.tensor([0, 2]))
    assert found["kl"] == 0 and found["agreement"] == 1 and found["n_tokens"] == 2
    assert found["loss"] == pytest.approx(math.log(2))


def test_two_distributions_worked_by_hand():
    found = merge_fidelity.distance(LOGITS, OTHER, torch.tensor([0, 1]))
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    second = 0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25)
    assert found["kl"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert found["loss"] == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2)
    assert found["agreement"] == 0.5


def test_a_constant_changes_nothing_and_bf16_is_compared_in_float32():
    targets, exact, other = torch.tensor([0, 1]), LOGITS.bfloat16(), OTHER.bfloat16()
    assert merge_fidelity.distance(LOGITS, LOGITS + 7, targets)["kl"] == pytest.approx(0, abs=1e-6)
    assert merge_fidelity.distance(exact, other, targets) == merge_fidelity.distance(
        exact.float(), other.float(), targets
    )


def test_the_rows_are_those_of_training(params, tok, frame):
    rows, dropped = merge_fidelity.tokens(frame, params, tok)
    trained, left_out = sft.rows(frame, params, tok)
    assert dropped == left_out == 1
    texts = {r["prompt"] + r["completion"] + tok.eos_token: r["prompt"] for r in trained}
    assert sorted(ids for ids, _ in rows) == sorted(tok(list(texts))["input_ids"])
    for ids, start in rows:
        assert ids[:start] in [tok(prompt)["input_ids"] for prompt in texts.values()] and ids[-1] == tok.eos_token_id
    assert [len(ids) for ids, _ in rows] == sorted(len(ids) for ids, _ in rows)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_batch_changes_no_logit_and_each_predicts_its_token(params, base, tok, frame, batch_size):
    network = loading.full(base, "float32")
    rows, _ = merge_fidelity.tokens(frame, params, tok)
    for (ids, start), found in zip(rows, merge_fidelity.logits(network, rows, batch_size), strict=True):
        with torch.inference_mode():
            alone = network(input_ids=torch.tensor([ids]), labels=torch.tensor([[-100] * start + ids[start:]]))
        assert torch.allclose(found, alone.logits[0, start - 1 : -1], atol=1e-5)
        distance = merge_fidelity.distance(found, found, torch.tensor(ids[start:]))
        assert distance["loss"] == pytest.approx(alone.loss.item(), abs=1e-4)


def test_every_answer_is_compared_under_every_model_and_the_careful_merge_is_nearest(compared, rows):
    assert list(compared["merge_mode"].unique()) == ["adapter", "bf16", "dequantized", "requantized", "nf4", "none"]
    assert (compared.groupby("merge_mode").size() == len(rows)).all() and len(rows) > 1
    exact = compared[compared["merge_mode"] == "adapter"]
    assert (exact["kl"] == 0).all() and (exact["agreement"] == 1).all()
    kl = compared.groupby("merge_mode")["kl"].mean()
    assert 0 < kl["dequantized"] < kl["requantized"] < kl["nf4"]
    assert kl["dequantized"] < kl["bf16"] < kl["none"]


def test_one_4_bit_base_stands_for_three_models_loaded_each_for_itself(compared, params, adapter, rows):
    base, dtype = params.model.base, params.model.dtype
    exact = list(merge_fidelity.logits(loading.adapted(base, adapter, dtype), rows, 2))
    requantized = merge_fidelity.requantized(PeftModel.from_pretrained(loading.quantized(base, dtype), adapter))
    alone = {
        "adapter": loading.adapted(base, adapter, dtype),
        "nf4": loading.quantized(base, dtype),
        "requantized": requantized,
    }
    for mode, network in alone.items():
        wanted = merge_fidelity.answers(network, rows, exact, 2, mode)
        found = compared[compared["merge_mode"] == mode].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, pd.DataFrame(wanted), check_exact=True)


def test_weights_are_measured_against_the_4_bit_base_and_the_adapter(params, adapter, merged, base):
    rows = pd.DataFrame(merge_fidelity.layers(params, adapter, merged))
    assert list(rows["merge_mode"].unique()) == ["bf16", "dequantized", "requantized", "nf4", "none"]
    assert (rows.groupby("merge_mode").size() == 2 * 7).all() and set(rows["layer"]) == {0, 1}
    mean = rows.groupby("merge_mode")["mean"].mean()
    assert 0 < mean["dequantized"] < mean["requantized"] and mean["dequantized"] < mean["bf16"] < mean["none"]
    name, change = next(iter(added(base, adapter).items()))
    name = name.removesuffix(".weight")
    nf4 = rows[(rows["merge_mode"] == "nf4") & (rows["module"] == name)].iloc[0]
    assert nf4["max"] == pytest.approx(change.product.delta().abs().max().item(), rel=1e-3)
    bf16 = rows[(rows["merge_mode"] == "bf16") & (rows["module"] == name)].iloc[0]
    weight = loading.full(base, "bfloat16").get_submodule(name).weight.data
    assert bf16["mean"] == pytest.approx((weight - merging.nf4_round_trip(weight)).abs().mean().item(), rel=0.05)


def test_the_wrong_merge_is_pefts_own_into_a_live_4_bit_model(base, adapter):
    import bitsandbytes

    network = PeftModel.from_pretrained(loading.quantized(base, "bfloat16"), adapter)
    live, changes = merge_fidelity.requantized(network), added(base, adapter)
    full = loading.full(base, "bfloat16")
    for name, layer in merging.quantised(live).items():
        assert isinstance(layer, bitsandbytes.nn.Linear4bit) and not layer.support_avx512bf16_for_cpu
        held = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        summed = merging.summed(full.get_parameter(name).data, "dequantized", layer, changes[name])
        wanted = merging.nf4_round_trip(summed)
        assert torch.allclose(held.float(), wanted, atol=1e-6), name


def results(**kl) -> pd.DataFrame:
    """Answers of several modes with these KL, everything else equal."""
    same = {"n_tokens": 3, "agreement": 0.5}
    rows = [same | {"merge_mode": mode, "kl": v, "loss": 1.0 + i} for mode in kl for i, v in enumerate(kl[mode])]
    return pd.DataFrame(rows)


MOVED = pd.DataFrame([{"merge_mode": "bf16", "module": m, "max": m, "mean": 1.0, "n": 2} for m in (1.0, 3.0)])


def test_a_summary_holds_n_and_intervals_around_the_mean(params):
    table = merge_fidelity.summary(results(adapter=[0.0, 0, 0], bf16=[1.0, 2, 6]), MOVED, params)
    exact, row = (table.set_index("merge_mode").loc[mode] for mode in ("adapter", "bf16"))
    assert list(table["n"]) == [3, 3] and list(table["n_tokens"]) == [9, 9]
    assert row["kl"] == 3 and row["kl_ci_low"] < 3 < row["kl_ci_high"] and row["kl_n_failed"] == 0
    assert row["perplexity"] == pytest.approx(math.exp(2))
    assert row["perplexity_ci_low"] < row["perplexity"] < row["perplexity_ci_high"]
    assert row["max_abs_change"] == 3 and row["mean_abs_change"] == 1
    assert exact["kl"] == exact["kl_ci_low"] == exact["kl_ci_high"] == 0 and math.isnan(exact["max_abs_change"])


def test_a_distance_that_is_no_number_is_counted_and_not_averaged(params):
    table = merge_fidelity.summary(results(bf16=[1.0, math.nan, 3]), MOVED, params)
    assert table["kl"].item() == 2 and table["kl_n_failed"].item() == 1 and table["n"].item() == 3
