"""A demonstration that needs no account: forty documents, ten questions, both frameworks.

`run` is what `opensearch-embed demo` calls. Importing this package loads no framework: `_langchain` and `_llama_index`
alone know theirs, and are imported when the demo runs.
"""

from opensearch_embed.demo._run import run
from opensearch_embed.demo.corpus import Document, Question, load_corpus, load_questions

__all__ = ["Document", "Question", "load_corpus", "load_questions", "run"]
