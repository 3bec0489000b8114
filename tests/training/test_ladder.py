import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import EVEN, TEXTS, ladder, tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from s2utils.training import byte_bpe, packing
from s2utils.training import ladder as ladders
from s2utils.training.failures import TrainingError
from s2utils.training.parameters import Arm

HELD_OUT = {domain: texts[:6] for domain, texts in TEXTS.items()}


def packed(settings, n_bytes=6_000, seed=1):
    return packing.pack(TEXTS, EVEN, n_bytes, tokenizer(), settings.context, seed)


def trained(folder, settings, run=None, **asked):
    run = run or ladders.rungs(settings, EVEN)[0]
    held_out = packing.pack(HELD_OUT, EVEN, 1_000, tokenizer(), settings.context, 0)
    return ladders.train(run, packed(settings, run.n_bytes, run.seed), held_out, tokenizer(), settings, folder, **asked)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run: its folder and its rows."""
    folder = tmp_path_factory.mktemp("ladder")
    return folder, trained(folder, ladder())


@given(st.integers(20_000, 1_000_000_000))
def test_a_model_has_the_parameters_that_are_asked_for(parameters):
    config = ladders.config(parameters, 512, 64)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert ladders.outside_embedding(model) == pytest.approx(parameters, rel=0.04)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_flop_by_hand():
    config = ladders.config(100_000, 2048, 128)  # two layers of 64
    assert (config.num_hidden_layers, config.hidden_size) == (2, 64)
    plain, whole = ladders.flop_per_token(config, 100_672)
    assert plain == 604_032 and whole == 604_032 + 6 * 2048 * 64 + 6 * 2 * 64 * 128


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_the_learning_rate_rises_and_falls(schedule, middle):
    shares = [ladders.learning_rate(step, 110, 10 / 110, schedule) for step in range(110)]
    assert shares[:3] == pytest.approx([0.1, 0.2, 0.3]) and shares[9] == shares[10] == 1
    assert shares[60] == pytest.approx(middle) and 0 < shares[-1] < 0.02
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert ladders.learning_rate(0, 1, 0.0, schedule) == 1


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1), min_size=2), st.data())
def test_the_weights_of_an_arm_sum_to_1_and_keep_the_shares_of_what_is_not_named(raw, data):
    weights = {domain: w / sum(raw.values()) for domain, w in raw.items()}
    raised = data.draw(st.sampled_from(sorted(weights)))
    arm = ladders.weights_of(Arm(only=[], raw=[], upsampled=[raised], times=3.0), weights)
    assert math.fsum(arm.values()) == pytest.approx(1)
    first, *others = [domain for domain in weights if domain != raised]
    assert all(arm[o] / arm[first] == pytest.approx(weights[o] / weights[first]) for o in others)
    assert arm[raised] / arm[first] == pytest.approx(3 * weights[raised] / weights[first])


def test_arms_by_hand():
    weights = {"web": 0.5, "code": 0.3, "wiki": 0.2, "none": 0.0}
    assert ladders.weights_of(Arm(only=[], raw=[], upsampled=[], times=1.0), weights) == {
        "web": 0.5,
        "code": 0.3,
        "wiki": 0.2,
    }
    assert ladders.weights_of(Arm(only=["web"], raw=["web"], upsampled=[], times=1.0), weights) == {"web-raw": 1.0}
    raised = ladders.weights_of(Arm(only=[], raw=["web"], upsampled=["wiki"], times=2.5), weights)
    assert raised == pytest.approx({"web-raw": 0.5 / 1.3, "code": 0.3 / 1.3, "wiki": 0.5 / 1.3})
    for arm in (
        Arm(only=["books"], raw=[], upsampled=[], times=1.0),
        Arm(only=[], raw=[], upsampled=["none"], times=2.0),
    ):
        with pytest.raises(ValueError, match="is not in the mix of web, code, wiki"):
            ladders.weights_of(arm, weights)


def test_every_arm_has_the_same_budget_and_every_seed():
    runs = ladders.arms(ladder(), EVEN)
    assert [run.name for run in runs] == ["mix-1", "mix-2", "code-1", "code-2"]
    assert {run.n_bytes for run in runs} == {3_000} and {run.parameters for run in runs} == {20_000}
    assert [run.name for run in ladders.rungs(ladder(seeds=[4]), EVEN)] == ["20000-4", "40000-4"]


def test_a_run_learns_and_says_what_it_cost(whole):
    _, rows = whole
    blocks = packed(ladder())
    assert rows["tokens"].tolist()[:2] == [640, 1280] and rows["tokens"].iloc[-1] == blocks.ids[:, 1:].size
    assert rows["bytes"].iloc[-1] == blocks.bytes.sum() and rows["bytes"].iloc[0] == blocks.bytes[:40].sum()
    assert rows["loss"].is_monotonic_decreasing and rows["loss"].iloc[-1] < math.log(512) - 1
    assert (rows["flop"] == 6 * rows["parameters"] * rows["tokens"]).all() and (rows["flop_all"] > rows["flop"]).all()


def test_a_checkpoint_is_loaded_by_transformers_and_has_the_loss_that_its_row_tells(whole):
    folder, rows = whole
    held_out = packing.pack(HELD_OUT, EVEN, 1_000, tokenizer(), 16, 0)
    for row in rows.to_dict("records"):
        model = AutoModelForCausalLM.from_pretrained(folder / row["checkpoint"])
        ids = torch.from_numpy(held_out.ids.astype("int64"))
        with torch.no_grad():
            nats = cross_entropy(model(ids[:, :-1]).logits.mT, ids[:, 1:]).item()
        assert nats == pytest.approx(row["loss"], rel=1e-5)
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) * ids[:, 1:].numel() / held_out.bytes.sum())
    tok = AutoTokenizer.from_pretrained(folder / rows["checkpoint"].iloc[0])
    assert byte_bpe.ids(TEXTS["code"][:3], tok) == byte_bpe.ids(TEXTS["code"][:3], tokenizer())
    assert tok.pad_token_id == model.config.pad_token_id and tok.eos_token_id == model.config.eos_token_id


def test_a_model_that_knows_nothing_scores_the_logarithm_of_its_vocabulary():
    model = LlamaForCausalLM(ladders.config(20_000, 512, 16))
    torch.nn.init.zeros_(model.get_input_embeddings().weight)
    blocks = packed(ladder())
    nats, bits = ladders.held_out_loss(model, blocks, 8)
    assert nats == pytest.approx(math.log(512)) and bits == pytest.approx(
        9 * blocks.ids[:, 1:].size / blocks.bytes.sum()
    )


def test_a_killed_run_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    folder, rows = whole
    keep = ladders.keep

    class Killed(BaseException):
        """As a signal."""

    def killed(*given):
        keep(*given)
        raise Killed

    monkeypatch.setattr(ladders, "keep", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            trained(tmp_path, ladder())
        assert (tmp_path / ladders.STATE).is_file() and not (tmp_path / ladders.RECORD).is_file()
    monkeypatch.setattr(ladders, "keep", keep)
    again = trained(tmp_path, ladder())
    assert contents(tmp_path) == contents(folder) and again.equals(rows)


def test_what_is_finished_is_read(whole, monkeypatch):
    folder, rows = whole
    monkeypatch.setattr(ladders, "_train", None)
    before = contents(folder)
    (folder / ladders.STATE).touch()  # what a kill at the very end leaves
    assert trained(folder, ladder()).equals(rows) and contents(folder) == before


def test_batches_a_step_change_nothing_but_memory(whole, tmp_path):
    _, rows = whole
    halves = trained(tmp_path, ladder(per_device_train_batch_size=4, gradient_accumulation_steps=2))
    assert halves["loss"].tolist() == pytest.approx(rows["loss"].tolist(), rel=1e-3)


@pytest.mark.slow
def test_runs_side_by_side_are_equal_to_runs_one_after_the_other(tmp_path):
    settings = ladder(checkpoints=[], bytes=2_000)
    runs = ladders.rungs(settings, EVEN)
    frames = [
        ladders.train_all(runs, TEXTS, HELD_OUT, tokenizer(), settings, tmp_path / str(workers), workers)
        for workers in (1, 2)
    ]
    assert frames[0].equals(frames[1]) and frames[0]["run"].tolist() == ["20000-1", "40000-1"]
    assert contents(tmp_path / "1") == contents(tmp_path / "2") and (frames[0]["epochs"] > 0).all()
    record = json.loads((tmp_path / "1" / "20000-1" / ladders.RECORD).read_text())
    assert record["run"]["weights"] == EVEN and record["run"]["n_bytes"] == 2_000


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"20000-1: a checkpoint at 9,999 tokens of .*: give more bytes"):
        trained(tmp_path, ladder(checkpoints=[640, 9_999]))
    with pytest.raises(TrainingError, match=r"not a number at step \d+: lower ladder.learning_rate"):
        trained(tmp_path, ladder(learning_rate=1e9, adamw_learning_rate=1e9))
    runs = ladders.rungs(ladder(), EVEN)
    with pytest.raises(ValueError, match="two runs of one name"):
        ladders.train_all([runs[0], runs[0]], TEXTS, HELD_OUT, tokenizer(), ladder(), tmp_path)
