"""Personal details that have a form: e-mail addresses, card numbers, IP addresses, phone numbers, user names.

They are counted and masked by their kind, [e-mail]; names, addresses of houses and the like are not found. Cards must
pass Luhn's check and begin as an issuer's do; an IP address must be a valid one (of IPv6 at least four groups). Trap: a
version of four parts ("1.2.3.4") is an IP address too, and `user` finds the decorators of code, so it is masked but not
among what is counted. Sources: Soldaini et al. 2024 (Dolma: e-mail, phone, IP); ISO/IEC 7812-1 (Luhn).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable

COUNTED = ("e-mail", "card", "IP", "phone")  # in this order, for a card is not to be a phone
KINDS = (*COUNTED, "user")

_FORMS = {
    "e-mail": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "card": re.compile(r"(?<![\w.-])(?:3[0478]|4\d|5[1-5]|2[2-7]|6[05])(?:[ -]?\d){11,17}(?![\w-])"),
    "IP": re.compile(
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"
        r"|(?<![\w:.])(?:[\da-fA-F]{1,4}::?){3,7}[\da-fA-F]{1,4}(?![\w:])"
    ),
    "phone": re.compile(  # +49 30 1234567 · (555) 123-4567 · 555-123-4567; not 10 000 000
        r"(?<![\w.])(?:\+\d{1,3}(?:[ .-]?\d){7,12}|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([.-])\d{3}\1\d{4})(?![\w-])"
    ),
    "user": re.compile(r"(?<!\w)/?u/[\w-]{3,20}|(?<!\w)@\w{3,20}"),
}
_NEEDS = {"e-mail": ("@",), "IP": (".", ":"), "user": ("u/", "@")}  # no text without any of these has one


def mask(text: str, kinds: Iterable[str] = KINDS) -> str:
    """`text` with every detail of these kinds replaced by its kind in brackets: "[e-mail]"."""
    return masked(text, kinds)[0]


def masked(text: str, kinds: Iterable[str] = COUNTED) -> tuple[str, Counter]:
    """(`text` as `mask` leaves it, how many details of each kind it held). KeyError where a kind is unknown."""
    counts: Counter = Counter()
    for kind in kinds:
        form = _FORMS[kind]
        if any(sign in text for sign in _NEEDS.get(kind, ("",))):
            text = form.sub(functools.partial(_replaced, kind, counts), text)
    return text, counts


def _replaced(kind: str, counts: Counter, match: re.Match) -> str:
    """What stands in place of a match, which is counted if it is of the kind."""
    if not _HOLDS.get(kind, bool)(match[0]):
        return match[0]
    counts[kind] += 1
    return f"[{kind}]"


def luhn(digits: str) -> bool:
    """Whether the last of these decimal digits is the check digit of those before it."""
    twice = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return bool(digits) and (sum(map(int, digits[-1::-2])) + sum(twice)) % 10 == 0


def _card(found: str) -> bool:
    digits = re.sub("[ -]", "", found)
    return 13 <= len(digits) <= 19 and luhn(digits)


def _ip(found: str) -> bool:
    try:
        return bool(ipaddress.ip_address(found))
    except ValueError:
        return False


_HOLDS: dict[str, Callable[[str], bool]] = {"card": _card, "IP": _ip}
