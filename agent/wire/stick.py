"""Where things are on a stick that brings a device what the network would. Pure."""


def document_path(device: str) -> str:
    """Return where a device's signed desired document is, from the stick's folder on."""
    return f"desired/{device}.json"
