"""Names of devices: cpu, cuda, cuda:1."""

import torch

from metaformer.core.errors import ConfigError, shown, unknown


def parse_device(device: str, *, setting: str = "device") -> tuple[str, int | None]:
    """The kind of a device and its number, as of `cuda:1`; the number is None where none is said.

    Args:
        device: "auto", or a name as PyTorch has them.
        setting: What the name stands in, for messages.

    Raises:
        ConfigError: There is no such device here.
    """
    kind, colon, number = device.partition(":")
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    known = ["auto", "cpu", *([here.type] if here else [])]
    if kind not in known:
        raise unknown(setting, device, known)
    if colon and not (number.isascii() and number.isdecimal()):
        raise ConfigError(f"{setting} must be as cuda or cuda:1; got {shown(device)}. Try {kind!r}.")
    count = torch.accelerator.device_count() if here and kind == here.type else 1
    if number and not int(number[:9]) < count:
        raise ConfigError(f"{setting} must be one of {kind}:0 to {kind}:{count - 1} here; got {shown(device)}.")
    return kind, int(number) if number and kind not in ("auto", "cpu") else None


def choose_device(device: str) -> torch.device:
    """The device of that name; "auto" takes the accelerator if there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    kind, number = parse_device(device)
    if kind != "auto":
        return torch.device(kind) if number is None else torch.device(kind, number)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
