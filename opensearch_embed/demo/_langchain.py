"""The demo in LangChain's words: embeddings, an in-memory vector store, a retriever."""

from contextlib import closing
from dataclasses import asdict

from langchain_core.documents import Document as LangChainDocument
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_opensearch_embed import OpenSearchEmbeddings
from opensearch_embed.demo._findings import HITS_PER_QUESTION, MAX_ATTEMPTS, Answer, Connection, Findings, Hit
from opensearch_embed.demo.corpus import Document, Question

TITLE = "LangChain: OpenSearchEmbeddings, InMemoryVectorStore, a retriever"


def answer_questions(documents: list[Document], questions: list[Question], connection: Connection) -> Findings:
    """Store the documents, ask the questions.

    Raises:
        OpenSearchEmbedError: The documents or a question got no vector.
    """
    with closing(
        OpenSearchEmbeddings(**asdict(connection), max_attempts=MAX_ATTEMPTS, show_progress_bar=True)
    ) as embeddings:
        store = InMemoryVectorStore(embeddings)
        store.add_documents([LangChainDocument(document.text, id=document.id) for document in documents])

        def retrieve(question: str) -> list[Hit]:
            found = store.similarity_search_with_score(question, k=HITS_PER_QUESTION)
            return [Hit(document.id or "", score) for document, score in found]

        # LangChain's own recipe for a retriever that keeps the scores, which `store.as_retriever()` drops.
        retriever = RunnableLambda(retrieve)
        answers = [Answer(question, retriever.invoke(question.text)) for question in questions]
        return Findings(answers, embeddings.usage)
