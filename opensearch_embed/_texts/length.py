"""How long a text is in tokens, and what to make of one that is longer than its model reads.

The service's tokenizers are not public, so the count is an estimate, or the caller's own counter. The cuts work with
any counter: where one more character does not count less, they are the longest that fit. No I/O, no clock.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from opensearch_embed.errors import InputError

LengthFunction = Callable[[str], int]
"""Counts the tokens of a text."""

MARKS = 2
"""Tokens that a model puts around a text, as BERT's `[CLS]` and `[SEP]`."""

_WORD_PART = re.compile(rb"[A-Za-z](?:(?<![a-z][a-z])(?<![A-Za-z][A-Z])[a-z]{1,4}|(?<=[A-Z])[A-Z]?|[a-z]?)")
_NOT_LETTERS = bytes(byte for byte in range(0x80) if not chr(byte).isalnum() and byte != ord(" "))
_ASCII_SIXTHS = ((6, _NOT_LETTERS), (7, b"0123456789"))
_UTF8_SIXTHS = (  # by the first byte of the character
    *_ASCII_SIXTHS,
    (3, bytes(range(0xD0, 0xD4))),
    (4, bytes([*range(0xC2, 0xD0), *range(0xD4, 0xE0)])),
    (8, b"\xe0\xe1"),
    (6, bytes(range(0xE2, 0xF0))),
    (12, bytes(range(0xF0, 0xF5))),
)

_PARAGRAPH = re.compile(r"\S(?=[^\S\n]*\n[^\S\n]*\n)")
_SENTENCE = re.compile(r"""[.!?…]["'”’)\]]*(?=\s)|[。！？]["”’」』）]*|\S(?=[^\S\n]*\n)""")
_WORD = re.compile(r"\S(?=\s)|[\u2e80-\u9fff\uff00-\uff65]")
_LOOK_AHEAD = 16
"""Characters after a cut that say whether it is a good one."""

_Boundaries = Sequence[tuple[re.Pattern[str], float]]
_WHERE_TO_SPLIT: _Boundaries = ((_PARAGRAPH, 0.3), (_SENTENCE, 0.5), (_WORD, 0.5))
_WHERE_TO_TRUNCATE: _Boundaries = ((_SENTENCE, 0.1), (_WORD, 0.25))
"""What to cut at, best first, and which share of the longest prefix may be given up for it."""


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens a text has: rather too many than too few.

    It is the sum of

    - 2, for the marks that a model puts around a text;
    - in a word of ASCII letters, 1 for the first five and 1 for every two more; 1 for every two capitals in a row, and
      for a capital within a word;
    - 7/6 for a digit; 1 for any other ASCII sign or line end; nothing for a space, but 1 for eight in a row;
    - 1/2 for a Cyrillic letter, 2/3 for any other character of two bytes in UTF-8 (é, Greek, Hebrew, Arabic);
    - 4/3 for one of three bytes below U+2000 (Indic, Thai, Burmese), 1 for any other (Chinese, Japanese, Korean);
    - 2 for one of four bytes (emoji).

    The service's tokenizers are not public, so this was fitted to six that are: Qwen, DeepSeek, o200k, BERT's English
    and Chinese ones (each for its language), and the multilingual SentencePiece model of the demo. English, Chinese,
    code and URLs come out at about 1 to 1.6 times the real count; figures and Indic at up to 3 times, Thai at up to 6.
    Random letters come out up to a tenth too low, and scripts that a tokenizer rarely met in training up to a half: for
    those, pass a `length_function` of your own.
    """
    utf8 = text.encode("utf-8", "surrogatepass")
    weights = _ASCII_SIXTHS if len(utf8) == len(text) else _UTF8_SIXTHS
    sixths = sum(weight * (len(utf8) - len(utf8.translate(None, those))) for weight, those in weights)
    return MARKS + len(_WORD_PART.findall(utf8)) + utf8.count(b" " * 8) + -(-sixths // 6)


def sure_bytes(limit: int) -> int:
    """Return how many bytes of UTF-8 are within the limit, whatever they say: that spares counting most texts.

    No byte adds more than 7/6 to the estimate.
    """
    return 6 * (limit - MARKS) // 7


def truncate(text: str, limit: int, length_function: LengthFunction) -> str:
    """Return the longest prefix within the limit, cut at the end of a sentence or a word if one is near.

    White space in front that alone fills the limit is left out. It takes about 2 log2(len(text)) counts at most.

    Raises:
        InputError: A single character is over the limit.
    """
    tokens = length_function(text)
    if tokens <= limit:
        return text
    end = _reach(text, 0, limit, length_function, width=len(text) * limit // tokens, slack=1)
    piece = text[: _cut(text, 0, end, limit, length_function, _WHERE_TO_TRUNCATE)]
    if piece.isspace() and not text.isspace():
        return truncate(text.lstrip(), limit, length_function)
    return piece


def split(text: str, limit: int, length_function: LengthFunction) -> list[str]:
    """Return consecutive pieces within the limit, cut at the end of a paragraph, a sentence, a word or a character.

    Together they are the text. White space goes with a neighbour, since the service might refuse it on its own; left
    out is what does not fit there: at the very end, or a run that fills the limit. It takes about five counts a piece.

    Raises:
        InputError: A single character is over the limit.
    """
    tokens = length_function(text)
    if tokens <= limit:
        return [text] if text else []
    pieces: list[str] = []
    start, stop = 0, len(text.rstrip())
    width = len(text) * limit // tokens
    while True:
        end = _reach(text, start, limit, length_function, width=width, slack=max(1, width // 32))
        cut = _cut(text, start, end, limit, length_function, _WHERE_TO_SPLIT)
        if cut >= stop:
            return [*pieces, text[start:end]]
        piece = text[start:cut]
        if not piece.isspace():
            pieces.append(piece)
        start, width = cut, end - start


def average(vectors: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """Return the weighted mean of the pieces' vectors, as long as the model's own vectors are.

    That is 1 if all of them have unit length (within 1e-3), else the weighted mean of their lengths. Pieces that weigh
    nothing altogether count alike. Where they cancel each other out, the heaviest speaks for all.
    """
    import numpy as np

    if len(vectors) == 1:
        return list(map(float, vectors[0]))
    matrix = np.asarray(vectors, dtype=np.float64)
    shares = np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(matrix), 1 / len(matrix))
    lengths = np.linalg.norm(matrix, axis=1)
    wanted = 1.0 if np.all(np.abs(lengths - 1) <= 1e-3) else float(shares @ lengths)
    mean = shares @ matrix
    length = float(np.linalg.norm(mean))
    if length <= 1e-9 * wanted:
        return list(map(float, vectors[int(shares.argmax())]))
    result: list[float] = (mean * (wanted / length)).tolist()
    return result


def _reach(text: str, start: int, limit: int, count: LengthFunction, *, width: int, slack: int) -> int:
    """Return where the longest piece from `start` ends that fits, or up to `slack` characters before.

    The search starts `width` characters on, takes growing steps until it has an end that fits and one that does not,
    and then bisects.
    """
    fits, over = start, len(text) + 1
    step = max(1, width // 32)
    end = min(start + max(1, width), len(text))
    while fits < len(text) and (over > len(text) or fits == start or over - fits > slack):
        tokens = count(text[start:end])
        if tokens <= limit:
            fits = end
        elif end == start + 1:
            raise InputError(
                f"A single character, U+{ord(text[start]):04X}, counts {tokens} tokens: more than the limit of "
                f"{limit}, so no part of the text fits. Is length_function right?"
            )
        else:
            over = end
        if over > len(text):
            end = min(fits + step, len(text))
        elif fits == start:
            end = max(over - step, start + 1)
        else:
            end = (fits + over) // 2
        step *= 2
    return fits


def _cut(text: str, start: int, end: int, limit: int, count: LengthFunction, boundaries: _Boundaries) -> int:
    """Return the best place to cut, at or before `end`, if the piece to there fits as well; else `end`."""
    if end == len(text):
        return end
    for pattern, share in boundaries:
        first = max(start, end - int((end - start) * share) - 1)
        places = (match.end() for match in pattern.finditer(text, first, end + _LOOK_AHEAD))
        cut = max((place for place in places if place <= end and not _is_joined(text, place)), default=start)
        if cut > start and count(text[start:cut]) <= limit:
            return cut
    cut = end
    while cut > start and _is_joined(text, cut):
        cut -= 1
    piece = text[start:cut]
    return cut if piece.strip() and count(piece) <= limit else end


def _is_joined(text: str, index: int) -> bool:
    """Tell whether the character at `index` is drawn as one with that before it: accents, skin tones, joined emoji."""
    char = text[index]
    is_mark = char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff" or unicodedata.category(char)[0] == "M"
    return is_mark or text[index - 1] == "\u200d"
