"""How this device shows who it is, and knows its centre: one TLS context for whoever dials out."""

import ssl

from agent.fetch.job import Credentials


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context that trusts the fleet's CA alone and shows this device's certificate.

    Raises:
        OSError: the files can't be read, or don't belong together (`ssl.SSLError` is one).
    """
    context = ssl.create_default_context(cafile=credentials.ca)
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context
