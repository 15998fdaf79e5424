"""A local server that speaks the service's text-embedding API, for tests, examples and work without a key.

It checks what the service's documentation asks of a request and answers breaches as documented; it can be told to fail,
to break off, and to be slow. Its vectors are not the service's: they are made here, from words or by a small public
model, and only good for comparing with each other.

    from opensearch_embed.emulator import Emulator

    with Emulator(vectors="lexical") as emulator:
        client = EmbeddingClient(endpoint=emulator.url, api_key=emulator.api_key)
        emulator.fail_next(429, retry_after=0.2)
        vectors = client.embed(["tea", "茶"])
        assert vectors[0] == emulator.vector("tea")

Of this project it imports the catalogue alone: a server that shared the client's encoder would share its mistakes.
"""

from opensearch_embed.emulator.journal import Record, Usage
from opensearch_embed.emulator.server import NOTICE, Emulator

__all__ = ["NOTICE", "Emulator", "Record", "Usage"]
