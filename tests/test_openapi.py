"""schemathesis makes up requests from the OpenAPI description: none may end in a 500."""

import subprocess
import sysconfig
from pathlib import Path

import pytest
from live_server import environment, start_server

from app.demo import write_demo

pytestmark = pytest.mark.slow

# What a description can not say: how large a batch may be, and which parameters need others.
LIMITS = """
[[operations]]
include-path-regex = "/(batches|shards)/"
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "413", "422"]
"""
# Names that exist, so that requests get past 404 to what they ask for.
REAL_NAMES = """
[parameters]
"path.dataset" = "SHAPES"
"path.key" = "{key}"
"path.id" = "{id}"
"""


@pytest.mark.parametrize("names", ["made up", "real"])
def test_no_request_made_from_the_description_fails_the_service(tmp_path: Path, names: str) -> None:
    data = write_demo(tmp_path / "demo", images=40)
    schemathesis = Path(sysconfig.get_path("scripts")) / "schemathesis"
    with start_server(data, tmp_path / "c") as server:
        config = LIMITS
        if names == "real":
            key = server.get_json("/v1/datasets/SHAPES/images")["items"][0]["key"]
            id = server.get_json("/v1/datasets/SHAPES/instructions")["items"][0]["id"]
            config += REAL_NAMES.format(key=key, id=id)
        (tmp_path / "schemathesis.toml").write_text(config)
        done = subprocess.run(
            [
                schemathesis,
                "run",
                f"http://127.0.0.1:{server.port}/openapi.json",
                "--checks=all",
                "--max-examples=20",
                "--seed=1",
                "--workers=1",
                "--no-color",
            ],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log.read_text()
