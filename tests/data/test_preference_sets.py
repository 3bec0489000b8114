import pandas as pd

from s2utils.data import preference_sets


def frame_of(*rows: tuple[str, int | None]) -> pd.DataFrame:
    """(post/answer, votes) rows; the question is named after its post."""
    frame = pd.DataFrame(rows, columns=["id", "score"]).astype({"score": "Int64"})
    frame["post"] = frame["id"].str.split("/").str[0]
    texts = {"question": "Why " + frame["post"] + "?", "answer": "Since " + frame["id"]}
    return frame.assign(dataset="d", dropped="", group="g", **texts)


def test_one_answer_is_for_fine_tuning_and_several_are_for_reward_modelling():
    votes = {"a/1": 5, "b/1": 9, "b/2": 1, "c/1": 3, "c/2": 3, "d/1": None, "e/1": 2, "e/2": None, "e/3": 1}
    frame = frame_of(*votes.items())
    preference_sets.assign(frame)
    kept = frame[frame["dropped"] == ""].set_index("id")["set"].to_dict()
    assert kept == {"a/1": "sft", "b/1": "rm", "b/2": "rm", "c/1": "sft", "d/1": "sft", "e/1": "rm", "e/3": "rm"}
    gone = frame[frame["dropped"] != ""].set_index("id")["dropped"].to_dict()
    assert gone == {"c/2": "equal votes: no pair, one answer stays", "e/2": "no votes to rank by"}


def test_a_repeated_id_is_no_second_record():
    frame = frame_of(("a/1", 5), ("a/1", 6))
    preference_sets.assign(frame)
    assert frame["dropped"].tolist() == ["", "id seen before"] and frame["set"].iat[0] == "sft"


def test_pairs_are_ranked_by_votes_ties_dropped_and_the_widest_first():
    frame = frame_of(("a/1", 9), ("a/2", 5), ("a/3", 5), ("a/4", 1))
    preference_sets.assign(frame)
    pairs, fates = preference_sets.pairs(frame, 3)
    ranked = pairs[["chosen_id", "rejected_id", "margin"]].values.tolist()
    assert ranked == [["a/1", "a/4", 8], ["a/1", "a/2", 4], ["a/1", "a/3", 4]]
    assert fates.set_index("reason")["n"].to_dict() == {"pairs": 6, "equal votes": 1, "over 3 a question": 2, "kept": 3}
    assert (frame["dropped"] == "").all()
    pairs, _ = preference_sets.pairs(frame, 9)
    assert pairs["margin"].tolist() == [8, 4, 4, 4, 4]  # no pair of equal votes
    pairs, _ = preference_sets.pairs(frame, 1)
    assert len(pairs) == 1
    assert frame["dropped"].tolist() == ["", "beyond 1 pairs a question", "beyond 1 pairs a question", ""]


def test_prompts_are_the_questions_nobody_answers():
    frame = frame_of(("a/1", 5), ("b/1", 5))
    preference_sets.assign(frame)
    frame.loc[1, "dropped"] = "under 4 votes"
    titles = ["Its first title?", "Why b?", "Why c?", "WHY C?", "why A?", "Why f?"]
    asked = pd.DataFrame({"dataset": "d", "post": list("abcdef"), "question": titles, "group": ""})
    assert preference_sets.prompts(frame, asked)["post"].tolist() == ["b", "c", "f"]


def test_no_votes_and_no_rows_make_empty_sets():
    frame = frame_of(("a/1", None))
    preference_sets.assign(frame)
    pairs, fates = preference_sets.pairs(frame, 10)
    assert list(pairs.columns) == [*preference_sets.PAIRS, "dropped"] and pairs.empty and fates.empty
    empty = frame.head(0)
    preference_sets.assign(empty)
    assert preference_sets.prompts(empty, empty).empty


def test_a_written_question_that_another_set_asks_is_dropped():
    frame = frame_of(("a/1", 9), ("a/2", 1), ("b/1", None))
    preference_sets.assign(frame)
    frame.loc[2, "question"] = "WHY A?"
    preference_sets.keep_apart(frame)
    assert frame["dropped"].tolist() == ["", "", "question is in another set"]


def test_answers_of_two_data_sets_may_share_an_id():
    other = frame_of(("1/2", 9), ("1/4", 1)).assign(dataset="e")
    frame = pd.concat([frame_of(("1/1", 9), ("1/2", 5), ("1/3", 1)), other], ignore_index=True)
    preference_sets.assign(frame)
    pairs, _ = preference_sets.pairs(frame, 1)
    assert pairs[["dataset", "chosen_id", "rejected_id"]].values.tolist() == [["d", "1/1", "1/3"], ["e", "1/2", "1/4"]]
    assert frame["dropped"].tolist() == ["", "beyond 1 pairs a question", "", "", ""]


def test_a_post_of_thousands_of_answers_takes_seconds():
    frame = frame_of(*((f"a/{i}", i % 700) for i in range(2000)))
    preference_sets.assign(frame)
    pairs, fates = preference_sets.pairs(frame, 10)
    counts = fates.set_index("reason")["n"]
    assert len(pairs) == 10 and pairs["margin"].iat[0] == 699
    assert counts["pairs"] == 2000 * 1999 // 2 == counts.drop("pairs").sum()
