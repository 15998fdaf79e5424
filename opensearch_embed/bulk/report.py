"""What a run over a file says of itself: while it goes on, and at its end."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a file. Requests, tokens and seconds are this run's alone; rows are the whole file's.

    Attributes:
        rows: Rows of the input.
        embedded: Rows that have a vector in the output.
        rejected: Rows that could not be embedded.
        requests: Requests sent, retries counted.
        tokens: Tokens, as the service counts them.
        seconds: From the call to the output's being there.
        output: The file that was written.
        rejected_rows: The file that says which rows were rejected, and why; `None` where none were.
        kept: Rows that an earlier run had done, and this one did not send again.
    """

    rows: int
    embedded: int
    rejected: int
    requests: int
    tokens: int
    seconds: float
    output: Path
    rejected_rows: Path | None = None
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        rows: Rows of the input.
        done: Rows that have their vector, or are rejected.
        found: How many of them an earlier run had done.
        tokens: Tokens so far, of this run.
        retries: Requests that repeated an earlier one, of this run.
        seconds: Since this run began.
        rejected: How many of those that are done have no vector.
    """

    rows: int
    done: int
    found: int
    tokens: int
    retries: int
    seconds: float
    rejected: int = 0
