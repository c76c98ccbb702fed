"""The service as an application of Ray Serve: serve run app.ray:app data=DATA.yaml.

A replica is an actor with the same application as a worker of `mimicit serve`, over a catalog that
all machines see. It is not built here: `mimicit index --cluster auto` does that before, and each
time that the data have changed; replicas open the new one beside the old one by themselves.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.catalog.manifest import get_manifest
from app.errors import MimicitError
from app.main import create_app
from app.mounted import mounted_folder
from app.orders import CatalogFolder
from app.routes.guard import Guard
from app.settings import load_settings, with_session_key


class ExposureError(MimicitError):
    """Anybody would be answered, and nobody said that this is meant."""

    code = "exposure"


class Arguments(BaseModel):
    """What `serve run` and a configuration file of Serve give: paths that all machines see."""

    model_config = ConfigDict(extra="forbid")

    data: Path | None = Field(None, description="The data YAML, else the setting data_yaml.")
    catalog_dir: Path | None = Field(None, description="Where catalogs are kept.")
    config: Path | None = Field(None, description="A settings file.")
    tokens_file: Path | None = Field(None, description="A file of bearer tokens.")
    insecure: bool | None = Field(
        None, description="Answer without tokens, to all who reach one of Serve's proxies."
    )
    min_replicas: int = Field(2, ge=1, description="So many go on when one of them dies.")
    max_replicas: int = Field(8, ge=1, description="Each takes a processor.")
    ongoing_requests: float = Field(
        8,
        gt=0,
        description="Requests in flight of one replica on the average; with more there will be "
        "another. It works on one or two at a time, and the others come and go.",
    )


class RayApp:
    """What Serve leaves out around an application: the lifespan's state in each request, and bodies
    as bytes, since it sends them to another process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._state = scope.setdefault("state", {})
            await self._app(scope, receive, send)
            return

        async def send_bytes(message: Message) -> None:
            body = message.get("body")
            if body is not None and not isinstance(body, bytes):
                message["body"] = bytes(body)
            await send(message)

        scope["state"] = dict(self._state)
        scope.setdefault("raw_path", scope["path"].encode())
        await self._app(scope, receive, send_bytes)


def app(arguments: Arguments) -> serve.Application:
    """The application, of 2 to 8 replicas unless the arguments say otherwise.

    Raises CatalogError if the catalog is not built, TokensError if the tokens can not be used, and
    ExposureError if there are none: where Serve's proxies listen is not known here.
    """
    settings = load_settings(
        arguments.config,
        data_yaml=arguments.data,
        catalog_dir=arguments.catalog_dir,
        tokens_file=arguments.tokens_file,
        insecure=arguments.insecure,
    )
    settings = with_session_key(settings)  # one for all replicas
    if settings.data_yaml is None:
        raise MimicitError("no data YAML is given: data=/path/to/data.yaml")
    if not (Guard(settings).tokens.are_needed or settings.insecure):
        raise ExposureError(
            "no tokens are given: whoever reaches a proxy of Serve would read everything. Give "
            "tokens_file=/path/to/tokens, or insecure=true if the proxies listen on this machine "
            "only, or something in front asks people who they are"
        )
    folder = mounted_folder(settings)
    get_manifest(folder)

    def create() -> ASGIApp:
        return RayApp(create_app(settings, folder, CatalogFolder(folder)))

    deployment: Any = serve.deployment(
        serve.ingress(create)(),
        name="mimicit",
        ray_actor_options={"num_cpus": 1},
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": max(arguments.min_replicas, arguments.max_replicas),
            "target_ongoing_requests": arguments.ongoing_requests,
        },
        max_ongoing_requests=settings.max_waiting,
        # Of one proxy; more are answered 503 at once, and asked again by the client.
        max_queued_requests=settings.max_waiting,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
        health_check_period_s=2,
        health_check_timeout_s=10,
        logging_config=LoggingConfig(enable_access_log=False),  # it takes longer than a read
    )
    application: serve.Application = deployment.bind()
    return application
