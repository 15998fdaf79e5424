"""Large answers: simdjson reads them where it can, and says nothing of them that orjson would not say."""

import json
import random
import types
from array import array
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensearch_embed import EmbeddingClient
from opensearch_embed._wire import large
from opensearch_embed._wire.large import LARGE_BYTES, Unusual, read_large
from opensearch_embed.emulator import Emulator

FILLER = '"filler": "' + "x" * LARGE_BYTES + '"'


def whole(content: Any) -> Any:
    """What was read, with lists for buffers."""
    if isinstance(content, memoryview):
        return content.tolist()
    if isinstance(content, dict):
        return {name: whole(value) for name, value in content.items()}
    return [whole(item) for item in content] if isinstance(content, list) else content


def test_arrays_of_numbers_come_as_doubles() -> None:
    """All else comes as it is."""
    body = '{"a": [1.5, -2, 18446744073709551615], "b": {"c": [], "d": null, "e": [{"f": true}]}, ' + FILLER + "}"
    found = read_large(body.encode())
    assert found["a"].format == "d"
    del found["filler"]
    assert whole(found) == {"a": [1.5, -2.0, 18446744073709551616.0], "b": {"c": [], "d": None, "e": [{"f": True}]}}


UNUSUAL = {
    "small": '{"a": [1.0]}',
    "arrays in arrays of numbers": f'{{"a": [1.0, [2.0], 3.0], {FILLER}}}',
    "an array of one in an array": f'{{"a": [1.0, [2.0]], {FILLER}}}',
    "a truth among numbers": f'{{"a": [1.0, true], {FILLER}}}',
    "nothing among numbers": f'{{"a": [1, null], {FILLER}}}',
    "words among numbers": f'{{"a": [1.0, "2.0"], {FILLER}}}',
    "one name twice": f'{{"a": [1.0], "a": [2.0], {FILLER}}}',
    "one name twice, escaped": f'{{"a": [1.0], "\\u0061": [2.0], {FILLER}}}',
    "one name twice, further down": f'{{"b": [{{"a": 1, "a": 2}}], {FILLER}}}',
    "a name that ends in NUL": f'{{"a\\u0000": [1.0], "a": [2.0], {FILLER}}}',
    "a name with NUL alone": f'{{"a\\u0000": [1.0], {FILLER}}}',
    "names that would take for ever": "{" + ",".join(f'"{number}": 0' for number in range(50_000)) + "}",
    "objects a thousand deep": '{"a":' * 1000 + "{" + FILLER + "}" * 1001,
    "a mark before it": f'\ufeff{{"a": [1.0], {FILLER}}}',
    "a bracket in words": f'{{"a": [1.0], "b": "[", {FILLER}}}',
    "a number past all floats": f'{{"a": [1e400], {FILLER}}}',
    "a whole number of 400 digits": f'{{"a": [1{"0" * 400}], {FILLER}}}',
    "NaN": f'{{"a": [NaN], {FILLER}}}',
    "half a surrogate": f'{{"a": "\\ud800", {FILLER}}}',
    "cut short": f'{{"a": [1.0, {FILLER}}}',
    "more than one": f'{{"a": [1.0], {FILLER}}} {{}}',
    "no bytes": " " * LARGE_BYTES,
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_what_two_readers_could_understand_differently_is_left_to_one(body: str) -> None:
    """Nothing is understood of it here; and what comes next is read as if nothing had been."""
    with pytest.raises(Unusual):
        read_large(body.encode())
    with pytest.raises(Unusual):
        read_large(b"\xff" + body.encode())
    assert read_large(f'{{"a": [0.5], {FILLER}}}'.encode())["a"].tolist() == [0.5]


finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | finite | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(finite, max_size=6)
        | st.dictionaries(st.sampled_from(["index", "embedding", "result", "a", "a\0"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(json_values)
def test_what_is_read_is_what_orjson_reads(value: Any) -> None:
    """Whatever is understood, and not left to orjson, is the same, but that whole numbers in arrays are floats."""
    body = json.dumps({"value": value, "filler": "x" * LARGE_BYTES}, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    try:
        found = whole(read_large(body))
    except Unusual:
        return
    assert found == orjson.loads(body)


def test_numbers_are_the_same_to_the_last_bit() -> None:
    """Both find the nearest double, however a number is written."""
    random.seed(8)
    numbers = [random.uniform(-1, 1) * 10.0 ** random.randint(-320, 300) for _ in range(3000)]
    forms = [random.choice((repr, "{:.25e}".format, "{:.6E}".format, "{:.17e}".format))(number) for number in numbers]
    body = f'{{"a": [{", ".join(forms)}]}}'.encode()
    assert read_large(body)["a"].tobytes() == array("d", orjson.loads(body)["a"]).tobytes()


def test_without_simdjson_all_is_read_by_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same vectors, to the last bit."""

    def absent(name: str) -> Any:
        raise ImportError(name)

    texts = [f"text {number}" for number in range(40)]
    with Emulator() as emulator, EmbeddingClient(endpoint=emulator.url, api_key=emulator.api_key) as client:
        rows, lists = client.embed_array(texts), client.embed(texts)
        monkeypatch.setattr(large, "_simdjson", large._simdjson.__wrapped__)
        monkeypatch.setattr(large, "load", absent)
        assert client.embed_array(texts).tobytes() == rows.tobytes()
        assert client.embed(texts) == lists


def raising(_: str) -> Any:
    """Say what simdjson says where its other half cannot be loaded."""
    raise RuntimeError("Unable to import low-level simdjson bindings.")


@pytest.mark.parametrize("loading", [raising, lambda _: types.ModuleType("simdjson")])
def test_what_only_goes_by_its_name_is_not_used(monkeypatch: pytest.MonkeyPatch, loading: Any) -> None:
    """A broken installation, or a folder of that name, costs no answer."""
    monkeypatch.setattr(large, "_simdjson", large._simdjson.__wrapped__)
    monkeypatch.setattr(large, "load", loading)
    with pytest.raises(Unusual):
        read_large(f'{{"a": [0.5], {FILLER}}}'.encode())


def test_a_reader_that_was_left_in_the_middle_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come between any two lines, and keep what was read so far alive in its traceback."""
    good = f'{{"a": [0.5], {FILLER}}}'.encode()
    read_large(good)
    before = list(large._idle)
    assert before

    class Interrupted(large._Reading):
        def plain(self, value: Any) -> Any:
            self.kept = value
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(large, "_Reading", Interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            read_large(good)
    assert len(large._idle) == len(before) - 1
    assert read_large(good)["a"].tolist() == [0.5]
    del caught
