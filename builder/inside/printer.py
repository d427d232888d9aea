"""A BuildOutput on standard error, in the form that the server reads again."""

import sys


class Printer:
    def step(self, text: str) -> None:
        self._print(f"-----> {text}")

    def line(self, text: str) -> None:
        self._print(f"       {text}")

    def warn(self, text: str) -> None:
        for line in text.splitlines():
            self._print(f" !     {line}")

    def _print(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
