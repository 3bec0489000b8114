"""The data page: every reason has its share and its examples, drawn by the seed whatever the order of the batches."""

import pandas as pd
from test_build import HOSTILE, Page

from s2utils.report import data_page, web
from s2utils.workflow import params, paths


def made(rows: list[dict], funnel: str):
    folder = paths.artefacts("cpu") / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "rejected.parquet")
    (folder / "funnel.csv").write_text(funnel)
    return folder


def record(i: int, reason: str, **changes) -> dict:
    facts = {
        "dataset": "sciq",
        "id": str(i),
        "question": f"Q{i}",
        "answer": "A.",
        "fre": 50.0,
        "fkg": 9.5,
        "dropped": reason,
    }
    return facts | changes


def test_each_reason_shows_some_of_its_records(tree):
    rows = [record(i, "reading ease under 60") for i in range(50)]
    rows += [
        record(99, "empty answer", answer=None, fre=None, fkg=None),
        record(98, "long", answer="x" * 5000 + HOSTILE),
    ]
    folder = made(
        rows, "dataset,reason,n\nsciq,read,54\nsciq,reading ease under 60,50\nsciq,empty answer,1\nsciq,kept,2\n"
    )
    pd.DataFrame([record(1, "kept"), record(2, "kept", question=HOSTILE)]).drop(columns="dropped").to_parquet(
        folder / "train.parquet"
    )
    funnel = pd.read_csv(folder / "funnel.csv")
    groups = data_page.examples(folder, funnel, 42)
    assert [g["reason"] for g in groups] == ["kept", "reading ease under 60", "empty answer", "long"]
    assert [len(g["items"]) for g in groups] == [2, data_page.EXAMPLES, 1, 1]
    assert groups[2]["items"][0]["answer"] == "" and groups[2]["items"][0]["scores"] == ""
    assert groups[3]["items"][0]["answer"].endswith("(5,025 characters)")
    pd.DataFrame(rows[::-1]).to_parquet(folder / "rejected.parquet")
    again = data_page.examples(folder, funnel, 42)
    assert [i["id"] for i in again[1]["items"]] == [i["id"] for i in groups[1]["items"]]
    site = web.Site(paths.reports("cpu"), "profile cpu")
    page = Page(data_page.write(site, "cpu", params.load("cpu")))
    text = "".join(page.text)
    assert HOSTILE in text and "2 of 54 kept" in text and "92.6%" in text and "no text kept" in text
