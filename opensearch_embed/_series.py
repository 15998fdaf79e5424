"""Several lists of texts, one after another, each a call of its own; the next is under way while one is finished.

For frameworks that hand over one list, wait for its vectors, and then hand over the next: without this, no request is
under way while they do.
"""

import threading
from collections.abc import Generator, Iterable

from opensearch_embed._calls import Calls
from opensearch_embed._job import Job, follow
from opensearch_embed._store import Lists

AHEAD = 2
"""Lists that are sent and not yet taken, at most."""


def series(calls: Calls, lists: Iterable[Iterable[str]], input_type: str) -> Generator[list[list[float]], None, None]:
    """Yield the vectors of each list. An error is raised where its vectors would be, and counts in its list."""
    source = iter(lists)
    jobs: list[Job[threading.Event]] = []
    problem: Exception | None = None
    try:
        while True:
            while problem is None and len(jobs) < AHEAD:
                try:
                    jobs.append(_begin(calls, next(source), input_type))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised in its turn
                    problem = error
                else:
                    follow(jobs)
                    calls.start(jobs[-1])
            if jobs:
                vectors: list[list[float]] = calls.finish(jobs[0], jobs[1:])
                del jobs[0]
                yield vectors
            elif problem is not None:
                raise problem
            else:
                return
    except BaseException as error:
        calls.halt(jobs, at_once=not isinstance(error, Exception))
        raise


def _begin(calls: Calls, texts: Iterable[str], input_type: str) -> Job[threading.Event]:
    role, composition = calls.compose(texts, input_type)
    return calls.begin(role, composition, Lists, threading.Event(), calls.recall(role, composition), None)
