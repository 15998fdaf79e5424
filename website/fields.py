"""Tells the reference what pydantic's fields are for: their `description` is read as if it were a docstring."""

import ast
from typing import Any

from griffe import Attribute, Docstring, ExprCall, ExprKeyword, Extension

MAKERS = ("Field", "resolved")
"""What the adapters make fields with. What `resolved` makes always holds a value in the end, and shows no default."""


class Fields(Extension):
    """Each field gets its description, and its default in place of the call that makes it."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Look at one attribute of a class."""
        made = attr.value
        if not isinstance(made, ExprCall) or str(made.function).rpartition(".")[2] not in MAKERS:
            return
        named = {given.name: given.value for given in made.arguments if isinstance(given, ExprKeyword)}
        plain = [given for given in made.arguments if not isinstance(given, ExprKeyword)]
        description = named.get("description", plain[0] if plain else None)
        if description is not None:
            attr.docstring = Docstring(ast.literal_eval(str(description)), parent=attr)
        attr.value = named.get("default")
        attr.labels.clear()
