"""A stand-in for `alibabacloud_ha3engine_vector`, the SDK of the vendor's vector store, as far as LangChain uses it.

The SDK needs an instance of the store. This one keeps what is pushed, and answers by cosine, in the store's form.
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any


class Client:
    """Holds one table in memory, as it was pushed."""

    made: list["Client"]
    refuses = False

    def __init__(self, config: Any) -> None:
        self.config = config
        self.documents: dict[str, dict[str, Any]] = {}
        self.pushes: list[tuple[str, int]] = []
        self.queries: list[Any] = []
        self.made.append(self)

    def push_documents(self, table: str, key: str, request: Any) -> Any:
        """Keep documents."""
        if self.refuses:
            return SimpleNamespace(body=json.dumps({"status": "ERROR"}))
        self.pushes.append((table, len(request.body)))
        for document in request.body:
            assert document["cmd"] == "add"
            self.documents[document["fields"][key]] = document["fields"]
        return SimpleNamespace(body=json.dumps({"status": "OK"}))

    def query(self, request: Any) -> Any:
        """Return the nearest documents, best first."""
        self.queries.append(request)
        if self.refuses:
            return SimpleNamespace(body=json.dumps({"errorCode": 10001, "errorMsg": "no such table"}))

        def score(fields: dict[str, Any]) -> float:
            vector = [float(number) for number in fields["embedding"].split(",")]
            product = sum(a * b for a, b in zip(vector, request.vector, strict=True))
            return product / math.hypot(*vector) / math.hypot(*request.vector)

        best = sorted(self.documents.values(), key=score, reverse=True)[: request.top_k]
        wanted = request.output_fields
        result = [{"fields": {name: one[name] for name in wanted if name in one}, "score": score(one)} for one in best]
        return SimpleNamespace(body=json.dumps({"result": result}))


def module_of(name: str, **content: Any) -> ModuleType:
    """Return a module that has this in it."""
    module = ModuleType(name)
    vars(module).update(content)
    return module


@contextmanager
def installed() -> Iterator[list[Client]]:
    """Let the stand-in be imported under the SDK's name; yield the clients that are made of it."""
    made: list[Client] = []
    client = module_of("alibabacloud_ha3engine_vector.client", Client=type("Client", (Client,), {"made": made}))
    models = module_of(
        "alibabacloud_ha3engine_vector.models",
        Config=SimpleNamespace,
        QueryRequest=SimpleNamespace,
        PushDocumentsRequest=lambda headers, body: SimpleNamespace(headers=headers, body=body),
    )
    package = module_of("alibabacloud_ha3engine_vector", client=client, models=models)
    # A part that the vendor's SDKs share; LangChain takes its timeouts from it.
    util_models = module_of("alibabacloud_tea_util.models", RuntimeOptions=SimpleNamespace)
    util = module_of("alibabacloud_tea_util", models=util_models)
    modules = {module.__name__: module for module in (package, client, models, util, util_models)}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules |= modules
    try:
        yield made
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
