"""What images are called. Pure."""

import re

ID = re.compile(r"sha256:[0-9a-f]{64}")


def split_reference(reference: str) -> tuple[str, str]:
    """Name and tag of an image, or name and digest; an image's whole id has neither.

    A name without a tag gets `latest`: an engine takes some digits of an id for the image that begins with them,
    whoever's it is, and never one with a tag.
    """
    if ID.fullmatch(reference):
        return reference, ""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def whole_reference(reference: str) -> str:
    """The same with its tag, as `split_reference` has it."""
    name, tag = split_reference(reference)
    return f"{name}@{tag}" if "@" in reference else f"{name}:{tag}" if tag else name
