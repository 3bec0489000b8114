import re
from pathlib import Path

import pytest
import thumbnails
from PIL import Image

from s2utils.workflow import paths

ROOT = Path(__file__).resolve().parents[1]
MAP = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_is_on_the_map_once_with_a_picture():
    assert NOTEBOOKS == re.findall(r"\| \[(\w+)\]\(\1\.ipynb\) \|", MAP) == list(thumbnails.FIGURES)
    pictures = re.findall(r'<img src="(thumbnails/\w+\.png)" width="\d+" alt="[^"]{20,}">', MAP)
    assert pictures == [f"thumbnails/{name}.png" for name in NOTEBOOKS]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_picture_is_small_and_says_where_it_is_from(name):
    file = ROOT / "notebooks" / "thumbnails" / f"{name}.png"
    assert file.stat().st_size <= thumbnails.BYTES
    picture = Image.open(file)
    profile, figure = re.fullmatch(r"profile (\S+), figure (\w+)", picture.text["Comment"]).groups()
    assert figure == thumbnails.FIGURES[name] and f"a run of the `{profile}` profile" in MAP
    assert picture.width <= thumbnails.WIDTH and len(picture.getcolors()) > 2, "an empty picture"


def test_pictures_are_made_of_the_figures_that_are_there(tree, capsys):
    figures = paths.reports("smoke") / "figures"
    figures.mkdir(parents=True)
    noise = Image.effect_noise((1200, 700), 90).convert("RGB")
    noise.save(figures / "funnel.png")
    Image.new("RGBA", (300, 100), (0, 0, 0, 0)).save(figures / "merge.png")
    (thumbnails.folder() / "04_generate.png").unlink()
    assert thumbnails.main(["smoke"]) == 0
    assert "eda_readability.png of 01_eda" in capsys.readouterr().err
    made = thumbnails.folder() / "02_datasets.png"
    assert (
        made.stat().st_size <= thumbnails.BYTES and Image.open(made).text["Comment"] == "profile smoke, figure funnel"
    )
    clear = Image.open(thumbnails.folder() / "04_generate.png").convert("RGB")
    assert clear.getcolors() == [(clear.width * clear.height, (255, 255, 255))]
    assert thumbnails.main(["cpu"]) == 1 and capsys.readouterr().err.count("\n") == 1
