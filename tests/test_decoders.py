"""Every family of decoders from the parameters through training, generation and judging, on tiny random models."""

import pytest
from conftest import write_rows
from families import KINDS, decoder

from s2utils.evaluation.judge import judge_prompts, judgements
from s2utils.models import generation, llm, loading
from s2utils.models.parameters import Weights
from s2utils.training import sft
from s2utils.workflow.params import load

QUESTION = {
    "question_id": 1,
    "category": "reasoning",
    "turns": ["Why is the sky blue?", "Is it?"],
    "must_hold": [[], []],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind → its folder, made when it is asked for."""
    made = {}

    def folder(kind: str):
        if kind not in made:
            made[kind] = decoder(kind, tmp_path_factory.mktemp(kind) / "model")
        return made[kind]

    return folder


@pytest.mark.filterwarnings("ignore:Could not find a config file")
@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_is_trained_answers_and_judges(tree, folders, tmp_path, kind):
    template = KINDS[kind][2]
    weights = {"path": str(folders(kind)), "revision": ""}
    settings = {"max_length": 512, "samples": 1, "country": "", "early_stopping_patience": 0}
    params = load(
        "smoke",
        {
            "model": {"base": weights, "chat": weights, "template": "chat" if template else "human_assistant"},
            "sft": settings,
            "mtbench": {"judge": {"model": str(folders(kind if template else "llama3")), "max_new_tokens": 4}},
        },
    )
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    found = sft.run(params, write_rows(tmp_path / "data", train=4, validation=2), "sciq", adapter)
    assert (found["steps"], found["train_rows"], found["rows_masked"], found["rows_too_long"]) == (2, 4, 0, 0)

    tuned = Weights(path=str(adapter), revision="")
    network, tok = loading.full(tuned, "float32"), loading.tokenizer(tuned)
    before = loading.tokenizer(params.model.base)
    assert tok.pad_token_id == before.pad_token_id != tok.eos_token_id
    assert tok.pad_token_id < network.get_input_embeddings().num_embeddings
    asked = loading.encoded(
        [loading.prompt([q], "sft", tok, params.model) for q in ("Why?", "What is rain?" * 9)], tok, "sft"
    )
    options = {"seed": "s", "max_new_tokens": 6, "repetition_penalty": 1.2}
    together = next(generation.completions(network, tok, asked, batch_size=2, **options))
    alone = [row for batch in generation.completions(network, tok, asked, batch_size=1, **options) for row in batch]
    assert together == alone

    judge = params.mtbench.judge
    chats = [judge_prompts.turn_chat(QUESTION, [row["text"], ""], 1, {}, False, False) for row in together]
    items = [{"question_id": i, "turn": 1, "model": "m", "chat": chat} for i, chat in enumerate(chats)]
    local = llm.local(judge, params)
    rated = judgements.collect(judge, "single", items, tmp_path / "c.jsonl", seed=1, label="judge", local=local)
    assert len(rated) == 2 and all(row["error"] == "" and isinstance(row["reply"], str) for row in rated)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][2] is None])
def test_a_judge_without_a_chat_template_is_refused_by_name(tree, folders, tmp_path, kind):
    judge = load("smoke").mtbench.judge.model_copy(update={"model": str(folders(kind))})
    items = [{"question_id": 1, "turn": 1, "model": "m", "chat": [{"role": "user", "content": "Why?"}]}]
    local = llm.local(judge, load("smoke"))
    with pytest.raises(ValueError, match="has no chat template: .* take a model that comes with one"):
        judgements.collect(judge, "single", items, tmp_path / "c.jsonl", seed=1, label="judge", local=local)
