"""Whose certificates a receiver's server may show, and in words why one was not taken. Blocking."""

import ssl
from pathlib import Path

from fleet.receivers.configured import ReceiverError, bounded

CA_LIMIT_BYTES = 1 << 20
"""All that a distribution trusts is a quarter of it."""


def trusting(ca: Path | None) -> ssl.SSLContext:
    """Return what checks a server: by the authorities in a file alone, or by this machine's.

    Raises:
        ReceiverError: the file can't be read, or has no certificate.
    """
    if ca is None:
        return ssl.create_default_context()
    try:
        text = bounded(ca, CA_LIMIT_BYTES).decode("ascii", "ignore")  # but for comments
        if not text.strip():  # taken for none, it would mean this machine's
            raise ReceiverError(f"ca: {ca} is empty")
        return ssl.create_default_context(cadata=text)
    except ssl.SSLError as error:
        raise ReceiverError(f"ca: {ca} has no certificate, as PEM") from error
    except OSError as error:
        raise ReceiverError(f"ca: {ca} can't be read: {error.strerror}") from error


def untrusted(error: BaseException | None) -> str:
    """Return why a server's certificate was not taken; empty: something else was wrong."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {error.verify_message};"
                " name the authority that it is of: ca = FILE"
            )
        error = error.__cause__ or error.__context__
    return ""
