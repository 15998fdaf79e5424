"""Where requests go: what is no endpoint is refused, and so is a way on which the key would travel in clear.

Whether a host is there is not asked: this file opens no connection, and looks no name up.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from opensearch_embed.errors import ConfigurationError

CLUSTER_PORTS = (9200, 9300, 9600)
CLUSTER_HOSTS = re.compile(r"\.(?:es|aoss)\.amazonaws\.com(?:\.cn)?$|\.(?:aos|aoss)\.[\w-]+\.on\.aws$")
SERVICE_HOSTS = re.compile(r"(?:^|\.)opensearch\.aliyuncs\.com$")


def checked_endpoint(value: str, allow_http: bool, *, variable: str | None = None) -> str:
    """Return scheme and host of an endpoint, which a variable may have named.

    Raises:
        ConfigurationError: It is none, is plain http to another machine, or another thing that the variable names.
    """
    named = f"endpoint ({variable or 'OPENSEARCH_ENDPOINT'})"
    url = value if "://" in value else f"https://{value}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise ConfigurationError(f"{named} is not a URL: {error}.") from error
    if variable and _is_cluster(host or "", port):
        raise ConfigurationError(
            f"{variable} names a cluster of opensearch.org ({host}{f':{port}' if port else ''}), which is "
            "another thing: the key is not sent there. Set AISEARCH_ENDPOINT, or pass endpoint=..., with the host of "
            "your AI Search API, such as default-abc.platform-cn-shanghai.opensearch.aliyuncs.com."
        )
    scheme = parts.scheme.lower()
    if scheme not in ("https", "http") or not host or any(char.isspace() for char in url):
        raise ConfigurationError(f"{named} must be a host name, or a URL with https.")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{named} must not hold a user or password: the key is api_key.")
    if not _is_host(host) or port == 0:
        raise ConfigurationError(f"{named} holds a character that no host name has, or port 0.")
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise ConfigurationError(f"{named} must be the host alone, without a path: the client adds the API's own.")
    if scheme == "http" and not allow_http and not is_loopback(host):
        raise ConfigurationError(
            f"endpoint {scheme}://{parts.netloc} is plain http: the key would travel in clear. "
            "Use https, or say allow_http=True if the network between is trusted."
        )
    return f"{scheme}://{parts.netloc}"


def _is_cluster(host: str, port: int | None) -> bool:
    """Tell whether this is where opensearch.org's search engine is served, which reads the same variable."""
    if SERVICE_HOSTS.search(host):
        return False
    return port in CLUSTER_PORTS or CLUSTER_HOSTS.search(host) is not None


def _is_host(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return re.fullmatch(r"[\w.-]+", host) is not None


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
