"""Sizes as people read them. Pure."""


def size_text(size: float) -> str:
    """`512 MiB`"""
    for factor, unit in ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size:g} bytes"
