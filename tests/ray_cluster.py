"""A real Ray cluster of two machines on loopback: each a `ray start` with a session of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # else one ray:// connection in three fails (ray 63202)
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
_START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
_START += ["--object-store-memory=100000000", "--disable-usage-stats", "--num-cpus=1"]
_START_SECONDS = 60


class RayNode:
    """One machine of the cluster: all processes of a session."""

    def __init__(self, ip: str, arguments: list[str], folder: Path) -> None:
        self.ip = ip
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        self.log = folder / f"{ip}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_START, f"--node-ip-address={ip}", *arguments],
                env=kept | _ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parent)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill every process of the machine at once, as a power cut does."""
        while pids := self._list_pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.process.wait()

    def is_working(self) -> bool:
        """Whether a task runs on it: Ray gives the process its function's name."""
        names = (Path(f"/proc/{pid}/cmdline") for pid in self._list_pids())
        return any(b"ray::_work" in name.read_bytes() for name in names if name.exists())

    def _list_pids(self) -> list[int]:
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                is_ours = os.getsid(process.pid) == self.process.pid
            except ProcessLookupError:
                continue
            if is_ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        return found


class RayCluster:
    """A head and another machine, with a processor each."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short, for the paths of sockets
        port, client_port, agent_port = (_free_port() for _ in range(3))
        self.address = f"127.0.0.2:{port}"
        self.client_address = f"ray://127.0.0.2:{client_port}"
        of_head = [
            "--head",
            f"--port={port}",
            f"--ray-client-server-port={client_port}",
            f"--dashboard-agent-listen-port={agent_port}",  # its own may be one of the free ones
            "--include-dashboard=false",
            f"--temp-dir={self.folder}",
        ]
        self.head = RayNode("127.0.0.2", of_head, self.folder)
        self.other: RayNode | None = None
        try:
            self._wait_for(1)
            self.start_other()
        except BaseException:
            self.close()
            raise

    def start_other(self) -> RayNode:
        """Start the other machine, if it is not running."""
        if self.other is None or self.other.process.poll() is not None:
            self.other = RayNode("127.0.0.3", [f"--address={self.address}"], self.folder)
            self._wait_for(2)
        return self.other

    def close(self) -> None:
        """Kill both machines."""
        for node in (self.head, self.other):
            if node is not None:
                node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for(self, nodes: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.head.process.poll() is not None:
                break
            if _is_listening(self.address) and self._count_nodes() == nodes:
                return
            time.sleep(0.1)
        raise TimeoutError(f"the Ray cluster did not start: {self.head.log.read_text()[-2000:]}")

    def _count_nodes(self) -> int:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        try:
            found = GcsClient(address=self.address).get_all_node_info(timeout=2)
        except Exception:  # while it starts it fails in many ways
            return 0
        return sum(info.state == 0 for info in found.values())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


def _is_listening(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
