"""OpenTelemetry, if it is installed: its tracer, and its histograms as the conventions want them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from opensearch_embed._loading import load

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4**power for power in range(14)]
"""The bucket boundaries that the conventions advise."""


class Instruments:
    """The tracer and the histograms of the providers that are set; of others, once others are."""

    def __init__(self, api: "Api", providers: tuple[Any, Any]) -> None:
        self.api = api
        self.providers = providers
        tracing, metering = providers
        version = load("importlib.metadata").version("opensearch-embed")
        self._tracer = tracing.get_tracer("opensearch_embed", version)
        meter = metering.get_meter("opensearch_embed", version)
        self.seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    def start_span(self, attributes: dict[str, Any]) -> Any:
        name = f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}"
        return self._tracer.start_span(name, kind=self.api.trace.SpanKind.CLIENT, attributes=attributes)

    def within(self, span: Any) -> Any:
        return self.api.trace.set_span_in_context(span)


class Api(NamedTuple):
    trace: Any
    metrics: Any
    context: Any


_api: Api | bool | None = None
_made: Instruments | None = None


def instruments(when_found: Callable[[], object]) -> Instruments | None:
    """Return what is told of a call that begins; `None` without OpenTelemetry, which is looked for once.

    `when_found` is called if it is there, once.
    """
    global _api, _made
    if _api is None:
        try:
            _api = Api(*(load(f"opentelemetry.{name}") for name in Api._fields))
        except Exception:  # noqa: BLE001 - not installed, or not fit for use
            _api = False
        else:
            when_found()
    if not isinstance(_api, Api):
        return None
    providers = (_api.trace.get_tracer_provider(), _api.metrics.get_meter_provider())
    made = _made
    if made is None or made.providers[0] is not providers[0] or made.providers[1] is not providers[1]:
        made = _made = Instruments(_api, providers)
    return made
