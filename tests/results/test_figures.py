import matplotlib.pyplot as plt
import pytest

from s2utils.results import figures


@pytest.fixture(autouse=True)
def no_figure_of_others():
    plt.close("all")


def draw():
    """A small figure."""
    figures.style()
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([1, 2, 3], [1, 4, 9], label="a < b")
    axes.legend()
    return figure


def test_a_figure_is_written_in_every_format_with_its_words(tmp_path):
    shown = figures.save(draw(), "curve", tmp_path / "figures", alt='A line "up" & <over>', caption="It rises.")
    written = {p.suffix: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert set(written) == {".png", ".svg", ".pdf", ".txt"}
    assert written[".png"].startswith(b"\x89PNG") and written[".pdf"].startswith(b"%PDF") and b"<svg" in written[".svg"]
    assert written[".txt"].decode() == 'A line "up" & <over>\nIt rises.\n'
    assert 'alt="A line &quot;up&quot; &amp; &lt;over&gt;"' in shown.data and "data:image/png;base64," in shown.data
    assert "<figcaption>It rises.</figcaption>" in shown.data
    assert not plt.get_fignums()


def test_the_same_data_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        figures.save(draw(), "curve", tmp_path / folder, "alt", "caption")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
