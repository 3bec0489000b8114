"""What an estimate cannot measure: numbers that were recorded, published or guessed, each with its source.

Seconds are of the recorded machine (`machine.REFERENCE`), sizes are bytes. "Recorded" is one run of the cpu profile
(LOG.md), so what is recorded fits that run. Trap: no GPU has tested the numbers for one.
"""

SHARES = {  # dimensionless, of the measured rates
    # a forward or backward pass reaches so much of a bare matrix product: in float32, and in bfloat16. cpu: set on
    # recorded runs; cuda: large trainings report 21–46 % (Chowdhery et al. 2022, PaLM), not measured by us
    "float32": {"cpu": 0.75, "cuda": 0.4},
    "bfloat16": {"cpu": 0.5, "cuda": 0.4},
    # decoding reads all weights once a token at so much of the bandwidth. cpu: recorded; cuda: usual for batch 1–32
    "stream": {"cpu": 0.4, "cuda": 0.6},
    # a pass under the mask of a prefix tree against one without. cpu: recorded; cuda: assumed
    "tree": {"cpu": 0.9, "cuda": 0.7},
}
PUBLISHED = {  # sizes of models, where a configuration cannot be had: Touvron et al. 2023; SmolLM2's card; Jiang et al.
    # 2023 (Mistral); Groeneveld et al. 2024 (OLMo); Biderman et al. 2023 (Pythia)
    "llama-2-7b": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "llama-2-13b": {
        "vocab_size": 32_000, "hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "smollm2-135m": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "mistral-7b": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    "olmo-7b": {
        "model_type": "olmo", "vocab_size": 50_304, "hidden_size": 4096, "intermediate_size": 11_008,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "pythia-14m": {
        "model_type": "gpt_neox", "vocab_size": 50_304, "hidden_size": 128, "intermediate_size": 512,
        "num_hidden_layers": 6, "num_attention_heads": 4,
    },
    "pythia-70m": {
        "model_type": "gpt_neox", "vocab_size": 50_304, "hidden_size": 512, "intermediate_size": 2048,
        "num_hidden_layers": 6, "num_attention_heads": 8,
    },
    "pythia-160m": {
        "model_type": "gpt_neox", "vocab_size": 50_304, "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12,
    },
    "pythia-6.9b": {
        "model_type": "gpt_neox", "vocab_size": 50_432, "hidden_size": 4096, "intermediate_size": 16_384,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    },
}  # fmt: skip
RULES = {  # rule of the graph → seconds of a job's start and end with its tables and figures: recorded
    "eda": 9, "filtered_one": 2, "data": 22, "sft_one": 16, "sft": 11, "merged_one": 6, "answers_one": 8,
    "divergence_one": 14, "answers": 11, "membership": 3, "text_metrics": 30, "leaderboard_one": 10, "protocols": 11,
    "leaderboard": 8, "mtbench_one": 10, "judged": 4, "mtbench": 8,
    "corpus": 14, "fit_one": 7, "fit": 14, "ladder": 6, "ablation": 6,
    "attention": 18, "arms": 6, "windows": 6,
    "experts": 40, "mixtures": 6, "long_context": 8,
}  # fmt: skip
REPORT = 29  # seconds of the rule that writes the report
ROW = {  # seconds: a text cleaned, a text described, a value drawn, a document of a corpus filtered and described
    "clean": 38e-6, "eda": 2e-3, "resample": 0.3e-6, "corpus": 12e-3,
}  # fmt: skip
DOCUMENTS, DOCUMENT = 2000, 1500  # of a component that is read whole; bytes of one
SCRATCH = {
    "characters": 2.9,
    "share": 0.4,
    "token": 70e-6,
}  # a tiny model: bytes a token, share of the rate, seconds a token
ARMS = 9  # architecture_arms.CHANGES, whose import takes seconds
HEADS = 3  # attention_heads.variants, each with half as many key-value heads or fewer
CACHES = 4  # attention_windows.KINDS
TEXTS = {  # source → rows, those left for fine-tuning, mean characters of their answers, of their questions
    "embedded:sciq": (1000, 350, 393, 76),  # counted here
    "embedded:wikilead": (10_033, 1350, 394, 45),
    "vblagoje/lfqa": (669_139, 41_568, 550, 80),  # counted by the study, its lengths guessed from samples
    "wikimedia/wikipedia": (205_328, 75_242, 700, 45),
}
UNKNOWN = (100_000, 20_000, 500, 80)  # any other source
CHARS = 4  # characters a token, as in `llm`
LEARNT, PROMPT, TURN = 130, 30, 20  # tokens of a training row, of a question in its prompt, of a turn of MT(S)-bench
TASKS = {  # documents (MMLU: of a subject) · tokens of a shot, of a document with all its continuations, that all share
    "arc": (1172, 36, 54, 0),  # counted on the embedded copies
    "hellaswag": (10042, 80, 134, 0),
    "mmlu": (14042 // 57, 94, 71, 0),
    "truthfulqa": (817, 0, 95, 200),
}
PASSAGES = 48  # controls in params/mts_bench.jsonl that references are paired with
BRIEF = {"single": 10, "rubric": 60, "pair": 6}  # tokens of a judge's reply without reasons
LATENCY, WRITING = 1.0, 0.02  # seconds until a server begins, and a token it writes
PROCESS = {"cpu": 1.3e9, "cuda": 0.7e9}  # bytes before any weight: Python with torch, trl, Jupyter · the CUDA context
ADAM = {"adamw_torch": 8.0, "paged_adamw_8bit": 2.0, "adamw_8bit": 2.0}  # bytes of state a trained weight; others: 8
LAYERS = 60  # bytes a weight, made and compared under all merges
DISK = 0.4e9  # bytes a second to write and hash, or to read, a model
OPS = 150  # calls of a small operation that a layer costs while decoding (about 40 kernels, each behind Python)
ENCODER = 86e6  # weights of a RoBERTa-base without its embeddings
CACHED = {"encoder": 1.5e9, "archive": 0.4e9}  # bytes, at most: of a hub encoder or data set, an archive unpacked
