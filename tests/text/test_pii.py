import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.text import pii

TEXTS = {
    "Mail a.b+c@mail.example.org now": "Mail [e-mail] now",
    "Call +49 30 1234567 or (555) 123-4567 or 555-123-4567.": "Call [phone] or [phone] or [phone].",
    "Pay with 4111 1111 1111 1111, 378282246310005 or 5555-5555-5555-4444.": "Pay with [card], [card] or [card].",
    "From 192.0.2.7, 10.0.0.1 and 2001:db8:0:1::7 to 2001:db8::ff00:42:8329": "From [IP], [IP] and [IP] to [IP]",
    "As u/some_body and @handle said": "As [user] and [user] said",
}
PLAIN = [
    "4111 1111 1111 1112 fails Luhn's check",  # so is most of what has sixteen digits
    "9111 1111 1111 1117 is no issuer's",
    "In 2019 we saw 10 000 000 birds, 3.14159265 and 1990-2000.",
    "192.0.2.256, 1.2.3.4.5 and 1.2.3 are no addresses, nor are 12:30:45, std::vector, x[::2] and 00:1a:2b:3c:4d:5e",
    "and/or menu/ordering",
    "a @ b, me@home",
    "",
]


@pytest.mark.parametrize(("text", "wanted"), TEXTS.items())
def test_details_are_masked_and_counted_by_kind(text, wanted):
    assert pii.mask(text) == wanted
    _, counts = pii.masked(text, pii.KINDS)
    assert counts == Counter({kind: n for kind in pii.KINDS if (n := wanted.count(f"[{kind}]"))})
    assert pii.mask(wanted) == wanted


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_looks_like_a_detail_is_left_alone(text):
    assert pii.masked(text) == (text, Counter())


def test_only_the_kinds_asked_for_are_masked_and_decorators_are_not_counted():
    text = "@property x@example.org 192.0.2.7"
    assert pii.mask(text, ["IP"]) == "@property x@example.org [IP]"
    assert pii.masked(text) == ("@property [e-mail] [IP]", Counter({"e-mail": 1, "IP": 1}))
    with pytest.raises(KeyError, match="address"):
        pii.mask(text, ["address"])


@given(st.text("0123456789", min_size=1, max_size=25))
def test_one_of_ten_last_digits_passes_luhns_check(digits):
    assert sum(pii.luhn(digits + last) for last in "0123456789") == 1


def test_luhn_by_its_textbook_example():
    assert pii.luhn("79927398713") and not pii.luhn("79927398710") and not pii.luhn("")


@given(st.text(st.sampled_from("0123456789.:@+-() abcu/_"), max_size=80))
def test_masking_twice_is_masking_once_and_counts_are_of_what_was_masked(text):
    masked, counts = pii.masked(text)
    assert pii.mask(masked, pii.COUNTED) == masked
    assert all(masked.count(f"[{kind}]") == n for kind, n in counts.items()) and (not counts) == (masked == text)


@pytest.mark.parametrize("unit", ["1", "1.", "a:", "a@", "+1", "1-", "4 ", "@a", "u/", "1::"])
def test_a_hostile_text_is_read_in_time(unit):
    start = time.process_time()
    pii.masked(unit * (500_000 // len(unit)), pii.KINDS)
    assert time.process_time() - start < 5
