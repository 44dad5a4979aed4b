"""The rules by which the model `"bm25"` cuts a text into words: the present one, and the one before it.

By the present rule a word is a run of letters, combining marks, numbers and `_`, in any script. Scripts that write no
blanks between words (`_IDEOGRAPHS`, `_WITHOUT_BLANKS`) do not show where a word ends, so a run of them gives its
characters, each with its marks, and its bigrams, which are the pairs of neighbouring characters. A text that changes
between the two kinds of script is cut where it changes: `iPhone手机壳` is `iPhone` and a run of three characters, and
`第3章` is a run, a number and a run. Han and Kana are not cut apart, because Japanese writes a word in both. Tibetan
separates its syllables, so each of them is a word.

Equal words have to be equal however they are typed, so these differences are removed:

- Compatible forms (Unicode NFKC): full-width letters, half-width Katakana, ligatures, an accent typed by itself.
- Case, by case folding: `ß` is `ss`, and both small forms of the Greek sigma are one. The `i` with a dot and the one
  without, which Turkish tells apart, are one letter, because the capital `I` does not say which of them it is.
- Digits: those of Arabic, Devanagari, Thai and so on are those of ASCII.
- Characters that cannot be seen and part no words: joiners and non-joiners, soft hyphens, variation selectors. Frames
  around a character, as in a keycap of Emoji, go with them.
- Marks that most writers leave out: the vowel signs and the elongation of Arabic, and the points of Hebrew.

Differences that a reader sees otherwise are kept, such as accents, the forms of Alef, and simplified and traditional
characters. Letters are those of the version of Unicode that Python has, so a letter that is added later is none yet.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, islice, pairwise

__all__ = ["FORMER_RULE", "RULE", "TextPieces", "WordRule"]

_MAX_WORD = 64
"""The number of characters of a word: a longer run is no word, is cut into several, and must not fill a cache."""

_MAX_MARKS = 30
"""The number of marks in a row that are read, as in the stream-safe format of Unicode: sorting n takes n * n steps."""

_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005-\u3007\u3021-\u3029\u3038-\u303b"
_WIDE_IDEOGRAPHS = "\U00020000-\U0003ffff"
"""Han: ranges of a character class that hold nothing else."""

_WITHOUT_BLANKS = (
    (0x0E00, 0x0EFF),  # Thai and Lao
    (0x1000, 0x109F),  # Burmese; its extensions are below
    (0x1100, 0x11FF),  # Hangul: the letters of syllables; words have blanks, but particles are written to them
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3040, 0x31FF),  # Hiragana, Katakana, Bopomofo, letters of Hangul
    (0xA000, 0xA4CF),  # Yi
    (0xA960, 0xA97F),  # Hangul
    (0xA980, 0xA9FF),  # Javanese, Burmese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xAC00, 0xD7FF),  # Hangul
    (0x16FE0, 0x18D8F),  # Tangut, Khitan, Nushu
    (0x1AFF0, 0x1B2FF),  # Kana, Nushu
)
"""The blocks of the other scripts without blanks, from first to last. Their digits are words, as all digits are."""

_UNSEEN = "\u00ad\u034f\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
_FRAMES = "\u20dd-\u20e0\u20e2-\u20e4"
_HEBREW_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
_ARABIC_SIGNS = "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
_ARABIC_SIGNS += "\u08d3-\u08e1\u08e3-\u08ff"  # of the block for further languages
_REMOVED = re.compile(f"[{_UNSEEN}{_FRAMES}{_HEBREW_POINTS}{_ARABIC_SIGNS}]+")

_RUN = re.compile(rf"\w{{1,{_MAX_WORD}}}")
_WIDE = re.compile(r"[\U00010000-\U0010ffff]")
_NO_LETTERS = re.compile(rf"[^\w\x00-\x7f]{{{_MAX_MARKS + 1},}}")  # with too many marks in a row, or with other signs


@dataclass(frozen=True, slots=True)
class TextPieces:
    """The pieces of a text by which it is found, each list in the order of the text.

    Attributes:
        words: The words, as they are written: `WordRule.fold` makes equal ones equal.
        characters: The characters of scripts without blanks, each with its marks.
        bigrams: The pairs of neighbouring characters.
    """

    words: list[str]
    characters: list[str]
    bigrams: list[str]


@dataclass(frozen=True, slots=True)
class WordRule:
    """A rule by which texts are cut into words.

    Attributes:
        cut: Cuts a text into its pieces. It takes any text, in a time that is linear in its length.
        fold: Returns the form of a word that equal words share.
    """

    cut: Callable[[str], TextPieces]
    fold: Callable[[str], str]


def _cut(text: str) -> TextPieces:
    if text.isascii():
        return TextPieces(_RUN.findall(text), [], [])
    text = _normalized(_REMOVED.sub("", _normalized(text)))
    patterns = _patterns(wide=_has_wide_letters(text))
    parts = patterns.run_without_blanks.split(text)
    runs = [patterns.character.findall(run) for run in parts[1::2]]
    return TextPieces(
        words=list(chain.from_iterable(map(patterns.word.findall, parts[::2]))),
        characters=list(chain.from_iterable(runs)),
        bigrams=[one + other for run in runs for one, other in pairwise(run)],
    )


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    # Marks stand alone while case is folded, so that they are ordered alike before and after it.
    folded = unicodedata.normalize("NFKD", word).casefold().replace("i\u0307", "i").replace("\u0131", "i")
    return "".join(map(_ascii_digit, unicodedata.normalize("NFKC", folded)))


def _ascii_digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _cut_formerly(text: str) -> TextPieces:
    return TextPieces(_RUN.findall(_normalized(text)), [], [])


RULE = WordRule(_cut, _fold)
"""The present rule."""

FORMER_RULE = WordRule(_cut_formerly, str.lower)
"""The rule of version 1, for the indexes that were made by it: runs of letters and numbers, without their marks."""


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The expressions whose classes of characters Python has no names for.

    Attributes:
        run_without_blanks: A run of characters of scripts without blanks, as a group.
        character: One character of such a run with its marks.
        word: A word, in a text without such runs. Marks that follow no letter are no word.
    """

    run_without_blanks: re.Pattern[str]
    character: re.Pattern[str]
    word: re.Pattern[str]


@cache
def _patterns(*, wide: bool) -> _Patterns:
    """Make the expressions, once in a process, with the first text that is not ASCII.

    Args:
        wide: Whether they are for a text that `_has_wide_letters`. Classes without those are several times faster.
    """
    last = 0x1FFFF if wide else 0xFFFF  # the marks beyond are variation selectors
    marks = _ranges(_of_category("M", range(0x300, last + 1)))
    blocks = chain.from_iterable(range(first, end + 1) for first, end in _WITHOUT_BLANKS if end <= last)
    letters = _IDEOGRAPHS + (_WIDE_IDEOGRAPHS if wide else "") + _ranges(_of_category("L", blocks))
    return _Patterns(
        run_without_blanks=re.compile(rf"([{letters}][{letters}{marks}]*)"),
        character=re.compile(rf"[{letters}][{marks}]*"),
        word=re.compile(rf"\w[\w{marks}]{{0,{_MAX_WORD - 1}}}"),
    )


def _has_wide_letters(text: str) -> bool:
    """Return whether a text has letters, marks or ideographs beyond the first 65,536 characters."""
    wide = set(_WIDE.findall(text))
    return any(character >= "\U00020000" or unicodedata.category(character)[0] in "LM" for character in wide)


def _normalized(text: str) -> str:
    """Return a text in the form NFKC, with no more than 30 marks in a row, in a time that is linear in its length."""
    return unicodedata.normalize("NFKC", _NO_LETTERS.sub(_with_few_marks, text))


def _with_few_marks(run: re.Match[str]) -> str:
    groups = groupby(run[0], lambda character: unicodedata.category(character)[0] == "M")
    return "".join(chain.from_iterable(islice(group, _MAX_MARKS if marks else None) for marks, group in groups))


def _of_category(initial: str, code_points: Iterable[int]) -> Iterator[int]:
    """Yield the code points whose Unicode category begins with a letter."""
    return (code_point for code_point in code_points if unicodedata.category(chr(code_point))[0] == initial)


def _ranges(code_points: Iterable[int]) -> str:
    """Return ascending code points as the ranges of a character class."""
    runs = (list(run) for _, run in groupby(enumerate(code_points), lambda numbered: numbered[1] - numbered[0]))
    return "".join(f"\\U{run[0][1]:08x}-\\U{run[-1][1]:08x}" for run in runs)
