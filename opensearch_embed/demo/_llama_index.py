"""The demo in LlamaIndex's words: an ingestion pipeline, a vector index, its retriever."""

from contextlib import closing
from dataclasses import asdict

from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed.demo._findings import HITS_PER_QUESTION, MAX_ATTEMPTS, Answer, Connection, Findings, Hit
from opensearch_embed.demo.corpus import Document, Question

TITLE = "LlamaIndex: OpenSearchEmbedding, IngestionPipeline, VectorStoreIndex"


def answer_questions(documents: list[Document], questions: list[Question], connection: Connection) -> Findings:
    """Store the documents, ask the questions.

    Raises:
        OpenSearchEmbedError: The documents or a question got no vector.
    """
    with closing(OpenSearchEmbedding(**asdict(connection), max_attempts=MAX_ATTEMPTS)) as embedding:
        pipeline = IngestionPipeline(transformations=[embedding])
        # The pipeline's bar counts transformations: it does not pass `show_progress` on to the embedding.
        nodes = pipeline.run(
            nodes=[TextNode(id_=document.id, text=document.text) for document in documents], show_progress=True
        )
        # Without transformations of its own the index would build a sentence splitter that nothing here needs.
        index = VectorStoreIndex(list(nodes), embed_model=embedding, transformations=[embedding])
        retriever = index.as_retriever(similarity_top_k=HITS_PER_QUESTION)
        answers = [
            Answer(question, [Hit(hit.node_id, hit.get_score()) for hit in retriever.retrieve(question.text)])
            for question in questions
        ]
        return Findings(answers, embedding.usage)
