"""A delegate: the driver by which a runtime reaches an accelerator, as a shared library. Values.

Theory: an external delegate exports `tflite_plugin_create_delegate` and claims those
nodes of a graph that its hardware can do; the rest stays on the CPU. That one loads
proves nothing: it may find no device, claim no node, or answer wrongly. It is a
vendor's program, so it is only ever loaded in a child.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """How an accelerator is reached.

    `accelerator` is the word that cards require. `library` is a path, or a name that the dynamic
    linker finds. `devices` are what the driver opens for writing: device nodes, or folders of them.
    """

    accelerator: str
    library: str
    options: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.accelerator.replace("-", "").isalnum() or self.accelerator == "cpu":
            raise ValueError(f"{self.accelerator!r} is no name of an accelerator, like edgetpu")
        if not self.library:
            raise ValueError(f"{self.accelerator} has no library")

    def to_json(self) -> dict[str, object]:
        """Return what goes to a child."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Delegate":
        """Return the delegate that came to a child."""
        return cls(
            accelerator=fields["accelerator"],
            library=fields["library"],
            options=tuple((key, value) for key, value in fields["options"]),
            devices=tuple(fields["devices"]),
        )


KNOWN = (
    Delegate(
        accelerator="edgetpu",
        library="libedgetpu.so.1",
        devices=("/dev/apex_0", "/dev/bus/usb"),
    ),
    Delegate(
        accelerator="vx",
        library="libvx_delegate.so",
        devices=("/dev/galcore",),
    ),
    Delegate(
        accelerator="ethos-u",
        library="libethosu_delegate.so",
        devices=("/dev/ethosu0",),
    ),
    Delegate(
        accelerator="teflon",
        library="libteflon.so",
        devices=("/dev/dri", "/dev/accel"),
    ),
)
"""Where vendors install theirs (Coral, NXP i.MX 8M Plus and 93, Mesa); tried at each start."""


def parse(text: str) -> Delegate:
    """Read `NAME=LIBRARY[,key=value…]`; the key `device` names a device node, all else an option.

    Raises:
        ValueError: it is not that.
    """
    accelerator, equals, rest = text.partition("=")
    library, *given = rest.split(",")
    pairs = [each.partition("=") for each in given]
    if not equals or not all(key and between for key, between, _ in pairs):
        raise ValueError(f"{text!r} is not NAME=LIBRARY[,key=value…]")
    return Delegate(
        accelerator=accelerator,
        library=library,
        options=tuple((key, value) for key, _, value in pairs if key != "device"),
        devices=tuple(value for key, _, value in pairs if key == "device"),
    )
