"""TLS with a service: what is trusted, and the client's own certificate."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from runner.config import ServiceConfig
from runner.errors import ConfigError


def tls_context(service: ServiceConfig) -> ssl.SSLContext | bool:
    """Return the settings of TLS; True stands for aiohttp's own, which honour SSL_CERT_FILE.

    Raises:
        ConfigError: a file cannot be used.
    """
    if service.ca_file is None and service.client_cert is None:
        return True
    context = ssl.create_default_context()
    if service.ca_file is not None:
        try:
            context.load_verify_locations(service.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"service.ca_file: {service.ca_file}: not readable as certificates ({error})") from error
    if service.client_cert is not None:
        _load_client_certificate(context, service.client_cert, service.client_key)
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    asked_for_password = False

    def no_password() -> str:  # without it, OpenSSL would ask on the terminal
        nonlocal asked_for_password
        asked_for_password = True
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        name, path = ("client_cert", certificate) if key is None else ("client_key", key)
        if asked_for_password:
            raise ConfigError(
                f"service.{name}: {path}: the key has a password, which is not supported; "
                f"write it without one: openssl pkey -in {path.name} -out plain.pem"
            ) from None
        raise ConfigError(
            f"service.client_cert: {certificate}: not readable as a certificate and its key in PEM form ({error})"
            + ("; if the key is in a file of its own, set 'client_key'" if key is None else f"; the key is {key}")
        ) from error
    except OSError as error:
        missing = certificate if key is None or not certificate.exists() else key
        name = "client_key" if missing is key else "client_cert"
        raise ConfigError(f"service.{name}: {missing}: {os.strerror(error.errno or 0)}") from error
