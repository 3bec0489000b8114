"""Reddit dumps: posts joined with their comments, every other line counted, parsed once, nothing half made."""

import gzip
import json
import multiprocessing
import random
from collections import Counter

import pytest
from source_files import json_lines, packed, source

from s2utils.data import reddit, sources
from s2utils.data.streams import SourceError, Unreadable


def submission(number: str, title: str = "Why?", subreddit: str = "explainlikeimfive", **more) -> dict:
    return {"id": number, "title": title, "selftext": "", "subreddit": subreddit, "score": 3, "author": "a"} | more


def comment(number: str, post: str, text: str = "So it is.", score: object = 5, **more) -> dict:
    facts = {"id": number, "link_id": f"t3_{post}", "parent_id": f"t3_{post}", "body": text, "score": score}
    return facts | {"author": "b", "subreddit": "explainlikeimfive"} | more


def write(path, rows: list) -> None:
    """Rows (or raw lines) as a dump."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(path, json_lines(rows)))


@pytest.fixture
def dumps(tmp_path):
    """Two months of dumps with one of everything."""
    folder = tmp_path / "dumps"
    write(folder / "RS_2012-01.zst", [
        submission("p2", "How?", selftext="I ask."), submission("p1"), submission("p4", subreddit="AskReddit"),
        submission("p5", subreddit="ASKSCIENCE", selftext=None), "{broken explainlikeimfive}", '{"cut', "", "[1]",
        submission("p6", title=None), submission("p7", "Half \ud83d?", over_18=True),
    ])  # fmt: skip
    write(folder / "RS_2012-02.bz2", [submission("p1", "Why again?"), submission("p3")])
    write(folder / "RC_2012-01.zst", [
        comment("c2", "p1"), comment("c1", "p1", "First.", 7), comment("c3", "p1", parent_id="t1_c2"),
        comment("c4", "none"), comment("c5", "p2", author="AutoModerator"), comment("c6", "p4", subreddit="AskReddit"),
        comment("c7", "p5", "[deleted]", subreddit="askscience"), comment("c8", "p7", score="many", parent_id=None),
    ])  # fmt: skip
    few = [comment("c9", "p2", score=-2), comment("c2", "p1"), comment("d1", "p2", body=None)]
    write(folder / "RC_2012-02.gz", few)
    (folder / "README.txt").write_text("not a dump")
    return folder


@pytest.fixture
def read(tmp_path):
    """Read a folder of dumps: (posts, what was left out by reason)."""

    def call(folder, subreddits=()) -> tuple[list[dict], dict[str, int]]:
        rows = list(reddit.posts(folder, list(subreddits), tmp_path / "cache"))
        posts = [row for row in rows if isinstance(row, dict)]
        return posts, {row.reason: row.n for row in rows if isinstance(row, Unreadable)}

    return call


def whole_files(cache) -> list[str]:
    return [path.suffix for path in cache.iterdir() if path.suffix != ".lock"]


LEFT_OUT = {
    "broken line": 5, "other subreddit": 2, "reply to a comment": 1, "moderators' notice": 1,
    "submission seen before": 1, "comment seen before": 1, "comment without its post": 1,
}  # fmt: skip


def test_posts_are_joined_with_their_comments_and_the_rest_is_counted(dumps, read):
    rows, left_out = read(dumps)
    assert left_out == LEFT_OUT
    assert [(r["q_id"], r["title"], r["selftext"], r["subreddit"], r["answers"]["a_id"]) for r in rows] == [
        ("p1", "Why?", "", "explainlikeimfive", ["c1", "c2"]), ("p2", "How?", "I ask.", "explainlikeimfive", ["c9"]),
        ("p3", "Why?", "", "explainlikeimfive", []), ("p5", "Why?", "", "ASKSCIENCE", ["c7"]),
        ("p7", "Half ??", "", "explainlikeimfive", ["c8"]),
    ]  # fmt: skip
    assert rows[0]["answers"] == {"a_id": ["c1", "c2"], "text": ["First.", "So it is."], "score": [7, 5]}
    assert rows[-1]["answers"]["score"] == [None]


def test_every_line_is_a_post_a_comment_or_counted(dumps, read):
    rows, left_out = read(dumps, ["AskScience"])
    assert [row["q_id"] for row in rows] == ["p5"]
    used = len(rows) + sum(len(row["answers"]["a_id"]) for row in rows)
    assert used + sum(left_out.values()) == 9 + 2 + 8 + 3


def test_a_second_run_does_not_parse_again_unless_the_dumps_changed(dumps, read, tmp_path, monkeypatch):
    first = read(dumps)
    assert whole_files(tmp_path / "cache") == [".sqlite"]

    def never(path):
        raise AssertionError(f"{path} parsed again")

    with monkeypatch.context() as patch:
        patch.setattr(reddit, "lines", never)
        assert read(dumps, ["askhistorians", "AskScience", "ExplainLikeImFive"]) == first
        write(dumps / "RS_2012-02.bz2", [submission("p9")])
        with pytest.raises(AssertionError, match="parsed again"):
            read(dumps)
    assert not list((tmp_path / "cache").glob("*.partial"))
    assert "p9" in [row["q_id"] for row in read(dumps)[0]]


def test_a_cut_dump_is_named_and_leaves_nothing_behind(dumps, read, tmp_path):
    whole = (dumps / "RC_2012-01.zst").read_bytes()
    (dumps / "RC_2012-01.zst").write_bytes(whole[:-5])
    with pytest.raises(SourceError, match=r"RC_2012-01.zst: the file is cut .* after line \d+; fetch it again"):
        read(dumps)
    assert not whole_files(tmp_path / "cache")


def test_a_full_disk_is_named_and_leaves_nothing_behind(dumps, read, tmp_path, monkeypatch):
    monkeypatch.setattr(reddit, "TABLES", "PRAGMA max_page_count=3; " + reddit.TABLES)
    with pytest.raises(SourceError, match="cannot be sorted in .*disk is full.* S2_CACHE"):
        read(dumps)
    assert not whole_files(tmp_path / "cache")


def test_a_folder_without_comments_says_what_is_missing(read, tmp_path):
    write(tmp_path / "dumps" / "RS_2012-01.zst", [submission("p1")])
    with pytest.raises(SourceError, match="no reddit dump of comments in this folder, such as RC_2012-01.zst"):
        read(tmp_path / "dumps")


@pytest.mark.parametrize("start", ["", "r_"])
@pytest.mark.parametrize("kinds", ["posts", "submissions"])
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "zst"])
def test_files_of_one_subreddit_as_downloaders_name_them(read, tmp_path, start, kinds, suffix):
    write(tmp_path / "dumps" / f"{start}AskScience_{kinds}.{suffix}", [submission("p1", subreddit="AskScience")])
    write(tmp_path / "dumps" / f"{start}AskScience_comments.{suffix}", [comment("c1", "p1", subreddit="AskScience")])
    ((row,), _) = read(tmp_path / "dumps")
    assert row["answers"]["a_id"] == ["c1"]


def test_a_parent_that_is_null_is_the_post_and_a_number_is_a_comment(read, tmp_path):
    """As Pushshift wrote them, before and after its change."""
    write(tmp_path / "dumps" / "r_eli5_posts.jsonl", [submission("p1")])
    parents = {"top": "t3_p1", "null": None, "reply": "t1_top", "number": 41239084123, "float": 41239084123.0}
    rows = [comment(name, "p1", parent_id=parent) for name, parent in parents.items()]
    unnamed = comment("unnamed", "p1")
    del unnamed["parent_id"]
    write(tmp_path / "dumps" / "r_eli5_comments.jsonl", [*rows, unnamed])
    (row,), left_out = read(tmp_path / "dumps")
    assert row["answers"]["a_id"] == ["null", "top"]
    assert left_out == {"comment that does not name its parent": 1, "reply to a comment": 3}


def _count(folder, cache) -> int:
    return sum(1 for _ in reddit.posts(folder, [], cache))


def test_parallel_jobs_build_once_and_read_the_same(dumps, tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        counts = pool.starmap(_count, [(dumps, tmp_path / "cache")] * 3)
    assert counts == [5 + len(LEFT_OUT)] * 3
    assert len(list((tmp_path / "cache").glob("*.sqlite"))) == 1


def test_real_posts_written_as_dumps_are_read_back(root, sample, monkeypatch):
    monkeypatch.setenv("S2_CACHE", str(root / "cache"))
    real = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    draw = random.Random(0)
    asked = [submission(r["q_id"], r["title"], r["subreddit"], selftext=r["selftext"]) for r in real]
    said = [
        comment(a, r["q_id"], t, s, subreddit=r["subreddit"])
        for r in real for a, t, s in zip(r["answers"]["a_id"], r["answers"]["text"], r["answers"]["score"])
    ]  # fmt: skip
    noise = [comment(f"n{i}", "x", subreddit="AskReddit") for i in range(500)]
    asked, said = (draw.sample(rows, len(rows)) for rows in (asked, said + noise))
    write(root / "reddit" / "RS_2017-06.zst", asked[:1000])
    write(root / "reddit" / "RS_2017-07.zst", asked[1000:])
    write(root / "reddit" / "RC_2017-06.zst", said)
    columns = {"id": "q_id", "question": "title", "body": "selftext", "group": "subreddit"}
    path = sample("samples/eli5_category_validation.json.gz")
    plain, none = sources.read("ELI5", source(path, "posts", **columns), 0)
    back, left_out = sources.read("ELI5", source("reddit", "posts", **columns), 0)
    assert not none and left_out == {"other subreddit": 500}
    assert Counter(json.dumps(r, sort_keys=True) for r in back) == Counter(json.dumps(r, sort_keys=True) for r in plain)
    assert [r["post"] for r in back] == sorted(r["post"] for r in back)
