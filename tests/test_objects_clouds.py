"""Stores of other clouds: Azure's by Microsoft's own emulator, Google's by its XML protocol."""

import base64
import hmac
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path

import pytest
from live_server import image_path, run, start_server
from object_store import PUBLIC_BUCKET, Folder, Proxy, free_port, put_pack, set_environment
from obstore.store import AzureStore, GCSStore
from packs import draw_jpeg, write_images

from app.demo import write_demo

pytestmark = pytest.mark.slow

# Of Azurite, and in its documentation.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_CONTAINER = "tests"
_START_SECONDS = 30.0


@contextmanager
def azurite(folder: Path) -> Iterator[int]:
    """The port of a running Azurite with a container."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not installed (npm install --global azurite)")
    port = free_port()
    words = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    log = folder / "azurite.log"
    with open(log, "w") as sink:
        process = subprocess.Popen([*words, "--disableTelemetry"], stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while (status := _make_container(port)) is None:
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(f"Azurite did not start:\n{log.read_text()}")
            time.sleep(0.1)
        assert status == 201
        yield port
    finally:
        process.kill()
        process.wait()


def _make_container(port: int) -> int | None:
    """The status of the request that makes it, signed with the account's key; None without one."""
    said = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    where = f"/{_ACCOUNT}/{_CONTAINER}"
    lines = ["PUT", *[""] * 11, *(f"{name}:{text}" for name, text in said.items())]
    signed = "\n".join([*lines, f"/{_ACCOUNT}{where}", "restype:container"])
    digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), "sha256")
    said["authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("PUT", f"{where}?restype=container", headers=said)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


@pytest.fixture
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    """A folder in the cloud's store, which the environment leads to."""
    if request.param == "az":
        (tmp_path / "azurite").mkdir()
        with azurite(tmp_path / "azurite") as port:
            variables = {
                "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
                "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
                "AZURE_ALLOW_HTTP": "true",
            }
            set_environment(monkeypatch, variables)
            yield Folder(f"az://{_CONTAINER}/a b", AzureStore(_CONTAINER, prefix="a b"))
    else:
        # Its XML protocol is the one that S3 speaks, but for how requests are signed.
        proxy: Proxy = request.getfixturevalue("proxy")
        proxy.is_anonymous = True
        account = {"gcs_base_url": f"http://127.0.0.1:{proxy.port}", "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        (tmp_path / "account.json").write_text(json.dumps(account))
        variables = {
            "GOOGLE_SERVICE_ACCOUNT": str(tmp_path / "account.json"),
            "GOOGLE_ALLOW_HTTP": "true",
        }
        set_environment(monkeypatch, variables)
        yield Folder(f"gs://{PUBLIC_BUCKET}/a b", GCSStore(PUBLIC_BUCKET, prefix="a b"))


@pytest.mark.parametrize("cloud", ["az", "gs"], indirect=True)
def test_indexed_published_and_served(cloud: Folder, tmp_path: Path) -> None:
    near = write_demo(tmp_path / "demo", images=30)
    far = put_pack(near, cloud, tmp_path)
    catalog = f"{cloud.address}/catalogs/demo"
    ended = run("index", far, "--catalog-dir", tmp_path / "built", "--publish", catalog)
    assert ended.returncode == 0, ended.stderr
    keys = [f"SHAPES_IMG_{number:06}" for number in range(12)]
    paths = ["/v1/batches/1?batch_size=8&format=ndjson", "/v1/datasets"]
    paths += [image_path("SHAPES", key) for key in keys]
    answers = []
    for data, name in ((near, "near"), (far, "built"), (catalog, "replica")):
        with start_server(data, tmp_path / name, object_check_seconds=1) as server:
            found = [server.get(path) for path in paths]
            assert {one.status for one in found} == {200}
            answers.append([one.body for one in found])
            if data == catalog:
                write_images(tmp_path / "other.parquet", {key: draw_jpeg(1) for key in keys})
                (name,) = (one for one in cloud.list() if one.endswith("SHAPES.parquet"))
                cloud.put(name, tmp_path / "other.parquet")
                time.sleep(1)
                for key in keys:
                    assert server.get(image_path("SHAPES", key)).code == "source_changed"
    assert answers[0] == answers[1] == answers[2]
