"""What all workers of a dataset have spent, summed up by an actor of Ray's that outlives each of them.

It also feeds Ray's metrics, which a Ray with its dashboard (`ray[default]`) gives to Prometheus and Grafana.
"""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opensearch_embed.errors import InputError
from opensearch_embed.ray.extra import load_ray

if TYPE_CHECKING:
    from ray.data import Dataset

LONGEST_WAIT_SECONDS = 5.0
"""How long a worker waits for its news to arrive, should the actor's machine be gone."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals over all workers of a dataset, dead ones too, and over each time that it was run.

    Attributes:
        requests: Requests sent, retries counted.
        retries: How many of them repeated an earlier one.
        texts: Texts, or pieces of long ones, that got a vector from the service; those of a killed worker twice.
        tokens: Tokens, as the service counts them.
        cached: Texts that got their vector from the cache.
        rejected: Rows that have a reason instead of a vector, with `on_error="skip"`.
    """

    requests: int = 0
    retries: int = 0
    texts: int = 0
    tokens: int = 0
    cached: int = 0
    rejected: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(self)))


class Account:
    """A handle on the actor that adds up. It travels to the workers."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def add(self, spent: Totals) -> None:
        """Add to the totals, so that whoever reads them after the job has all; without them, the job goes on."""
        load_ray().wait([self._actor.add.remote(spent)], timeout=LONGEST_WAIT_SECONDS)

    def read(self) -> Totals:
        """Return the totals now."""
        found: Totals = load_ray().get(self._actor.read.remote())
        return found

    def belong_to(self, dataset: "Dataset") -> None:
        """Let `totals` find them."""
        _accounts[dataset] = self


_accounts: "WeakKeyDictionary[Any, Account]" = WeakKeyDictionary()


def totals(dataset: "Dataset") -> Totals:
    """Return what the workers of a dataset have spent so far, while it runs or afterwards.

    Args:
        dataset: What `embed_dataset` returned: that very object, in the process that made it.

    Raises:
        InputError: It is another dataset.
    """
    account = _accounts.get(dataset)
    if account is None:
        raise InputError("totals are of a dataset that embed_dataset returned: pass that very object.")
    return account.read()


def start_totals(model: str) -> Account:
    """Start the actor that adds up."""
    return Account(load_ray().remote(num_cpus=0, max_restarts=-1)(_Adding).remote(model))


class _Adding:
    """The actor."""

    def __init__(self, model: str) -> None:
        from ray.util.metrics import Counter

        self._sum = Totals()
        self._tags = {"model": model}
        self._counters = {
            field.name: Counter(f"opensearch_embed_{field.name}", f"{field.name} of all workers", ("model",))
            for field in fields(Totals)
        }

    def add(self, spent: Totals) -> None:
        self._sum += spent
        for name, amount in asdict(spent).items():
            if amount:
                self._counters[name].inc(amount, self._tags)

    def read(self) -> Totals:
        return self._sum
