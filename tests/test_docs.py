"""The documentation says what is there: routes, settings, flags, errors, dependencies, examples."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from fastapi import FastAPI
from live_server import LiveServer, start_server

from app.cli.main import app as cli
from app.demo import write_demo
from app.main import PickService, StampHeaders, create_app
from app.routes import problems
from app.routes.front import Front
from app.settings import Settings, load_settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config" / "server.yaml"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "client" / "README.md"])
# Their defaults are the machine's: its cores, and where its users' caches are.
OF_THE_MACHINE = {"catalog_dir", "workers", "task_processes", "resize_threads"}
CONSTANT = sorted(set(Settings.model_fields) - OF_THE_MACHINE)


def read(path: str) -> str:
    return (ROOT / path).read_text()


def table_rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables, by the names in backquotes that their first cell has."""
    rows: dict[str, list[str]] = {}
    for line in page.splitlines():
        if line.startswith("| "):
            first, *others = [cell.strip() for cell in line.strip("|").split("|")]
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", first), others)
    return rows


def test_the_settings_file_has_every_setting_once() -> None:
    assert re.findall(r"^#(\w+):", CONFIG.read_text(), re.MULTILINE) == [*Settings.model_fields]


def test_the_settings_file_changes_nothing_as_it_stands() -> None:
    assert load_settings(CONFIG) == load_settings()


def test_the_settings_file_has_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    # All of them but `catalog`, which is in place of `data_yaml`.
    given = re.sub(r"^#(?!catalog:)(?=\w+:)", "", CONFIG.read_text(), flags=re.MULTILINE)
    config.write_text(given)
    found = load_settings(config)
    expected = load_settings(data_yaml=Path("/data/data.yaml"))
    assert {name: getattr(found, name) for name in CONSTANT} == {
        name: getattr(expected, name) for name in CONSTANT
    }


def test_the_settings_page_has_every_setting_and_its_default() -> None:
    rows = table_rows(read("docs/settings.md").split("## Settings")[1])
    assert [*rows] == [*Settings.model_fields]
    for name in CONSTANT:
        default = Settings.model_fields[name].default
        assert rows[name][0] == ("" if default is None else str(default)), name


def list_commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """The commands by name, those of `mimicit convert` among them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_the_settings_page_has_every_command_and_flag() -> None:
    page = read("docs/settings.md")
    rows = table_rows(page)
    flags: dict[str, set[str]] = {}
    for name, command in list_commands(typer.main.get_command(cli)):
        assert f"| `mimicit {name} " in page
        for parameter in command.params:
            if parameter.param_type_name == "option":
                flags.setdefault(parameter.opts[0], set()).add(name)
    assert len(flags) > 5
    for flag, of in flags.items():
        assert set(rows[flag][0].split(", ")) == of, flag


def list_routes(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Method, path and query parameters of every route."""
    app = create_app(load_settings(), folder)
    while isinstance(app, (PickService, Front, StampHeaders)):
        app = app._app
    assert isinstance(app, FastAPI)
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", [])
            names = [one["name"] for one in parameters if one["in"] == "query"]
            yield method.upper(), path, names


def test_the_api_page_has_every_route_and_parameter(tmp_path: Path) -> None:
    page = read("docs/api.md")
    rows = page.split("## Headers")[0].splitlines()
    routes = list(list_routes(tmp_path))
    assert len(routes) > 10
    for method, path, parameters in routes:
        found = [row for row in rows if re.search(rf"[ `]{re.escape(path)}`", row)]
        assert any(re.search(rf"\b{method}\b", row) for row in found), (method, path)
        for name in parameters:
            assert re.search(rf"`{name}[=`]", page), name


def test_the_api_page_has_only_routes_that_are_there(tmp_path: Path) -> None:
    there = {path for _, path, _ in list_routes(tmp_path)} | {"/openapi.json", "/docs"}
    table = read("docs/api.md").split("## Requests")[1].split("\n\n")[1]
    assert set(re.findall(r" (/[^ `]+)`", table)) == there


def test_the_api_page_has_every_error_code_and_its_status() -> None:
    rows = table_rows(read("docs/api.md").split("## Errors")[1])
    expected = {fact.code: status.value for fact, status in problems._STATUSES.items()}
    expected |= {code: status for status, code in problems._CODES_OF_STATUS.items()}
    expected["internal_error"] = 500
    assert {code: int(cells[0]) for code, cells in rows.items()} == expected


def test_the_api_page_says_when_to_try_again() -> None:
    rows = table_rows(read("docs/api.md").split("## Errors")[1])
    for fact, seconds in problems._RETRY_AFTER.items():
        assert f"`Retry-After: {seconds}`" in rows[fact.code][1]


def list_problem_kinds() -> set[str]:
    """The kinds that the catalog's builders note, as they stand in the code."""
    kinds = set()
    for path in (ROOT / "app" / "catalog").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("problems"), attr="add"), args=[kind, *_]
                ):
                    found = [n.value for n in ast.walk(kind) if isinstance(n, ast.Constant)]
                    kinds |= {value for value in found if isinstance(value, str)}
                case ast.Assign(targets=[ast.Name("PROBLEM_OF_FORM")], value=ast.Dict() as table):
                    kinds |= {ast.literal_eval(value)[0] for value in table.values}
    return kinds


def test_the_catalog_page_has_every_kind_of_problem() -> None:
    rows = table_rows(read("docs/catalog.md").split("## Problems")[1])
    kinds = list_problem_kinds()
    assert len(kinds) > 10
    assert {*rows} == kinds


def test_the_dependency_page_has_every_dependency() -> None:
    service, client = read("docs/dependencies.md").split("## Of the client")
    for folder, page in (("", service), ("client/", client)):
        project = tomllib.loads(read(f"{folder}pyproject.toml"))["project"]
        given = [project["dependencies"], *project["optional-dependencies"].values()]
        names = [re.split(r"[\[<>=]", one)[0] for requirements in given for one in requirements]
        assert [*table_rows(page)] == names


def heading_anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), target
        assert not anchor or anchor in heading_anchors(page.read_text()), target


def test_the_readme_links_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[^)]+\.md)\)", read("README.md")))
    assert linked == {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("readme")
    with start_server(write_demo(folder / "demo"), folder / "catalog") as server:
        yield server


def list_examples() -> list[tuple[str, str]]:
    """The README's curl commands, and what it says that they print."""
    blocks = re.findall(r"^```\n\$ (curl .*)\n((?s:.+?))^```", read("README.md"), re.MULTILINE)
    return [(command, output) for command, output in blocks]


def test_the_readme_has_examples() -> None:
    assert len(list_examples()) == 4


@pytest.mark.parametrize(("command", "output"), list_examples())
def test_the_readme_shows_what_the_demo_answers(
    demo: LiveServer, command: str, output: str
) -> None:
    found = re.fullmatch(r'curl -s(I?) "?localhost:8000(/[^" ]*)"?', command)
    assert found, command
    if found[1]:
        answer = demo.request("HEAD", found[2])
        status, *lines = output.splitlines()
        assert status == f"HTTP/1.1 {answer.status} OK"
        assert dict(line.split(": ", 1) for line in lines).items() <= answer.headers.items()
    else:
        assert demo.get_json(found[2]) == json.loads(output)


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < 150
