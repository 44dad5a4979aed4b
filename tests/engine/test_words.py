"""The words of `"bm25"` in every script, and the vectors that are made of them."""

# ruff: noqa: RUF001 - other scripts have letters that look like Latin ones

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextk.engine.text.bm25 import BM25
from nextk.engine.text.words import FORMER_RULE, RULE, WordRule
from tests.support.languages import LANGUAGES

SENTENCES = [topic.sentence for topics in LANGUAGES.values() for topic in topics]
FORMS: list[Any] = ["NFC", "NFD", "NFKC", "NFKD"]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from("aK9_é年假ย๒क्ー한\u0301\u200d\u3099 "), max_size=40).map(
    "".join
)
WORD = st.text(st.characters(categories=["L", "M", "N"]), max_size=8)

ENGLISH = {
    "Reading files with get_line: don't re-read the HTTPServer's log.": (
        1.3435114622116089,
        {
            *(211760656, 255813829, 393743794, 589858111, 1266730226, 1360311542, 1517147638, 1627954268, 2029027801),
            2101030512,
        },
        {408371559: 1.6682463884353638},
    ),
    "Employees may carry over five days of holiday — that's “the rule” — until 31 March.": (
        1.366990327835083,
        {
            *(254420355, 888972121, 1018350795, 1188605132, 1553642036, 1684830197, 1698174032, 1704995216, 1785795103),
            *(2013582265, 2128001463),
        },
        {},
    ),
    "The naïve café's résumé, 5 \u00b5m wide; 2\u00bd litres ☕ 1\ufe0f\u20e3": (
        1.39130437374115,
        {
            *(64810935, 78719918, 414007989, 450215437, 520330761, 636518839, 753110242, 1621815905, 1659554794),
            2104968884,
        },
        {},
    ),
    "Walking walks walked, and the walker walks on and on.": (
        1.527114987373352,
        {272900527},
        {227637845: 1.9817030429840088},
    ),
}
"""The vectors of English texts in version 1: the weight of most terms, those terms, and the weights of the others."""


def vector(text: str) -> dict[int, float]:
    """The entries of a document's vector."""
    document = BM25().embed_documents([text])[0]
    return dict(zip(document.indices.tolist(), document.values.tolist(), strict=True))


def asked(text: str) -> set[int]:
    """The terms of a query."""
    return set(BM25().embed_query(text).indices.tolist())


def words(text: str) -> list[str]:
    """The words of a text, folded."""
    return [RULE.fold(word) for word in RULE.cut(text).words]


class TestWords:
    """Words, characters and bigrams."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("समिति की क्षमा", ["समिति", "की", "क्षमा"]),
            ("x\u0304 \u0301 \ufe0f", ["x\u0304"]),
            ("Straße STRASSE", ["strasse", "strasse"]),
            ("ΣΊΣΥΦΟΣ Σίσυφος", ["σίσυφοσ", "σίσυφοσ"]),
            ("\u0130stanbul ISPARTA \u0131sparta", ["istanbul", "isparta", "isparta"]),
            ("می\u200cخواهم", ["میخواهم"]),
            ("क्\u200dष क्ष", ["क्ष", "क्ष"]),
            ("co\u00adoperate", ["cooperate"]),
            ("شكرًا مـــرحبا مُدَرِّس", ["شكرا", "مرحبا", "مدرس"]),
            ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", ["\u05e9\u05dc\u05d5\u05dd"]),
            ("١٥ १५ ๑๕ １５", ["15", "15", "15", "15"]),
            ("п'ять l'avion", ["п", "ять", "l", "avion"]),
            ("བོད་ཡིག", ["བོད", "ཡིག"]),
            ("1\ufe0f\u20e3 ❤\ufe0f", ["1"]),
        ],
    )
    def test_words(self, text: str, expected: list[str]) -> None:
        """Words keep their marks, and are equal however they are typed."""
        cut = RULE.cut(text)
        assert expected == words(text)
        assert ([], []) == (cut.characters, cut.bigrams)

    @pytest.mark.parametrize(
        ("text", "characters", "bigrams", "others"),
        [
            ("年假", ["年", "假"], ["年假"], []),
            ("iPhone手机壳", ["手", "机", "壳"], ["手机", "机壳"], ["iphone"]),
            ("第3章", ["第", "章"], [], ["3"]),
            ("二〇二四", ["二", "〇", "二", "四"], ["二〇", "〇二", "二四"], []),
            ("食べる。人", ["食", "べ", "る", "人"], ["食べ", "べる"], []),
            ("ｶﾞｰﾃﾞﾝ", ["ガ", "ー", "デ", "ン"], ["ガー", "ーデ", "デン"], []),
            ("한국 \u1112\u1161\u11ab", ["한", "국", "한"], ["한국"], []),
            ("ที่ดี ๒๕", ["ที่", "ดี"], ["ที่ดี"], ["25"]),
            ("ខ្មែរ", ["ខ្", "មែ", "រ"], ["ខ្មែ", "មែរ"], []),
            ("မြန်မာ", ["မြ", "န်", "မာ"], ["မြန်", "န်မာ"], []),
            ("ລາວ", ["ລ", "າ", "ວ"], ["ລາ", "າວ"], []),
            ("\U00020bb7野家", ["\U00020bb7", "野", "家"], ["\U00020bb7野", "野家"], []),
            ("葛\U000e0100城", ["葛", "城"], ["葛城"], []),
        ],
    )
    def test_scripts_without_blanks(
        self, text: str, characters: list[str], bigrams: list[str], others: list[str]
    ) -> None:
        """A run of a script without blanks gives characters with their marks and bigrams; other scripts give words."""
        cut = RULE.cut(text)
        assert (characters, bigrams, others) == (cut.characters, cut.bigrams, words(text))

    @given(WORD)
    def test_case(self, word: str) -> None:
        """A word is the same in small letters, in capitals and with a capital at its beginning."""
        normal = unicodedata.normalize("NFKC", word)
        cases = [normal.lower(), normal.upper(), normal.title(), normal.casefold()]
        assert {RULE.fold(normal)} == {RULE.fold(unicodedata.normalize("NFKC", each)) for each in cases}


class TestVectors:
    """The vectors of texts in any script."""

    @pytest.mark.parametrize("text", ENGLISH, ids=["identifiers", "quotes", "accents", "stems"])
    def test_english(self, text: str) -> None:
        """English texts have the vectors of version 1, to the bit."""
        weight, terms, others = ENGLISH[text]
        assert dict.fromkeys(terms, weight) | others == vector(text)

    def test_length(self) -> None:
        """The length of a document counts its words and characters, and leaves out the bigrams."""
        assert {float(np.float32(2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / 32))))} == set(vector("员工 office").values())
        assert 4 == len(vector("员工 office"))

    def test_long_text_keeps_its_characters(self) -> None:
        """Of a text with more than 1,000 terms, bigrams are left out before characters."""
        text = "".join(map(chr, range(0x4E00, 0x4E00 + 900)))
        assert 1_000 == len(vector(text))
        assert all(asked(character) <= vector(text).keys() for character in text)

    @given(TEXTS)
    def test_forms(self, text: str) -> None:
        """A text has one vector in all of its canonical forms."""
        assert vector(text) == vector(unicodedata.normalize("NFC", text))
        assert vector(text) == vector(unicodedata.normalize("NFD", text))

    @pytest.mark.parametrize("form", FORMS)
    def test_sentences(self, form: Any) -> None:
        """A sentence of any language has one vector in all forms of Unicode and in every case."""
        for sentence in SENTENCES:
            normal = unicodedata.normalize(form, sentence)
            assert [vector(sentence)] * 3 == [vector(normal), vector(normal.upper()), vector(normal.lower())]

    @given(TEXTS)
    @example("\U00014400\U0002ebe1")
    def test_every_piece_finds_its_text(self, text: str) -> None:
        """A word finds its text, and so does a character and a pair of characters of a script without blanks."""
        terms, cut = vector(text).keys(), RULE.cut(text)
        assert all(asked(word) <= terms for word in cut.words)
        assert all(asked(piece) and asked(piece) <= terms for piece in [*cut.characters, *cut.bigrams])

    @pytest.mark.parametrize("rule", [RULE, FORMER_RULE], ids=["present", "former"])
    @pytest.mark.parametrize(
        "unit",
        [
            *("a", "é", "字", "ก\u0e48", "한", "𠀀", "𑀓𑀸", "😀", "\ud800"),
            *("\u0301\u0323", "\u0e48\u0e38", "\u200d", "\u0640", "_", "A", " ", "\u2014", "\u0344\u0323"),
        ],
        ids=lambda unit: "-".join(f"{ord(character):x}" for character in unit),
    )
    def test_large_texts(self, rule: WordRule, unit: str) -> None:
        """A text of half a million characters is embedded, whatever its shape, in a time that is linear in it."""
        text = f"é{unit * (500_000 // len(unit))}"
        BM25(rule=rule).embed_documents([text])
