"""wrk, which asks a server for random paths of a list."""

import subprocess
from pathlib import Path

import msgspec

CONNECTIONS = 16


class Load(msgspec.Struct):
    """What wrk says of one round."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def load(url: str, paths: Path, seconds: float, *, seed: int) -> Load:
    """Ask for paths of that file, each a line of its own, for whole seconds."""
    whole = max(1, round(seconds))
    script = Path(__file__).with_name("random_paths.lua")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "-s", str(script)]
    # Not wrk's 2 s: on busy cores a connection to nginx waits longer for its turn now and then.
    command += ["--timeout", "10s", url, "--", str(paths), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=whole + 60)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Load)
