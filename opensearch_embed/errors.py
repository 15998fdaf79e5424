"""The errors, each named after whose fault it is and what to do about it.

OpenSearchEmbedError                 .completed, .pending
  ConfigurationError (ValueError)    key, endpoint, model, option
  InputError (ValueError)            a text cannot be sent; .index
  TransportError                     no answer came back
    ConnectFailed, TimedOut
  ApiError                           the service said no; .status .code .message .request_id
    AuthenticationError              401, 403
    InvalidRequest                   400, 404, 413 and every other 4xx; but 408, 421, 425 and 499 are ServiceUnavailable
    RateLimited                      429; .retry_after
    QuotaExhausted                   429 that will not clear: the free quota
    ServiceUnavailable               5xx
  ResponseError                      the service said yes, but the answer cannot be used; .request_id

Every error can be pickled (worker pools do that), so each class can be made from its message alone.
"""

from typing import Any


class OpenSearchEmbedError(Exception):
    """Base of every error of this package.

    Attributes:
        completed: Vectors that were received before the error, by index of their text in the call's input.
        pending: Indices of the texts that have no vector yet. With `completed`, exactly the input.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.completed: dict[int, Any] = {}
        self.pending: list[int] = []


class ConfigurationError(OpenSearchEmbedError, ValueError):
    """A setting is missing or makes no sense: key, endpoint, model, or an option."""


class InputError(OpenSearchEmbedError, ValueError):
    """A text cannot be sent.

    Attributes:
        index: Position of the text in the call's input; `None` where the input as a whole is wrong.
    """

    def __init__(self, message: str = "", *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class TransportError(OpenSearchEmbedError):
    """No answer came back, so it is not known whether the service did the work.

    Attributes:
        permanent: Whether trying again is pointless, as with a certificate that is not trusted. Not retried then.
    """

    permanent = False


class ConnectFailed(TransportError):
    """No connection could be made: name look-up, refusal, TLS, or proxy."""


class TimedOut(TransportError):
    """The answer was not complete within `timeout` seconds."""


class ApiError(OpenSearchEmbedError):
    """The service said no.

    Attributes:
        status: HTTP status.
        code: The service's error code, such as `InvalidParameter`; `None` where the body has none.
        message: The service's words, or the first part of a body that is not the service's; cut, and without secrets.
        request_id: The service's name for the request: quote it in a support ticket.
        retry_after: Seconds that the service asks to wait; `None` where it does not.
        indices: The texts that the service refused: those of the request, or, where they were isolated, they alone.
        is_page: Whether a web page came, as firewalls and gateways send: then the service itself may have said nothing.
    """

    def __init__(
        self,
        text: str = "",
        *,
        status: int = 0,
        code: str | None = None,
        message: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        self.indices: list[int] = []
        self.is_page = False


class AuthenticationError(ApiError):
    """401 or 403: the key is wrong, or not valid for this workspace."""


class InvalidRequest(ApiError):
    """400, 404, 413 or another 4xx: the same request would be refused again."""


class RateLimited(ApiError):
    """429: too many requests now. Retried until `retry_timeout`."""


class QuotaExhausted(ApiError):
    """429 that will not clear: the free quota is used up and billing is not switched on."""


class ServiceUnavailable(ApiError):
    """5xx, and 408, 421, 425, 499: the fault is not the request's. Retried."""


class ResponseError(OpenSearchEmbedError):
    """The service said yes, but its answer cannot be used: cut, garbled, incomplete, or not numbers.

    Attributes:
        request_id: The service's name for the request, where the answer has one.
    """

    def __init__(self, message: str = "", *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
