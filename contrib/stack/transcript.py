"""What the build says, in the form that a push has."""

import sys


def step(text: str) -> None:
    print(f"-----> {text}", flush=True)


def line(text: str) -> None:
    print(f"       {text}", flush=True)


def fail(text: str) -> None:
    first, *others = text.splitlines()
    print(f" !     {first}", *(f"       {each}" for each in others), sep="\n", file=sys.stderr, flush=True)
