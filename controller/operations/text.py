"""Text from outside, made fit for one line of a table, a log or a terminal."""


def size_text(size: float) -> str:
    """`1.2 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def one_line(text: str, limit: int) -> str:
    """Without line ends and control characters, at most `limit` characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def is_passable(text: str) -> bool:
    """Whether it can be kept, and be given to a process: it is valid Unicode without a zero byte."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)
