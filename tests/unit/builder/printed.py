"""A BuildOutput that remembers."""


class Printed:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def step(self, text: str) -> None:
        self.lines.append(("step", text))

    def line(self, text: str) -> None:
        self.lines.append(("line", text))

    def warn(self, text: str) -> None:
        self.lines.append(("warn", text))

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.lines)
