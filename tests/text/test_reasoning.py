"""Reasoning blocks: closed, opened by the prompt, cut."""

import pytest

from s2utils.text.reasoning import without


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Rain is water.", "Rain is water."),
        ("<think>Rain? Water.</think>\n\nRain is water.", "Rain is water."),
        ("[THINK]hm[/THINK]Rain is water.", "Rain is water."),
        ("Rain? Water.</think>\nRain is water.", "Rain is water."),
        ("Rain?\nWater.</reasoning> Rain is water.", "Rain is water."),
        ("<think>a</think>Rain <THINK>b</THINK>is water.", "Rain is water."),
        ("<think>Rain may be", ""),
        ("I think <b>so</b>, 2 < 3 > 1.", "I think <b>so</b>, 2 < 3 > 1."),
    ],
)
def test_what_is_left(text, left):
    assert without(text) == (left, left != text)
    assert without(left) == (left, False)
