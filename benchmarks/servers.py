"""The servers that are measured: mimicit, and nginx with the same bytes as files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.processes import MIMICIT, free_port, server

_NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  open_file_cache max=100000 inactive=600s; default_type image/jpeg;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens on a port of this machine."""

    port: int
    process: psutil.Popen

    @property
    def url(self) -> str:
        """Its URL, without a path."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def nginx(folder: Path, root: Path, workers: int = 1) -> Iterator[Server]:
    """nginx with the files of `root`; what it writes goes into `folder`, which is made."""
    port = free_port()
    folder.mkdir()
    # As root it would read the files as another user, who may not enter a temporary folder.
    user = "user root;" if Path("/proc/self").owner() == "root" else ""
    config = folder / "nginx.conf"
    text = _NGINX.format(workers=workers, folder=folder, port=port, root=root, user=user)
    config.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(config)]
    with server(command, f"http://127.0.0.1:{port}/{next(root.iterdir()).name}") as process:
        yield Server(port, process)


@contextmanager
def mimicit(
    data_yaml: Path, catalogs: Path, *options: str, workers: int = 1, port: int | None = None
) -> Iterator[Server]:
    """`mimicit serve` of a data YAML, on a free port if none is given."""
    port = port or free_port()
    flags = ["--port", str(port), "--workers", str(workers), "--catalog-dir", str(catalogs)]
    command = [*MIMICIT, "serve", str(data_yaml), *flags, *options]
    with server(command, f"http://127.0.0.1:{port}/readyz") as process:
        yield Server(port, process)
