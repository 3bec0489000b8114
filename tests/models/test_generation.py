import json

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from s2utils.models import generation
from s2utils.workflow import artefacts

PROMPTS = [[1, 300, 301], [1, 302], [1, 303, 304, 305, 306], [1, 307], [1, 308, 309], [1, 310, 311], [1, 312]]
OPTIONS = {"batch_size": 2, "max_new_tokens": 6, "temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.2}


@pytest.fixture
def model(tiny_llama, llama2):
    return tiny_llama(vocab_size=len(llama2))


def run(model, tok, **changes) -> list[dict]:
    """Every answer, in order."""
    options = {"seed": "s"} | OPTIONS | changes
    return [row for batch in generation.completions(model, tok, PROMPTS, **options) for row in batch]


def always(model, token: int):
    """Make the model predict this token whatever it reads."""
    model.lm_head.weight.data.zero_()
    model.model.norm.weight.data.fill_(1.0)
    model.lm_head.weight.data[token] = 1.0
    model.lm_head.register_forward_hook(
        lambda module, inputs, output: torch.zeros_like(output).index_fill_(-1, torch.tensor([token]), 9.0)
    )
    return model


def test_answers_are_the_same_again_and_move_with_the_seed(model, tok):
    first = run(model, tok)
    assert len(first) == len(PROMPTS)
    assert first == run(model, tok) != run(model, tok, seed="t")


def test_temperature_0_is_greedy_and_needs_no_seed(model, tok):
    greedy = run(model, tok, temperature=0.0, repetition_penalty=1.0)
    assert greedy == run(model, tok, temperature=0.0, repetition_penalty=1.0, seed="t")
    with torch.inference_mode():
        first = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].argmax().item()
    assert greedy[0]["text"].startswith(tok.decode([first], skip_special_tokens=True).strip())


def test_a_batch_does_not_depend_on_those_before_it(model, tok):
    assert run(model, tok, skip=4) == run(model, tok)[4:]


def test_left_padding_does_not_change_a_greedy_answer(model, tok):
    together = run(model, tok, temperature=0.0, batch_size=7)
    assert together == run(model, tok, temperature=0.0, batch_size=1)


def test_an_answer_ends_at_any_of_the_models_stops_or_is_cut_at_the_limit(model, tok):
    row = run(always(model, 300), tok)[0]
    assert row == {"text": tok.decode([300] * 6).strip(), "n_tokens": 6, "ended": False}
    model.generation_config.eos_token_id = [2, 300]
    assert all(row["ended"] for row in run(model, tok))
    rows = run(always(model, tok.eos_token_id), tok)
    assert rows == [{"text": "", "n_tokens": 0, "ended": True}] * len(PROMPTS)
    assert run(model, tok, max_new_tokens=1)[0]["ended"], "at the very limit"


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.1, 2.0, 20.0], ids=["flat", "usual", "peaked"])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_tokens_are_drawn_as_often_as_transformers_would(spread, top_p):
    scores = spread * torch.randn(1, 2000, generator=torch.Generator().manual_seed(0))
    warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(0.6)(None, scores))
    wanted = warped.softmax(-1)[0].double()
    chance = (torch.arange(20_000) + 0.5)[:, None] / 20_000  # every part of [0, 1) equally often
    drawn = generation.Nucleus(0.6, top_p).draw(scores.expand(len(chance), -1), chance)[:, 0]
    found = torch.bincount(drawn, minlength=2000) / len(chance)
    assert (found - wanted).abs().max() <= 1.5 / len(chance)
    assert not found[wanted == 0].any()


def test_the_end_of_the_range_draws_the_last_of_the_nucleus():
    scores = torch.tensor([[3.0, 2.0, 1.0, -50.0]])
    chance = torch.nextafter(torch.ones(1, 1), torch.zeros(1, 1))
    assert generation.Nucleus(1.0, 0.99).draw(scores, chance).item() == 2
    alike, nucleus = torch.zeros(1, 4), generation.Nucleus(1.0, 0.5)
    drawn = {nucleus.draw(alike, torch.full((1, 1), chance)).item() for chance in (0.0, 0.3, 0.6, 0.999)}
    assert len(drawn) == 2, "the fewest tokens that hold top_p"


def greedy(model, tok, prompts, size: int) -> list[str]:
    batches = generation.completions(model, tok, prompts, seed="s", batch_size=size, max_new_tokens=12)
    return [row["text"] for batch in batches for row in batch]


@pytest.fixture
def read(model) -> list:
    """Shapes of what the model reads, pass by pass."""
    shapes = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append((*args, kwargs.get("input_ids"))[0].shape), with_kwargs=True
    )
    return shapes


def test_what_prompts_share_is_computed_once_and_changes_nothing(model, tok, monkeypatch, read):
    shared = list(range(320, 320 + generation.PASS))
    prompts = [shared + own for own in ([7, 8, 9], [10], [11, 12, 13, 14, 15])]
    together = greedy(model, tok, prompts, 3)
    assert read[:2] == [(1, len(shared)), (3, 5)]
    monkeypatch.setattr(generation, "PASS", 1000)
    assert greedy(model, tok, prompts, 3) == together and len(set(together)) > 1
    monkeypatch.undo()
    one, other = greedy(model, tok, [shared + [7]] * 2, 2)
    assert one == other, "where all is shared a token is left to predict from"


@pytest.mark.parametrize("head", [0, 40])
def test_prompts_of_like_length_are_read_together_and_nothing_changes(model, tok, read, head):
    draw = torch.Generator().manual_seed(0)
    lengths = (3, 200, 90, 1, 95, 210, 88, 30)
    shared, *own = (torch.randint(3, len(tok), (n,), generator=draw).tolist() for n in (head, *lengths))
    parts = generation.alike([n - 1 for n in lengths])
    assert parts == [[3, 0], [7], [6, 2, 4], [1, 5]]
    prompts = [shared + ids for ids in own]
    together = greedy(model, tok, prompts, 8)
    passes = [(1, head)] * bool(head) + [(2, 2), (1, 29), (3, 94), (2, 209), (8, 1)]
    assert read[: len(passes)] == passes
    assert together == greedy(model, tok, prompts, 1) and len(set(together)) > 1


def test_a_sliding_window_is_read_in_one(tok, llama2):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(llama2), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=24, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    network = MistralForCausalLM(config).eval()
    prompts = [torch.randint(3, len(tok), (n,)).tolist() for n in (90, 60, 140, 20)]
    assert greedy(network, tok, prompts, 4) == greedy(network, tok, prompts, 1)


ROWS = [{"id": f"r{i}"} for i in range(len(PROMPTS))]


def answer(path, model, tok, stop_after: int = 99) -> list[dict]:
    """Answer all prompts into a file, cut after so many batches."""

    def make(skip):
        for number, batch in enumerate(generation.completions(model, tok, PROMPTS, seed="s", skip=skip, **OPTIONS)):
            if number == stop_after:
                raise KeyboardInterrupt
            yield batch

    return generation.answer_all(path, ROWS, OPTIONS["batch_size"], make)


@pytest.mark.parametrize("batches", [0, 1, 3])
@pytest.mark.parametrize("torn", [0, 5, 60])
def test_a_run_that_was_cut_ends_in_the_same_bytes(model, tok, tmp_path, batches, torn):
    whole = answer(tmp_path / "whole.jsonl", model, tok)
    assert [row["id"] for row in whole] == [row["id"] for row in ROWS]
    with pytest.raises(KeyboardInterrupt):
        answer(tmp_path / "cut.jsonl", model, tok, stop_after=batches)
    if batches:
        data = (tmp_path / "cut.jsonl").read_bytes()
        (tmp_path / "cut.jsonl").write_bytes(data[: len(data) - torn])
    assert answer(tmp_path / "cut.jsonl", model, tok) == whole
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_finished_file_is_not_answered_again(model, tok, tmp_path):
    whole = answer(tmp_path / "a.jsonl", model, tok)

    def never(skip):
        raise AssertionError("asked again")

    assert generation.answer_all(tmp_path / "a.jsonl", ROWS, 2, never) == whole


def test_half_a_batch_on_disk_is_made_again(tmp_path):
    path = tmp_path / "a.jsonl"
    artefacts.append_jsonl(
        path, [{"id": "r0", "text": "old \u2028 one"}, {"id": "r1", "text": "old"}, {"id": "r2", "text": "half"}]
    )
    asked = []

    def make(skip):
        asked.append(skip)
        for start in range(skip, 7, 2):
            yield [{"text": f"new {i}"} for i in range(start, min(start + 2, 7))]

    rows = generation.answer_all(path, ROWS, 2, make)
    assert asked == [2]
    assert [row["text"] for row in rows] == ["old \u2028 one", "old", "new 2", "new 3", "new 4", "new 5", "new 6"]
    assert [json.loads(line)["id"] for line in path.read_text().split("\n") if line] == [row["id"] for row in ROWS]
