"""`contrib/stack/build`: makes the images that slugs and databases run in, where the engine does not have them yet."""

import argparse
import contextlib
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import docker.errors
import requests
import uv
from docker import APIClient

from contrib.stack.base import ensure_base
from contrib.stack.container import commit, ran, read_files
from contrib.stack.engine import connect, has_name, image_ids, labels, size
from contrib.stack.errors import StackError
from contrib.stack.host import BUNDLE, INSIDE, Host, observe_host
from contrib.stack.inputs import (
    BUILD,
    IMAGES,
    INPUTS_LABEL,
    RESOURCES,
    RUN,
    VERSION,
    inputs_hash,
    source_date,
)
from contrib.stack.transcript import fail, line, step, timed

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
START_RUN = ('ENTRYPOINT ["/usr/lib/mooring/runner"]', "CMD []")
START_BUILD = ("ENTRYPOINT []", 'CMD ["/bin/bash"]')
"""What the builder makes of it has a start of its own, and so has each server."""


def main() -> int:
    options = parse_options(sys.argv[1:])
    # As Ctrl-C does: containers are removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = connect()
        inputs = inputs_hash()
        if not options.force and all(labels(client, each).get(INPUTS_LABEL) == inputs for each in IMAGES):
            step(f"The images of stack {VERSION} are there already; --force makes them anew")
        else:
            make(client, options, inputs)
        for each in IMAGES:
            line(f"{each}  {size(client, each) / 1e6:.0f} MB")
        return 0
    except KeyboardInterrupt:
        fail("Interrupted.")
    except StackError as error:
        fail(str(error))
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        fail(f"The container engine could not do it: {error}")
    return 1


def make(client: APIClient, options: argparse.Namespace, inputs: str) -> None:
    """Base, then each of the images; those that had these names before go once the new ones are there."""
    check_architecture(client)
    host = observe_host(env=dict(options.build_env), bundle=options.ca_bundle)
    files = given(host)
    former = image_ids(client, IMAGES)
    base = ensure_base(client, host, options.base)
    step(f"Fetching npm and yarn, in a container of {base}")
    with timed(), ran(client, base, "node.sh", files=files, network=options.network) as container:
        node = read_files(client, container, f"{INSIDE}/out")
    step(f"Making {RUN} from {base}")
    with timed(), ran(client, base, "run.sh", files={**files, **node}, network=options.network) as container:
        commit(client, container, RUN, inputs, start=START_RUN)
    step(f"Making {BUILD} from {RUN}")
    files = {**files, "uv": Path(uv.find_uv_bin())}
    with timed(), ran(client, RUN, "build.sh", files=files, network=options.network) as container:
        commit(client, container, BUILD, inputs, start=START_BUILD)
    step(f"Making {RESOURCES} from {base}")
    files = given(host)
    with timed(), ran(client, base, "resources.sh", files=files, network=options.network) as container:
        commit(client, container, RESOURCES, inputs, start=START_BUILD)
    forget(client, former)


def given(host: Host) -> Mapping[str, bytes | Path]:
    """What the scripts find beside their own files."""
    files = host.files()
    return {**files, "env": files["env"] + f"export SOURCE_DATE_EPOCH={source_date()}\n".encode()}


def check_architecture(client: APIClient) -> None:
    """Both uv and the base are this machine's."""
    here, there = MACHINES.get(platform.machine(), platform.machine()), client.version()["Arch"]
    if here != there:
        raise StackError(
            f"The engine runs {there} and this machine is {here}: run the build on a machine like the engine's."
        )


def forget(client: APIClient, former: Sequence[str]) -> None:
    """Images without a name now; those that something still uses stay, and are the engine's to prune."""
    for each in reversed(former):
        with contextlib.suppress(docker.errors.APIError):
            if not has_name(client, each):
                client.remove_image(each, noprune=True)


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="contrib/stack/build",
        description=f"Make {', '.join(IMAGES)} in the container engine (DOCKER_HOST, else the local socket).",
    )
    parser.add_argument("--force", action="store_true", help="even where images of the same inputs are there")
    parser.add_argument("--base", default="", metavar="IMAGE", help="a Debian bookworm to begin with")
    parser.add_argument(
        "--network", default="bridge", help="the engine's network that packages are reached by"
    )
    parser.add_argument(
        "--build-env", action="append", default=[], type=pair, metavar="KEY=VALUE",
        help="a variable for the build alone; proxies and the settings of npm are taken from this environment",
    )  # fmt: skip
    parser.add_argument(
        "--ca-bundle", type=Path, default=BUNDLE if BUNDLE.is_file() else None, metavar="FILE",
        help=f"certificates that the build trusts, and only the build (default: {BUNDLE})",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.ca_bundle and not options.ca_bundle.is_file():
        parser.error(f"--ca-bundle: there is no file {options.ca_bundle}")
    return options


def pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
