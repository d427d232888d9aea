"""The main job, seen from the outside: `make demo` (or `make demo KEEP=1` to look around afterwards).

Everything happens in a temporary folder and on free loopback ports, by the same commands that a user
would type; nothing is left behind.
"""

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys

from contrib.bench.load import Load, Result
from contrib.installation import MOOR, SAMPLES, Installation, NotReady

APP = "hello"
SAMPLE = "python-web"
COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoFailed(Exception):
    """The demo did not see what it should."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Show a git push, from the outside.")
    parser.add_argument("--keep", action="store_true", help="leave server and app running")
    keep = parser.parse_args().keep
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    here = Installation()
    status = 1
    try:
        demonstrate(here)
        status = 0
    except (DemoFailed, NotReady, subprocess.SubprocessError, AssertionError) as error:
        say(f" !     {error}")
        print(here.last_lines())
    except KeyboardInterrupt:
        print()
        say(" !     Interrupted: stopping everything.")
        status = 130
    finally:
        if keep and status == 0:
            explain(here)
        else:
            clean_up(here)
    return status


def demonstrate(here: Installation) -> None:
    """The story, in the order in which it is told."""
    say("=====> Mooring: from git push to a served page")
    say(f"-----> Starting a server: apps at 127.0.0.1:{here.http}, git and ssh at 127.0.0.1:{here.ssh}")
    here.start()

    say("-----> Adding a fresh SSH key")
    tell(here.add_key())

    say(f"-----> Creating the app {APP}")
    here.show("moor", "create", APP)

    files = ", ".join(sorted(each.name for each in (SAMPLES / SAMPLE).iterdir()))
    say(f"-----> Committing a sample web app: {files}")
    checkout = here.checkout(APP, sample=SAMPLE)

    say("-----> git push deploy master")
    here.show("git", "push", "deploy", "master", folder=checkout)
    fetch(here, "version 1")

    say("-----> Changing the app and pushing again, with 200 requests a second on it")
    here.commit(checkout, "The second version", VERSION="version 2\n")
    result = asyncio.run(push_under_load(here))
    say(f"-----> While the new version took over: {result}")
    if result.failed:
        raise DemoFailed("Requests failed while the new version took over.")
    fetch(here, "version 2")

    say("-----> moor rollback")
    here.show("moor", "rollback", folder=checkout)
    fetch(here, "version 1")


async def push_under_load(here: Installation) -> Result:
    async with Load(here.http, f"{APP}.localhost", rate=200) as result:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(here.show, "git", "push", "deploy", "master", folder=here.folder / APP)
        await asyncio.sleep(0.5)
    return result


def fetch(here: Installation, expected: str) -> None:
    say(f"-----> curl http://{APP}.localhost:{here.http}/")
    _, page = here.get(APP)
    tell(page)
    if expected not in page:
        raise DemoFailed(f"The page does not say {expected!r}.")


def explain(here: Installation) -> None:
    say("=====> Left running, as you asked. Next, try:")
    tell(
        f"""\
export MOOR_DATA={here.data}
export GIT_SSH_COMMAND={shlex.quote(here.env["GIT_SSH_COMMAND"])}
export PATH={MOOR.parent}:$PATH
cd {here.folder / APP}
moor ps:scale web=3
moor config:set GREETING=Ahoy
curl http://{APP}.localhost:{here.http}/
moor logs -t -n 20
echo version 3 > VERSION; git commit -am third && git push deploy master
cd; moor server:stop --all; rm -rf {here.folder}    # when you are done"""
    )


def clean_up(here: Installation) -> None:
    # Who presses Ctrl-C once more would only leave the half of it running.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    here.remove()
    say(f"=====> Stopped everything and removed {here.folder}")


def say(text: str) -> None:
    print(f"\033[1m{text}\033[0m" if COLOR else text, flush=True)


def tell(text: str) -> None:
    for line in text.strip().splitlines():
        print(f"       {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
