"""Where the service is and who calls it: explicit argument first, then the environment, then the default.

This is the only file that reads the environment. It opens no connection.
"""

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opensearch_embed._api_key import checked
from opensearch_embed._endpoint import checked_endpoint
from opensearch_embed._endpoint import is_loopback as is_loopback
from opensearch_embed._proxy import goes_around, is_usable, secrets_of
from opensearch_embed._secret import Secret, SecretString, hidden
from opensearch_embed.errors import ConfigurationError
from opensearch_embed.models import DEFAULT_MODEL, ModelSpec, find_model

if TYPE_CHECKING:
    import ssl

EMULATOR_HINT = "With no account at hand, run the emulator: opensearch-embed emulator"

VARIABLES = {
    "api_key": ("AISEARCH_API_KEY", "OPENSEARCH_API_KEY"),
    "endpoint": ("AISEARCH_ENDPOINT", "OPENSEARCH_ENDPOINT"),
    "workspace": ("AISEARCH_WORKSPACE", "OPENSEARCH_WORKSPACE"),
    "model": ("AISEARCH_MODEL", "OPENSEARCH_MODEL"),
}
"""Where each setting is looked for. The first names mean this service alone; the others, often enough, a cluster."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that says which service is called, and how it is reached.

    Attributes:
        endpoint: Scheme and host, such as `https://default-abc.platform-cn-shanghai.opensearch.aliyuncs.com`.
        api_key: The key; it does not print.
        workspace: The workspace that the key is valid for.
        model: The model, with its dimension.
        proxy: URL of the proxy, or `None`. May hold a password, so it does not print.
        ca_bundle: File of certificates to trust; `None` means certifi's.
        allow_http: Whether a plain http endpoint that is not on this machine is allowed.
        ca_source: Who named `ca_bundle`: the argument, or a variable.
        key_source: Who named `api_key`, in words.
    """

    endpoint: str
    api_key: Secret
    workspace: str
    model: ModelSpec
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    allow_http: bool = False
    ca_source: str = field(default="ca_bundle", repr=False, compare=False)
    key_source: str = field(default="api_key (OPENSEARCH_API_KEY)", repr=False, compare=False)

    @property
    def encrypted(self) -> bool:
        """Whether anything on the way is encrypted: to the service, or to the proxy."""
        return self.endpoint.startswith("https:") or (self.proxy or "").startswith("https:")

    @property
    def is_here(self) -> bool:
        """Whether the endpoint is on this machine, as an emulator's is."""
        return is_loopback(urlsplit(self.endpoint).hostname or "")

    @property
    def proxy_secrets(self) -> tuple[str, ...]:
        """What nobody may repeat of the proxy's URL."""
        return tuple(secrets_of(self.proxy or ""))


def resolve_settings(
    *,
    model: str | None = None,
    endpoint: str | None = None,
    api_key: str | SecretString | None = None,
    workspace: str | None = None,
    dimension: int | None = None,
    allow_http: bool = False,
    ca_bundle: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
) -> Settings:
    """Find each setting and check it.

    Raises:
        ConfigurationError: A setting is missing, blank, or makes no sense.
    """
    api_key = hidden(api_key)
    if not isinstance(allow_http, bool):
        raise ConfigurationError(f"allow_http must be True or False, not {allow_http!r}.")
    url = checked_endpoint(
        _find("endpoint", endpoint), allow_http, variable=_variable("endpoint") if endpoint is None else None
    )
    place = _find("workspace", workspace, "default")
    spec = find_model(_find("model", model, DEFAULT_MODEL), dimension)
    for name, part in (("workspace", place), ("model", spec.service_id)):
        if part in (".", ".."):
            raise ConfigurationError(f"{name} must be a name, not {part!r}: in a URL that means another path.")
    way = _proxy(proxy, url)
    encrypted = url.startswith("https:") or (way or "").startswith("https:")
    bundle, source = _ca_bundle(ca_bundle, needed=encrypted)
    return Settings(
        endpoint=url,
        api_key=_api_key(api_key),
        workspace=place,
        model=spec,
        proxy=way,
        ca_bundle=bundle,
        allow_http=allow_http,
        ca_source=source,
        key_source="api_key (OPENSEARCH_API_KEY)" if api_key is not None else _told("api_key"),
    )


def going_first() -> list[str]:
    """Return the variables of key and endpoint that are set, and go before those of the names `OPENSEARCH_...`."""
    return [name for name in (VARIABLES["endpoint"][0], VARIABLES["api_key"][0]) if os.environ.get(name, "").strip()]


def environment_is_set() -> bool:
    """Tell whether the environment names both a key and an endpoint, so that no argument is needed."""
    return all(os.environ.get(_variable(argument), "").strip() for argument in ("api_key", "endpoint"))


def _variable(argument: str) -> str:
    """Return the variable that counts: the first that says something, or else the first that is set."""
    *first, last = VARIABLES[argument]
    said = [name for name in VARIABLES[argument] if os.environ.get(name, "").strip()]
    there = [name for name in VARIABLES[argument] if name in os.environ]
    return (said or there or [last, *first])[0]


def _told(argument: str) -> str:
    """Return the variable that counts, and which one it goes before, if that is set too."""
    variable = _variable(argument)
    others = [name for name in VARIABLES[argument] if name != variable and os.environ.get(name, "").strip()]
    return f"{variable} (which goes before {others[0]})" if others else variable


def _find(argument: str, value: str | None, default: str | None = None) -> str:
    variable, source = _variable(argument), argument
    if value is None:
        value, source = os.environ.get(variable), variable
    value = _unquoted(value)
    if value is None or (default is not None and source == variable and not value.strip()):
        value = default
    advice = f"pass {argument}=... or set the environment variable {' or '.join(reversed(VARIABLES[argument]))}"
    if value is None:
        raise ConfigurationError(f"No {argument}: {advice}. {EMULATOR_HINT}")
    if not isinstance(value, str):
        raise ConfigurationError(f"{argument} must be a str, not {type(value).__name__}.")
    if not value.strip():
        raise ConfigurationError(f"{source} is blank: {advice}. {EMULATOR_HINT}")
    return value.strip()


def _unquoted(value: str | None) -> str | None:
    """Take off the quotes that `docker run --env-file` leaves around a value, and those that were pasted with it."""
    found = re.fullmatch(r"""\s*(["'])(.*)\1\s*""", value, re.DOTALL) if isinstance(value, str) else None
    return found[2] if found else value


def _api_key(given: SecretString | None) -> Secret:
    """Find the key. It is never a local variable by itself, since tracebacks can show those."""
    if given is not None and not isinstance(given.get_secret_value(), str):
        raise ConfigurationError(f"api_key must be a str, not {type(given.get_secret_value()).__name__}.")
    key = checked(Secret(_find("api_key", None if given is None else given.get_secret_value())))
    # Without its wrapping it may be blank.
    return Secret(_find("api_key", key.get_secret_value()))


def _proxy(proxy: str | None, url: str) -> str | None:
    """Return the proxy to use; the environment is read by the rules that every HTTP library follows.

    What the environment names for all programs may be of no use here (`ALL_PROXY=socks5://...`): then it is kept as it
    is, for the call that needs it to complain of. This machine is reached without it.
    """
    if proxy is None:
        # Heavy for an import of this package, and needed only when a client is made.
        import urllib.request

        parts = urlsplit(url)
        host = parts.hostname or ""
        proxies = urllib.request.getproxies()
        found = (proxies.get(parts.scheme) or proxies.get("all") or "").strip()
        around = goes_around(proxies.get("no", ""), host, parts.port or (443 if parts.scheme == "https" else 80))
        if not found or around or urllib.request.proxy_bypass(parts.netloc):
            return None
        found = found if "://" in found else f"http://{found}"
        return found if is_usable(found) or not is_loopback(host) else None
    if not isinstance(proxy, str):
        raise ConfigurationError(f"proxy must be a URL, not {type(proxy).__name__}.")
    if not proxy.strip():
        return None
    found = proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"
    if not is_usable(found):
        raise ConfigurationError("proxy must be an http or https URL, such as http://proxy.example:3128.")
    return found


CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""What requests and OpenSSL read from the environment."""


def _ca_bundle(ca_bundle: str | os.PathLike[str] | None, *, needed: bool) -> tuple[str | None, str]:
    """Return the file of trusted certificates, and who named it: the argument; the environment where one is needed."""
    source = "ca_bundle"
    if ca_bundle is None:
        source = next((name for name in CA_VARIABLES if os.environ.get(name)), "") if needed else ""
        if not source:
            return None, "ca_bundle"
        ca_bundle = os.environ[source]
    if not isinstance(ca_bundle, (str, os.PathLike)):
        raise ConfigurationError(f"ca_bundle must be the path of a file, not {type(ca_bundle).__name__}.")
    path = os.fspath(ca_bundle)
    if not os.path.exists(path):
        raise ConfigurationError(f"{source} {path!r} does not exist: it names a file of certificates in PEM form.")
    return path, source


def trusting(ca_bundle: str | None, source: str = "ca_bundle") -> "ssl.SSLContext":
    """Return a context that trusts the certificates of one file or folder; certifi's if none is named."""
    # Heavy for an import of this package, and needed only where something is encrypted.
    import ssl

    if ca_bundle is None:
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    folder = os.path.isdir(ca_bundle)
    try:
        return ssl.create_default_context(cafile=None if folder else ca_bundle, capath=ca_bundle if folder else None)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{source} {ca_bundle!r} holds no certificates in PEM form: {error}.") from error
