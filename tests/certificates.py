"""Certificates for servers of tests, made on the spot."""

import datetime
import ssl
from pathlib import Path

import trustme


class Authority:
    """A certificate authority that nobody trusts but who is given its `bundle`."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        path = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(path))
        self.bundle = str(path)

    def tls(self, *names: str, **validity: datetime.datetime) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names or addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, **validity).configure_cert(context)
        return context

    def files(self, folder: Path, *names: str) -> tuple[str, str]:
        """Write a certificate for these names or addresses, and its key; return their paths."""
        issued = self._authority.issue_cert(*names)
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)
