"""Characters beyond ASCII as pdflatex sets them with its plainest packages (T1 fonts, no Unicode tables).

Letters with accents become LaTeX's accents, signs their commands; what has neither is named by its number, [U+4E2D],
so that a name from anywhere compiles and can still be told from another.
"""

from __future__ import annotations

import unicodedata

ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0328": "k", "\u0331": "b",
}  # fmt: skip
MATH = {
    "−": "-", "×": r"\times", "÷": r"\div", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "±": r"\pm",
    "·": r"\cdot", "→": r"\rightarrow", "←": r"\leftarrow", "Δ": r"\Delta", "α": r"\alpha", "β": r"\beta", "ρ": r"\rho",
    "κ": r"\kappa", "μ": r"\mu", "σ": r"\sigma", "∞": r"\infty", "†": r"^\dagger", "°": r"^\circ", "¹": "^1", "²": "^2",
    "³": "^3", "‖": r"\|",
}  # fmt: skip
SIGNS = {
    "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "\u2011": "-",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}",
    "Ł": r"\L{}", "đ": r"\dj{}", "Đ": r"\DJ{}", "ð": r"\dh{}", "Ð": r"\DH{}", "þ": r"\th{}", "Þ": r"\TH{}",
    "ı": r"\i{}",
    "•": r"\textbullet{}", "§": r"\S{}", "£": r"\pounds{}", "«": r"\guillemotleft{}", "»": r"\guillemotright{}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "¿": "?`", "¡": "!`", "€": r"\texteuro{}",
}  # fmt: skip


def latex_text(value: object) -> str:
    """Text with LaTeX's special characters escaped, and all others such that pdflatex sets them."""
    return "".join(map(_symbol, str(value)))


def _symbol(character: str) -> str:
    if character in "&%$#_{}":
        return rf"\{character}"
    if character in MATH:
        return f"${MATH[character]}$"
    if character in SIGNS:
        return SIGNS[character]
    if " " <= character <= "~":
        return character
    if character.isspace():
        return " "
    return _accented(character) or f"[U+{ord(character):04X}]"


def _accented(character: str) -> str:
    """An ASCII letter with one accent, or the plain letters that a ligature or a wide letter stands for; else ""."""
    parts = unicodedata.normalize("NFKD", character)
    if len(parts) == 2 and parts[0].isalpha() and parts[0].isascii() and parts[1] in ACCENTS:
        return rf"\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return parts if parts.isascii() and parts.isalnum() else ""
