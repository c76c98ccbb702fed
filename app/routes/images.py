"""Images: the bytes of one, pages of keys, and many at once."""

from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

import PIL
import pybase64
from fastapi import APIRouter, Depends, Query, Request, Response

from app import schemas
from app.batches.encoder import Piece
from app.catalog.image_source import ImageSource
from app.errors import MimicitError, TooLargeError, UnknownImageError
from app.images.resize import Resize
from app.images.sniff import content_type
from app.images.stored import Form
from app.parquet.place import Place
from app.routes.body import read_json
from app.routes.keys import register_key_convertor
from app.routes.problems import PROBLEM_RESPONSES, describe
from app.routes.revision import CacheControl, CatalogService, check_revision, pin_revision
from app.routes.serve_bytes import answer_bytes, check_match, is_known
from app.routes.stream import PiecesResponse
from app.service import Service
from app.settings import Settings


def _find(service: Service, path: dict[str, Any]) -> tuple[ImageSource, Place]:
    if "dataset" not in path:
        return service.catalog.get_image(path["key"])
    source = _get_source(service, path["dataset"])
    return source, source.get_place(path["key"])


def _get_source(service: Service, dataset: str) -> ImageSource:
    source = service.catalog.get_dataset(dataset).images
    if source is None:
        raise UnknownImageError(f"dataset {dataset!r} has no images: its group is TEXT_ONLY")
    return source


async def _answer(
    service: Service,
    request: Request,
    source: ImageSource,
    place: Place,
    revision: str | None,
    how: Resize | None,
) -> Response:
    cache_control = check_revision(service, revision)
    etag = f'"{place.hash:016x}{_tag(how) if how else ""}"'
    headers = {"etag": etag, "cache-control": cache_control, "accept-ranges": "bytes"}
    check_match(request, etag)
    if is_known(request, etag) and place.is_readable:
        await service.check_image(source, place)
        return Response(status_code=304, headers=headers)
    if how is None:
        data = await service.read_image(source, place)
        kind = content_type(data)
    else:
        data, kind = await service.resize_image(source, place, how)
    return answer_bytes(request, data, kind, headers)


def _tag(how: Resize) -> str:
    """What a resized picture depends on beside its original: also on who resizes it."""
    return f"-{how.width}x{how.height}-{how.fit}-{how.format}-{how.quality}-{PIL.__version__}"


def create_router(settings: Settings) -> APIRouter:
    """The routes of the images."""
    register_key_convertor()
    router = APIRouter(prefix="/v1", tags=["images"], responses=PROBLEM_RESPONSES)
    side = Query(ge=1, le=settings.max_resize_side)
    limit_query = Query(ge=1, le=settings.max_page_items)
    default_limit = min(settings.default_page_items, settings.max_page_items)

    async def get_image(
        service: CatalogService,
        request: Request,
        width: Annotated[int | None, side] = None,
        height: Annotated[int | None, side] = None,
        fit: Annotated[
            Literal["contain", "cover"],
            Query(description="`contain` fits the picture in, `cover` fills and crops it."),
        ] = "contain",
        format: Annotated[
            Literal["jpeg", "png", "webp"] | None, Query(description="Of the answer.")
        ] = None,
        quality: Annotated[int | None, Query(ge=1, le=100, description="Of JPEG and WebP.")] = None,
        revision: Annotated[
            str | None, Query(description="Answer only from the catalog of this revision.")
        ] = None,
    ) -> Response:
        how = _how(width, height, fit, format, quality)
        source, place = _find(service, request.path_params)
        return await _answer(service, request, source, place, revision, how)

    @router.get(
        "/datasets/{dataset}/images/{key:key}",
        summary="An image's bytes",
        response_class=Response,
        responses=_IMAGE_RESPONSES,
    )
    async def get_dataset_image(
        response: Annotated[Response, Depends(get_image)], dataset: str, key: str
    ) -> Response:
        return response

    @router.get(
        "/images/{key:key}",
        summary="An image's bytes, in whichever dataset it is",
        response_class=Response,
        responses=_IMAGE_RESPONSES,
    )
    async def find_image(response: Annotated[Response, Depends(get_image)], key: str) -> Response:
        return response

    @router.get(
        "/datasets/{dataset}/images",
        summary="A page of keys, in key order",
        dependencies=[Depends(pin_revision)],
    )
    async def list_images(
        service: CatalogService,
        dataset: str,
        limit: Annotated[int, limit_query] = default_limit,
        after: Annotated[str, Query(description="The `next` of the page before.")] = "",
        prefix: Annotated[str, Query(max_length=1000, description="Only keys beginning so.")] = "",
    ) -> schemas.ImagePage:
        source = service.catalog.get_dataset(dataset).images
        found = source.list_keys(after, prefix, limit + 1) if source else []
        return schemas.ImagePage(
            items=[_describe(dataset, key, place) for key, place in found[:limit]],
            next=found[limit - 1][0] if len(found) > limit else None,
        )

    @router.post(
        "/images:lookup",
        summary="Many images in one answer",
        response_model=schemas.FoundImages,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schemas.Lookup.model_json_schema()}},
            }
        },
    )
    async def lookup_images(
        service: CatalogService, request: Request, cache_control: CacheControl
    ) -> Response:
        lookup = await read_json(request, schemas.Lookup, settings.max_body_bytes)
        pieces = await _look_up(service, lookup)
        return PiecesResponse(pieces, "application/json", cache_control)

    return router


def _how(
    width: int | None,
    height: int | None,
    fit: Literal["contain", "cover"],
    format: Literal["jpeg", "png", "webp"] | None,
    quality: int | None,
) -> Resize | None:
    if width is None and height is None and format is None and quality is None:
        return None
    return Resize(width, height, fit, format, 85 if quality is None else quality)


def _describe(dataset: str, key: str, place: Place) -> schemas.ImageKey:
    form = Form(place.form)
    return schemas.ImageKey(
        key=key,
        url=f"/v1/datasets/{quote(dataset, safe='')}/images/{quote(key, safe='')}",
        stored_bytes=place.length,
        problem=None if form.is_readable else form.name.lower(),
    )


async def _look_up(service: Service, lookup: schemas.Lookup) -> list[Piece]:
    settings = service.settings
    if len(lookup.keys) > settings.max_lookup_keys:
        raise TooLargeError(
            f"{len(lookup.keys)} keys are more than the {settings.max_lookup_keys} of one lookup "
            "(setting max_lookup_keys)"
        )
    source = _get_source(service, lookup.dataset)
    places = [source.find_place(key) for key in lookup.keys]
    total = sum(place.length for place in places if place is not None)
    if total > settings.max_answer_bytes:
        raise TooLargeError(
            f"these images take {total:,} bytes, more than the {settings.max_answer_bytes:,} of "
            "one answer (setting max_answer_bytes); ask for fewer keys"
        )
    found = await service.read_images(source, places)
    # On a thread: 62 MB take 0.13 s, for which all others on the event loop would wait.
    return await service.read(partial(_write, lookup.keys, found))


def _write(keys: list[str], found: list[bytes | MimicitError]) -> list[Piece]:
    """The JSON of FoundImages, in pieces."""
    pieces: list[Piece] = []
    for key, one in zip(keys, found, strict=True):
        pieces += (b",", _describe_found(key, one).model_dump_json().encode())
    return [b'{"items":[', *pieces[1:], b"]}"]


def _describe_found(key: str, found: bytes | MimicitError) -> schemas.FoundImage:
    if isinstance(found, MimicitError):
        return schemas.FoundImage(key=key, error=describe(found))
    return schemas.FoundImage(
        key=key,
        content_type=content_type(found),
        base64=pybase64.b64encode_as_string(found),
    )


_IMAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes, with the content type that they show.",
        "content": {"image/*": {}, "application/octet-stream": {}},
    },
    206: {"description": "The part that `Range` asks for."},
    304: {"description": "What `If-None-Match` names is still right."},
    416: {"description": "`Range` asks for what is not there."},
}
