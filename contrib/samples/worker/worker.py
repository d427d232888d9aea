"""A worker without any web process: takes piece after piece of work, and finishes the one at hand when told to stop."""

import os
import signal
import time

STOPPING = []


def pieces():
    """Numbers to look at: what a queue would give."""
    number = 1
    while not STOPPING:
        yield number
        number += 1


def work(number):
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    time.sleep(float(os.environ.get("PAUSE", "1")))
    return f"{number} has {len(divisors)} divisors"


signal.signal(signal.SIGTERM, lambda *_: STOPPING.append(True))
for piece in pieces():
    print(work(piece), flush=True)
print("the last piece is done", flush=True)
