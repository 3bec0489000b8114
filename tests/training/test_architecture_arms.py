"""Arms differ in what they say and are equal in size; they train as the ladder does."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import EVEN, TEXTS, ladder, tokenizer
from torch import nn

from s2utils.architecture import decoder
from s2utils.training import architecture_arms, muon
from s2utils.training import ladder as ladders
from s2utils.training.architecture_arms import BASELINE, CHANGES, CHOICES, config, plan, size
from s2utils.training.parameters import Architecture
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.params import load, profiles

SETTINGS = Architecture(parameters=100_000, bytes=3_000, seeds=[1, 2], held_out_bytes=1_000, times=[1, 2])


@pytest.mark.parametrize("profile", profiles())
def test_arms_of_every_profile_are_equal_in_size(profile):
    p = load(profile)
    sizes = {
        arm: size(config(arm, p.architecture.parameters, p.ladder.vocab_size, p.ladder.context)) for arm in CHANGES
    }
    assert max(sizes.values()) / min(sizes.values()) < 1.02, sizes
    assert abs(sizes[BASELINE] / p.architecture.parameters - 1) < 0.03


def test_the_baseline_is_the_ladder_s_llama():
    given = ladders.config(100_000, 512, 64)
    torch.manual_seed(1)
    theirs = ladders.llama(plan(SETTINGS, EVEN)[0], 512, 64)
    ids = torch.randint(512, (1, 20))
    with torch.no_grad():
        ours = decoder.from_transformers(theirs)
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-5)
    assert (
        ours.config == config(BASELINE, 100_000, 512, 64) and ours.config.intermediate_size == given.intermediate_size
    )


def test_every_arm_changes_one_thing_and_every_arm_is_a_variant():
    baseline = dataclasses.asdict(config(BASELINE, 100_000, 512, 64))
    for arm in CHANGES:
        other = dataclasses.asdict(config(arm, 100_000, 512, 64))
        changed = {name for name in baseline if other[name] != baseline[name]} - {"intermediate_size"}
        assert len(changed) == (arm != BASELINE), f"{arm}: {changed}"
    assert {arm for variants in CHOICES.values() for arm in variants.values()} == set(CHANGES)
    assert all(list(variants.values())[0] == BASELINE for variants in CHOICES.values())


@given(st.integers(1, 200))
def test_groups_are_fewer_than_heads_and_more_than_one(heads):
    try:
        groups = architecture_arms.grouped(heads)
    except ParameterError as error:
        assert "'architecture.parameters'" in str(error) and not any(heads % n == 0 for n in range(2, heads))
    else:
        assert 1 < groups < heads and heads % groups == 0


def test_runs_of_a_seed_see_the_same_text_and_have_names_of_their_own():
    runs = plan(SETTINGS, EVEN)
    assert len({run.name for run in runs}) == len(runs) == 2 * len(CHANGES)
    assert [run.seed for run in runs] == [1] * len(CHANGES) + [2] * len(CHANGES)
    assert {(run.n_bytes, *run.weights.items()) for run in runs} == {(3_000, *EVEN.items())}


def test_embeddings_of_positions_are_not_orthogonalized():
    for arm in ("learned", "t5"):
        model = decoder.Decoder(config(arm, 100_000, 512, 64))
        matrices, rest = (o.param_groups[0]["params"] for o in muon.optimizers(model, 0.02, 0.02, 0.0))
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        assert len(embeddings) == 2 and embeddings <= {id(weight) for weight in rest}
        assert all(weight.ndim == 2 for weight in matrices)
        assert len(matrices) + len(rest) == len(list(model.parameters()))


@pytest.mark.parametrize("arm", ["learned", "t5", "layernorm_plain", "mqa"])
def test_an_arm_learns_and_comes_back_the_same_bytes(arm, tmp_path):
    settings, (run,) = ladder(), [run for run in plan(SETTINGS, EVEN)[: len(CHANGES)] if run.variant == arm]
    given = ([run], TEXTS, {domain: texts[:20] for domain, texts in TEXTS.items()}, tokenizer(), settings)
    rows = ladders.train_all(*given, tmp_path / "a", build=architecture_arms.build)
    assert rows["loss"].iat[-1] < 6 < ladders.math.log(512)
    again = ladders.train_all(*given, tmp_path / "b", build=architecture_arms.build)
    assert again.equals(rows)
    file = f"{run.name}/{rows['checkpoint'].iat[-1]}/model.safetensors"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert decoder.load((tmp_path / "a" / file).parent).config.max_position_embeddings == settings.context
