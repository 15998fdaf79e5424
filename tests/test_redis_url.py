"""`limiter="redis://..."` as a setting: what is refused when it is made, and that its password shows nowhere."""

import copy
import json
import pickle
import subprocess
import sys
import traceback
from typing import Any

import pytest
from pydantic import SecretStr
from pyrate_limiter import Duration, Limiter, Rate

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import ConfigurationError, EmbeddingClient

PLACE = {"endpoint": "https://service.test", "api_key": "OS-x"}
PASSWORD = "p%40ss-w0rd"
SECRETS = (PASSWORD, "p@ss-w0rd")
URL = "redis://redis.test:6380/3"
SECRET_URL = f"rediss://embedder:{PASSWORD}@redis.test:6380/3?ssl_cert_reqs=none"
MASKED_URL = "rediss://embedder:***@redis.test:6380/3?ssl_cert_reqs=none"

INTERFACES = [EmbeddingClient, OpenSearchEmbeddings, OpenSearchEmbedding]

WRONG = {
    "no URL": "redis.test:6379",
    "no host": f"redis://:{PASSWORD}@",
    "nothing": "",
    "another scheme": f"http://:{PASSWORD}@redis.test",
    "a cluster": f"redis+cluster://:{PASSWORD}@redis.test",
    "port": f"redis://:{PASSWORD}@redis.test:port/0",
    "port 0": f"redis://:{PASSWORD}@redis.test:0/0",
    "database": f"redis://:{PASSWORD}@redis.test/first",
    "fragment": f"redis://redis.test/0#{PASSWORD}",
    "space": f"redis://:{PASSWORD} @redis.test/0",
    "a slash in the password": f"redis://:{PASSWORD}/x@redis.test/0",
    "brackets": f"redis://:{PASSWORD}@[redis.test/0",
}


@pytest.mark.parametrize("made", INTERFACES)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_url_is_refused_when_it_is_made(wrong: str, made: Any) -> None:
    """The error says what is right, and shows nothing of what was given."""
    with pytest.raises(ConfigurationError, match=r"redis://host:6379/0.*pyrate_limiter\.Limiter") as caught:
        made(**PLACE, limiter=WRONG[wrong])
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [f"{frame.locals}" for frame in frames if "opensearch_embed" in frame.filename]
    assert not any(secret in f"{caught.value!r} {caught.value.__cause__!r} {ours}" for secret in SECRETS)


@pytest.mark.parametrize("made", INTERFACES)
def test_an_unknown_option_is_refused(made: Any) -> None:
    """Options after the `?` are redis-py's; what it does not know is told at once, without its value."""
    for option in (f"pasword={PASSWORD}", "db=first", "socket_timeout=soon"):
        with pytest.raises(ConfigurationError, match=r"options of this URL.*redis://redis\.test:6380/3") as caught:
            made(**PLACE, limiter=f"{URL}?{option}")
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("made", INTERFACES)
def test_without_a_rate_there_is_nothing_to_share(made: Any) -> None:
    """`qps=None` and a Redis contradict each other."""
    with pytest.raises(ConfigurationError, match="qps=None means no limit") as caught:
        made(**PLACE, qps=None, limiter=SECRET_URL)
    assert MASKED_URL in str(caught.value)


def test_redis_py_is_named_where_it_is_missing() -> None:
    """The error names the extra; and nothing imports redis-py where no Redis is named."""
    code = f"""
import sys
sys.modules["redis"] = None
from opensearch_embed import ConfigurationError, EmbeddingClient
EmbeddingClient(endpoint="https://service.test", api_key="OS-x")
try:
    EmbeddingClient(endpoint="https://service.test", api_key="OS-x", limiter={URL!r})
except ConfigurationError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "opensearch-embed[redis]"' in shown


def shown(thing: Any) -> str:
    """Return what a debugger and a log could show of an object."""
    parts = [repr(thing), str(thing), repr(vars(thing)), repr(getattr(thing, "__pydantic_private__", None))]
    client = getattr(thing, "_client", thing)
    return "\n".join([*parts, repr(vars(client)), repr(client._options)])


@pytest.mark.parametrize("made", INTERFACES)
@pytest.mark.parametrize("url", [SECRET_URL, SecretStr(SECRET_URL)], ids=["str", "SecretStr"])
def test_the_password_is_shown_nowhere_and_travels_in_pickles(made: Any, url: Any) -> None:
    """Not in a repr, nor in what a debugger shows; but copies and pickles have it."""
    thing = made(**PLACE, limiter=url)
    for one in (thing, copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert not any(secret in shown(one) for secret in SECRETS)
        assert getattr(one, "_client", one)._options.limiter == SECRET_URL


def test_what_is_stored_has_the_url_without_the_password() -> None:
    """Serialised, the URL stays, as every setting does; `***` stands for the password, and is refused as one."""
    langchain = OpenSearchEmbeddings(**PLACE, limiter=SECRET_URL)
    llama = OpenSearchEmbedding(**PLACE, limiter=SECRET_URL)
    for stored in (langchain.model_dump(), json.loads(langchain.model_dump_json()), llama.to_dict()):
        assert stored["limiter"] == MASKED_URL
        assert not any(secret in repr(stored) for secret in SECRETS)
    with pytest.raises(ConfigurationError, match=r"stored without its password.*whole URL"):
        OpenSearchEmbedding.from_dict(llama.to_dict() | {"api_key": "OS-x"})
    again = OpenSearchEmbedding.from_dict(llama.to_dict() | {"api_key": "OS-x", "limiter": SECRET_URL})
    assert again.limiter == llama.limiter == SECRET_URL
    masked = OpenSearchEmbedding(**PLACE, limiter=f"{URL}?password={PASSWORD}").to_dict()["limiter"]
    assert masked == f"{URL}?password=***"


def test_a_url_without_a_password_is_stored_as_it_is() -> None:
    """What is made of the stored form shares the quota, as the original does."""
    stored = OpenSearchEmbedding(**PLACE, limiter=URL).to_dict()
    assert stored["limiter"] == URL
    assert OpenSearchEmbedding.from_dict(stored | {"api_key": "OS-x"}).limiter == URL


def test_an_object_is_stored_as_none() -> None:
    """A limiter of the user's own cannot be written down."""
    limiter = Limiter(Rate(5, Duration.SECOND))
    assert OpenSearchEmbedding(**PLACE, limiter=limiter).to_dict()["limiter"] is None
    assert OpenSearchEmbeddings(**PLACE, limiter=limiter).model_dump()["limiter"] is None
