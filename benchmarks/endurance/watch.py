"""What a server's processes hold, from one moment to the next."""

from contextlib import suppress

import psutil

from benchmarks.processes import memory_of


def own_bytes(server: psutil.Popen) -> int:
    """Memory of the server's processes without mapped files, which the kernel can drop."""
    found = 0
    for process in (server, *server.children(recursive=True)):
        found += memory_of(process.pid).get("RssAnon", 0)
    return found


def list_workers(server: psutil.Popen) -> list[psutil.Process]:
    """The processes that answer requests."""
    found = []
    for child in server.children(recursive=True):
        with suppress(psutil.Error):  # it ends this moment
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found
