"""Published tables of architectures against live configurations, and the errors they are known to hold."""

from transformers import LlamaConfig

from s2utils.evaluation import architectures
from s2utils.models.parameters import Weights


def test_every_printed_cell_is_there_and_the_known_errors_are_told():
    table = architectures.table({})
    assert not table.duplicated(["table", "model", "field"]).any() and len(table) == len(architectures.printed())
    wrong = {(row.model, row.field): row.printed for row in table[table["agrees"] == "no"].itertuples()}
    assert wrong["OLMo-7B", "dim"] == "4086" and wrong["LLaMA2-7B", "attention"] == "GQA"
    missing = table[table["agrees"] == architectures.ABSENT]
    assert missing["config"].eq("").all() and {"OpenLM-7B", "PaLM-8B", "LLaMA2-70B"} <= set(missing["model"])
    assert set(table["agrees"]) == {"yes", "no", architectures.ABSENT}


def test_a_configuration_that_is_named_is_read(tmp_path):
    LlamaConfig(hidden_size=64, num_attention_heads=8, num_key_value_heads=2, num_hidden_layers=1,
                intermediate_size=256, vocab_size=50).save_pretrained(tmp_path)  # fmt: skip
    table = architectures.table({"LLaMA2-70B": Weights(path=str(tmp_path), revision="")})
    rows = table[table["model"] == "LLaMA2-70B"].set_index("field")
    assert rows["agrees"].to_dict() == {"parameters_billions": "no", "context_k_tokens": "no", "gqa": "yes"}
    assert rows["source"].eq(str(tmp_path)).all()


def test_an_mlp_s_ratio_is_rounded_up_as_published_models_round_it():
    facts = architectures.facts(LlamaConfig())
    assert facts["hidden_dim"] == 11008 and facts["mlp_ratio"] == 2.6875
    ratio = architectures.table({}).set_index(["table", "model", "field"])["agrees"]
    assert ratio["olmo/architecture", "OLMo-7B", "mlp_ratio"] == "yes"
