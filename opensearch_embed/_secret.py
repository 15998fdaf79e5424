"""A key that does not print itself: not in a repr, and so not in a traceback that shows local variables."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class SecretString(Protocol):
    """What pydantic's `SecretStr` is: a string that does not print itself."""

    def get_secret_value(self) -> str:
        """Return the string."""
        ...


class Secret:
    """A string that does not print itself. Pickling keeps it: a worker process needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """Return the string."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def hidden(api_key: object) -> SecretString | None:
    """Wrap a key, so that no frame shows it from here on, should a debugger print one."""
    return api_key if api_key is None or isinstance(api_key, SecretString) else Secret(api_key)  # type: ignore[arg-type]
