"""Metrics of every table: our column → the published one."""

METRICS = {
    "leaderboard": {
        "average": "average", "arc_acc_norm": "arc", "hellaswag_acc_norm": "hellaswag", "mmlu_acc": "mmlu",
        "truthfulqa_mc2": "truthfulqa",
    },
    "rouge": {"rouge_1_f1": "rouge1", "rouge_2_f1": "rouge2", "rouge_l_f1": "rougeL", "rouge_lsum_f1": "rougeLsum"},
    "bertscore": {"bertscore_precision": "precision", "bertscore_recall": "recall", "bertscore_f1": "f1"},
    "flesch": {"flesch_reading_ease": "fre", "flesch_kincaid_grade": "fkg"},
    "mtbench": {"single_turn_rating": "single_turn", "multi_turn_rating": "multi_turn"},
    "judge": {
        "judge_rating": "score", "judge_simplicity": "", "judge_helpfulness": "", "judge_relevance": "",
        "judge_accuracy": "", "judge_depth": "", "judge_safety": "",
    },
}  # fmt: skip
