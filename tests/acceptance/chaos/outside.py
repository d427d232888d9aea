"""What runs, is routed and answers, looked up behind the server's back: in /proc, in HAProxy, with requests."""

import asyncio
import http.client
import os
from collections import Counter
from pathlib import Path

from controller.backends.keeper.processes import Census
from router.haproxy_process import parse_info
from router.haproxy_table import GUARDS, HOSTS, MAINTENANCE, NAMES, WILDCARDS, parse_live_table
from router.runtime_api import RuntimeApi


class Outside:
    """Of one installation."""

    def __init__(self, system):
        self.system = system

    def apps(self):
        """Instance id to the ids of its living processes."""
        realm = (self.system.data / "supervisor" / "realm").read_text() + "/"
        census = Census.take()
        found = {}
        for pid, marker in census.markers.items():
            if marker.startswith(realm) and not census.processes[pid].zombie:
                found.setdefault(marker.removeprefix(realm), []).append(pid)
        return found

    def strays(self):
        """Command lines of processes that work in the apps' folders and belong to no instance."""
        known = {pid for pids in self.apps().values() for pid in pids}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = (process / "cwd").readlink().is_relative_to(self.system.data / "apps")
                if inside and int(process.name) not in known:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def keepers(self):
        return self._with_argument(str(self.system.data / "supervisor"), "controller.backends.keeper")

    def haproxies(self):
        """Master and workers: a worker's parent is the master, unless that was killed."""
        return self._with_argument(str(self.system.data / "haproxy" / "current" / "haproxy.cfg"), "-W")

    def master(self):
        return int((self.system.data / "haproxy" / "haproxy.pid").read_text())

    def _with_argument(self, *arguments):
        census = Census.take()
        found = []
        for pid, process in census.processes.items():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if not process.zombie and all(os.fsencode(each) in words for each in arguments):
                found.append(pid)
        return found

    def table(self):
        """The routes, and the ids of servers on their way out, as HAProxy itself tells; nothing is mended by asking."""
        return asyncio.run(self._table())

    async def _table(self):
        async with RuntimeApi(self.system.data / "haproxy" / "admin.sock").session() as session:
            _, identity = parse_info(await session.ask("show info"))
            live = parse_live_table(
                identity.slots,
                names=await session.ask(f"show map {NAMES}"),
                hosts=await session.ask(f"show map {HOSTS}"),
                wildcards=await session.ask(f"show map {WILDCARDS}"),
                maintenance=await session.ask(f"show map {MAINTENANCE}"),
                guards=await session.ask(f"show map {GUARDS}"),
                servers=await session.ask("show servers state"),
            )
        return live.known, {each for slot in live.slots.values() for each in slot.leaving}

    def page(self, host):
        """Status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.system.http, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def pages(self, host, count):
        return Counter(self.page(host) for _ in range(count))
