"""The project's own rules: which way imports go, what is pinned, how it is packed and shipped."""

import ast
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from live_server import run

from app import __version__
from app.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "app").rglob("*.py"))
CLIENT = ROOT / "client"
CLIENT_MODULES = sorted((CLIENT / "mimicit_client").glob("*.py"))
REQUIREMENTS = ["requirements.txt", "requirements-dev.txt", "requirements-bench.txt"]

# A noun imports only nouns of the layers before its own, and what is in its own package.
LAYERS = [
    {"errors", "descriptors"},
    {"storage"},
    {"settings", "schemas", "images", "json_object", "group", "pool", "budget"}
    | {"processes", "demo", "sampling", "progress", "key_rules"}
    | {"histogram", "charts", "metrics", "logs", "access", "shares"},
    {"parquet", "data_yaml", "tasks"},
    {"catalog"},
    {"batches", "check", "convert", "orders", "running", "rebuild", "mounted", "reads"},
    {"batcher"},
    {"service", "progress_lines"},
    {"live", "reloader"},
    {"routes"},
    {"explorer", "answer_transport"},
    {"main", "waiting", "connection"},
    {"listener", "workers"},
    {"server", "ray"},
    {"cli"},
    {"__main__"},
]
LAYER = {noun: number for number, nouns in enumerate(LAYERS) for noun in nouns}
# Who alone imports what.
ONLY = {
    "demo": {"cli"},
    "settings": {"batcher", "service", "routes", "explorer", "main", "connection", "server", "cli"}
    | {"rebuild", "reloader", "mounted", "reads", "workers", "ray"},
    "convert": {"cli"},
    "data_yaml": {"catalog", "convert", "mounted", "cli"},
    "json_object": {"catalog", "convert"},
    "key_rules": {"data_yaml", "catalog", "check"},
    "duckdb": {"catalog"},
    "explorer": {"main", "waiting"},
    "obstore": {"storage"},
    "fastapi": {"routes", "explorer", "main"},
    "fastapi_offline": {"routes"},
    "opentelemetry": {"routes"},
    "starlette": {"routes", "explorer", "main", "waiting", "server", "ray"},
    "the package ray": {"tasks", "ray"},
    "prometheus_client": {"metrics"},
    "uvloop": {"listener"},
    "uvicorn": {"answer_transport", "connection", "workers", "server"},
}
MAX_LINES = 300


def name_of(path: Path) -> str:
    """The dotted name of a module of the app."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names that a module imports, wherever in it: modules, and what may be one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def noun_of(name: str) -> str:
    """The part of the app that a dotted name is in, or the package it is of."""
    first, *rest = name.split(".")
    if first == "app" and rest:
        return rest[0]
    return f"the package {first}" if first in LAYER else first


def list_arrows() -> Iterator[tuple[str, str]]:
    """The importing and the imported noun, of every import between two."""
    for path in MODULES:
        noun = noun_of(name_of(path))
        for name in imports_of(path):
            if noun_of(name) != noun:
                yield noun, noun_of(name)


def test_every_noun_has_a_layer() -> None:
    assert {noun_of(name_of(path)) for path in MODULES} - {"app"} == LAYER.keys()


def test_imports_go_one_way() -> None:
    wrong = {
        f"{noun} imports {other}"
        for noun, other in list_arrows()
        if other in LAYER and not LAYER[other] < LAYER[noun]
    }
    assert not wrong


def test_no_module_imports_itself_on_a_detour() -> None:
    names = {name_of(path) for path in MODULES}
    graph = {}
    for path in MODULES:
        found = {name if name in names else name.rpartition(".")[0] for name in imports_of(path)}
        graph[name_of(path)] = found & names - {name_of(path)}
    assert len(graph) > 50
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the modules


def test_each_thing_is_known_only_where_it_belongs() -> None:
    wrong = {
        f"{noun} imports {other}"
        for noun, other in list_arrows()
        if other in ONLY and noun not in ONLY[other]
    }
    assert not wrong
    known = {other for _, other in list_arrows()}
    assert ONLY.keys() <= known


def test_only_settings_reads_the_environment() -> None:
    reading = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
                reading.add(name_of(path))
        if {"os.environ", "os.getenv"} & imports_of(path):
            reading.add(name_of(path))
    # And Ray is told to be quiet by a variable, which is set, not read.
    assert reading == {"app.settings.load", "app.tasks.cluster"}


def test_the_client_needs_nothing_of_the_service() -> None:
    given = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    extras = [one for more in given["optional-dependencies"].values() for one in more]
    own = {"mimicit_client", *sys.stdlib_module_names}
    listed = {re.split("[<>=]", one)[0] for one in (*given["dependencies"], *extras)}
    found = {name.split(".")[0] for path in CLIENT_MODULES for name in imports_of(path)}
    assert len(CLIENT_MODULES) > 10
    # Nothing imports numpy: torch hands its memory over as an array of it.
    assert {"PIL" if name == "pillow" else name for name in listed} == found - own | {"numpy"}


@pytest.mark.parametrize("path", [*MODULES, *CLIENT_MODULES], ids=name_of)
def test_no_file_is_two_nouns(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@cache
def pins_of(file: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of every package that the file pins."""
    entries = re.split(r"\n(?=\S)", (ROOT / file).read_text().strip())
    pins = {}
    for entry in entries:
        first = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!]+)( ;[^\\]*)?\s*\\\n", entry)
        assert first, f"{file}: no pin: {entry[:100]}"
        assert first[1] not in pins or first[3], f"{file}: {first[1]} is there twice"
        pins[first[1]] = first[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry))
    return pins


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def required(*extras: str) -> list[str]:
    found = project()
    requirements, optional = found["dependencies"], found["optional-dependencies"]
    assert isinstance(requirements, list)
    assert isinstance(optional, dict)
    return [*requirements, *(one for extra in extras for one in optional[extra])]


@pytest.mark.parametrize(
    ("file", "extras"),
    list(
        zip(
            REQUIREMENTS,
            [(), ("ray", "otel", "dev", "interop"), ("ray", "otel", "dev", "interop", "bench")],
            strict=True,
        )
    ),
)
def test_every_dependency_is_pinned(file: str, extras: tuple[str, ...]) -> None:
    pins = {re.sub(r"[-_.]+", "-", name.lower()): pin for name, pin in pins_of(file).items()}
    for requirement in required(*extras):
        found = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=([\d.]+))?", requirement)
        assert found, requirement
        version = pins[re.sub(r"[-_.]+", "-", found[1].lower())][0]
        if found[2]:
            assert parse(version) >= parse(found[2]), requirement


def parse(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_every_pin_has_hashes(file: str) -> None:
    assert [name for name, (_, hashes) in pins_of(file).items() if not hashes] == []


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_requirements_hold_no_address(file: str) -> None:
    text = (ROOT / file).read_text()
    assert not re.search(r"://|\bhttps?:|index-url|find-links|trusted-host|^-|@", text, re.M)


@pytest.mark.parametrize("file", REQUIREMENTS[1:])
def test_the_requirements_files_agree(file: str) -> None:
    assert pins_of("requirements.txt").items() <= pins_of(file).items()


def test_one_version_everywhere() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)
    client = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert project()["version"] == __version__ == released[0] == client["version"]
    assert f'org.opencontainers.image.version="{__version__}"' in (ROOT / "Dockerfile").read_text()
    assert run("--version").stdout == f"mimicit {__version__}\n"
    images = {one["image"] for one in load_compose().values() if "build" in one}
    pod = load_kubernetes()["Deployment"]["spec"]["template"]["spec"]
    images |= {one["image"] for one in pod["containers"]}
    assert images == {f"mimicit:{__version__}"}


def test_everything_in_the_app_is_packed() -> None:
    """setuptools packs modules of packages; anything else in app/ is named in package-data."""
    files = [path for path in (ROOT / "app").rglob("*") if path.is_file()]
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {
        path
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    assert others == named
    assert {path.parent for path in MODULES} == {
        path.parent for path in MODULES if path.name == "__init__.py"
    }


def test_the_vendored_script_is_what_its_notice_names() -> None:
    static = ROOT / "app" / "explorer" / "static"
    digest = hashlib.sha256((static / "htmx.min.js").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in (static / "NOTICE").read_text()
    assert digest in (ROOT / "docs" / "dependencies.md").read_text()


def list_steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_the_image_runs_without_rights() -> None:
    steps = list_steps()
    assert steps[:2] == [
        ("ARG", "BASE_IMAGE=python:3.12-slim"),
        ("FROM", "${BASE_IMAGE} AS build"),
    ]
    start = max(number for number, (step, _) in enumerate(steps) if step == "FROM")
    final = steps[start:]
    users = [argument for step, argument in final if step == "USER"]
    assert users
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    assert "HEALTHCHECK" in dict(final)
    assert not [argument for step, argument in final if step == "RUN" and "pip" in argument]
    assert json.loads(dict(final)["CMD"])[0] == "serve"


def load_compose() -> dict[str, Any]:
    """The services of the compose file."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    services: dict[str, Any] = compose["services"]
    return services


def test_the_compose_file_gives_no_rights() -> None:
    services = load_compose()
    assert [*services] == ["replica-1", "replica-2", "nginx", "prometheus"]
    written = {"replica-1": {"/catalog"}, "replica-2": {"/catalog"}, "prometheus": {"/prometheus"}}
    for name, service in services.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        # What is reached from elsewhere is nginx, and that from this machine only.
        ports = service.get("ports", [])
        assert bool(ports) == (name in ("nginx", "prometheus"))
        assert all(port.startswith("127.0.0.1:") for port in ports)
        volumes = service["volumes"]
        assert {one["target"] for one in volumes if not one.get("read_only")} == written.get(
            name, set()
        )
        for one in volumes:  # files and folders of this machine are there, and only read
            if one["type"] == "bind":
                assert one["read_only"]
                assert one["bind"] == {"create_host_path": False}
                source = one["source"]
                assert source.startswith("${DATA_DIR") or (ROOT / "docker" / source).is_file()


def test_nginx_and_prometheus_know_every_replica() -> None:
    replicas = {f"{name}:8000" for name in load_compose() if name.startswith("replica-")}
    text = (ROOT / "docker" / "replicas.conf").read_text()
    assert set(re.findall(r"^server (\S+) .*;$", text, re.MULTILINE)) == replicas
    assert len(text.splitlines()) == len(replicas)
    prometheus = yaml.safe_load((ROOT / "docker" / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert {one for found in job["static_configs"] for one in found["targets"]} == replicas
    assert job["metrics_path"] == "/metrics"


def test_nginx_takes_what_the_service_takes() -> None:
    text = (ROOT / "docker" / "nginx.conf").read_text()
    settings = load_settings()
    assert f"client_max_body_size {settings.max_body_bytes >> 20}m;" in text
    assert f"send_timeout {settings.stall_seconds}s;" in text
    kept = re.findall(r"keepalive_timeout (\d+)s", text)
    # Of the connections to replicas, and of those to clients.
    assert int(kept[0]) < settings.keep_alive_seconds == int(kept[1])
    waited = re.search(r"proxy_read_timeout (\d+)s", text)
    assert waited
    assert int(waited[1]) > settings.stall_seconds + settings.batch_wait_seconds


def load_kubernetes() -> dict[str, Any]:
    """The objects of the Kubernetes file, by kind."""
    text = (ROOT / "docker" / "kubernetes.yaml").read_text()
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_kubernetes_file_is_of_its_schema() -> None:
    objects = load_kubernetes()
    assert [*objects] == ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"]
    for one in objects.values():
        kubernetes_validate.validate(one, "1.30", strict=True)


def test_the_kubernetes_objects_find_each_other() -> None:
    objects = load_kubernetes()
    deployment, service = objects["Deployment"], objects["Service"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaled = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]  # else applying the file undoes the autoscaler
    (container,) = pod["spec"]["containers"]
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in pod["spec"]["volumes"]
    }
    named = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= named.keys()
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_the_kubernetes_file_gives_no_rights() -> None:
    deployment = load_kubernetes()["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = next(argument for step, argument in reversed(list_steps()) if step == "USER")
    ids = (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"])
    assert user == ":".join(map(str, ids))
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    written = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
    assert written == ["/catalog", "/tmp"]
    # Else the Service's own MIMICIT_PORT=tcp://… would be a setting.
    assert pod["enableServiceLinks"] is False


def test_kubernetes_gives_what_the_settings_may_take() -> None:
    pod = load_kubernetes()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    workers = int(environment["MIMICIT_WORKERS"])
    settings = load_settings()
    one_bytes = settings.batch_memory_bytes + settings.page_cache_bytes
    one_bytes += 2 * settings.duckdb_memory_bytes + 100_000_000
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    assert workers * one_bytes + 1_000_000_000 <= limit
    assert workers == int(container["resources"]["requests"]["cpu"])
    grace = pod["terminationGracePeriodSeconds"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace > pause + settings.shutdown_seconds
    assert {name.removeprefix("MIMICIT_").lower() for name in environment} <= {
        *Settings.model_fields
    }
