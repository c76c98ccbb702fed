"""Batches, shards and the plan: an epoch as pure functions of the request."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app import schemas
from app.batches.formats import CONTENT_TYPES, Format
from app.batches.groups import Epoch, GroupSteps
from app.batches.options import Options
from app.errors import InvalidRequestError
from app.group import Group
from app.images.picture import Fit
from app.routes.problems import PROBLEM_RESPONSES
from app.routes.revision import CatalogService, check_revision, pin_revision
from app.routes.stream import BatchResponse
from app.settings import Settings

_BIG = 2**63 - 1

Seed = Annotated[int, Query(ge=0, le=_BIG, description="Of every choice that is made.")]
EpochNumber = Annotated[
    int, Query(alias="epoch", ge=0, le=_BIG, description="Each epoch has its own order.")
]
BatchSize = Annotated[int, Query(ge=1, le=_BIG, description="Samples that a rank gets at a step.")]
WorldSize = Annotated[int, Query(ge=1, le=1_000_000, description="How many ranks there are.")]
DropLast = Annotated[
    bool,
    Query(description="Leave out the samples that do not fill a step; else the last is shorter."),
]
Rank = Annotated[int, Query(ge=0, description="Which run of batch_size samples of the step.")]
Step = Annotated[int, Path(ge=0, le=_BIG, description="Counted from 0.")]
Revision = Annotated[
    str | None, Query(description="Answer only from the catalog of this revision, else 409.")
]


def _get_epoch(
    seed: Seed = 0,
    epoch: EpochNumber = 0,
    batch_size: BatchSize = 8,
    world_size: WorldSize = 1,
    drop_last: DropLast = True,
) -> Callable[[Group | None], Epoch]:
    return lambda group: Epoch(group, seed, epoch, batch_size, world_size, drop_last)


EpochOf = Annotated[Callable[[Group | None], Epoch], Depends(_get_epoch)]
AnswerOf = Callable[[Group | None], Awaitable[Response]]


def create_router(settings: Settings) -> APIRouter:
    """The routes of the batches."""
    router = APIRouter(prefix="/v1", tags=["batches"], responses=PROBLEM_RESPONSES)

    async def get_options(
        images: Annotated[
            Literal["original", "none"], Query(description="`none` leaves them out.")
        ] = "original",
        size: Annotated[
            int | None,
            Query(ge=1, le=settings.max_resize_side, description="A square of this side."),
        ] = None,
        fit: Annotated[
            Fit,
            Query(
                description="With `size`: `cover` fills the square and crops, `contain` fits the "
                "picture in (on black with `pixels`)."
            ),
        ] = "cover",
        frames: Annotated[
            int | None,
            Query(
                ge=1,
                le=settings.max_frames,
                description="So many of each instruction's images, spread evenly.",
            ),
        ] = None,
        context: Annotated[
            bool | None,
            Query(
                description="Also what goes before each instruction; by default in "
                "IMAGE_TEXT_IN_CONTEXT."
            ),
        ] = None,
        on_error: Annotated[
            Literal["substitute", "fail"],
            Query(
                description="What becomes of a sample that can not be read: the next of its "
                "dataset takes its place, up to one in ten; or the batch fails."
            ),
        ] = "substitute",
    ) -> Options:
        if images == "none" and size is not None:
            raise InvalidRequestError("images=none and size= exclude each other")
        return Options(
            images=images == "original",
            size=size,
            fit=fit,
            frames=frames,
            context=context,
            substitute=on_error == "substitute",
        )

    AnyOptions = Annotated[Options, Depends(get_options)]

    async def prepare_batch(
        service: CatalogService,
        request: Request,
        step: Step,
        epoch_of: EpochOf,
        options: AnyOptions,
        rank: Rank = 0,
        pixels: Annotated[
            bool,
            Query(description="With `size`, as Arrow: uint8 [size, size, 3] instead of a file."),
        ] = False,
        format: Annotated[
            Format | None, Query(description="Else what `Accept` names first, else `arrow`.")
        ] = None,
        revision: Revision = None,
    ) -> AnswerOf:
        async def answer(group: Group | None) -> Response:
            cache_control = check_revision(service, revision)
            epoch = epoch_of(group)
            if rank >= epoch.world_size:
                raise InvalidRequestError(
                    f"rank {rank} is not one of world_size {epoch.world_size}: they begin at 0"
                )
            written = format or _accepted(request.headers.get("accept", ""))
            how = _with_pixels(options, written) if pixels else options
            opening = service.batches.open(epoch, step, rank, how, written, request.is_disconnected)
            return await BatchResponse.open(opening, written, cache_control)

        return answer

    @router.get(
        "/batches/{step}",
        summary="One batch of an epoch that mixes the groups, every batch of one of them",
        response_class=Response,
        responses=_BATCH_RESPONSES,
    )
    async def get_batch(answer: Annotated[AnswerOf, Depends(prepare_batch)]) -> Response:
        return await answer(None)

    @router.get(
        "/groups/{group}/batches/{step}",
        summary="One batch of a group's epoch",
        response_class=Response,
        responses=_BATCH_RESPONSES,
    )
    async def get_group_batch(
        group: Group, answer: Annotated[AnswerOf, Depends(prepare_batch)]
    ) -> Response:
        return await answer(group)

    @router.get(
        "/groups/{group}/shards/{shard}.tar",
        summary="One WebDataset shard of a group's epoch",
        response_class=Response,
        responses={
            200: {
                "description": "The samples; the last shard may be shorter.",
                "content": {Format.TAR.content_type: {}},
                "headers": _HEADERS,
            }
        },
    )
    async def get_shard(
        service: CatalogService,
        request: Request,
        group: Group,
        shard: Step,
        options: AnyOptions,
        seed: Seed = 0,
        epoch: EpochNumber = 0,
        samples: Annotated[int, Query(ge=1, le=_BIG, description="Samples of a shard.")] = 1000,
        revision: Revision = None,
    ) -> Response:
        cache_control = check_revision(service, revision)
        whole = Epoch(group, seed, epoch, batch_size=samples, world_size=1, drop_last=False)
        return await BatchResponse.open(
            service.batches.open(whole, shard, 0, options, Format.TAR, request.is_disconnected),
            Format.TAR,
            cache_control,
        )

    @router.get(
        "/plan",
        summary="How an epoch that mixes the groups falls into steps",
        dependencies=[Depends(pin_revision)],
    )
    async def get_plan(service: CatalogService, epoch_of: EpochOf) -> schemas.Plan:
        epoch = epoch_of(None)
        return describe_plan(epoch, service.batches.groups.list_steps(epoch))

    @router.get(
        "/groups/{group}/plan",
        summary="How a group's epoch falls into steps",
        dependencies=[Depends(pin_revision)],
    )
    async def get_group_plan(
        service: CatalogService, group: Group, epoch_of: EpochOf
    ) -> schemas.Plan:
        epoch = epoch_of(group)
        return describe_plan(epoch, service.batches.groups.list_steps(epoch))

    return router


def _with_pixels(options: Options, format: Format) -> Options:
    if options.size is None:
        raise InvalidRequestError("pixels=true needs size=, the side of the square")
    if format is not Format.ARROW:
        raise InvalidRequestError(f"there are no pixels in {format}; ask for format=arrow")
    return replace(options, pixels=True)


def _accepted(accept: str) -> Format:
    """The first of the formats that an Accept header names; Arrow if it names none."""
    named = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    formats = {content_type: format for format, content_type in CONTENT_TYPES.items()}
    return next((formats[name] for name in named if name in formats), Format.ARROW)


def describe_plan(epoch: Epoch, groups: list[GroupSteps]) -> schemas.Plan:
    """How the epoch of those groups falls into steps."""
    return schemas.Plan(
        seed=epoch.seed,
        epoch=epoch.number,
        batch_size=epoch.batch_size,
        world_size=epoch.world_size,
        drop_last=epoch.drop_last,
        steps=sum(one.steps.count for one in groups),
        samples=sum(one.steps.samples for one in groups),
        left_over=sum(one.steps.left_over for one in groups),
        groups=[_describe_group(one) for one in groups],
    )


def _describe_group(one: GroupSteps) -> schemas.GroupPlan:
    return schemas.GroupPlan(
        group=one.group,
        steps=one.steps.count,
        samples=one.steps.samples,
        left_over=one.steps.left_over,
        datasets=[
            schemas.Contribution(
                name=dataset.name,
                usable=dataset.facts.usable,
                draws=dataset.draws,
                share=dataset.draws / one.steps.samples if one.steps.samples else 0.0,
                unusable=dataset.instructions.facts.instructions - dataset.facts.usable,
                not_drawn=max(0, dataset.facts.usable - dataset.draws),
                problems=dataset.count_problems(),
            )
            for dataset in one.datasets
        ],
    )


_HEADERS = {
    "X-Batch-Group": {
        "description": "The group that the samples are of.",
        "schema": {"type": "string"},
    },
    "X-Batch-Substituted": {
        "description": "How many samples take the place of one that can not be read. Not there "
        "where it is not known before the answer begins: of resized pictures in an answer of "
        "several parts.",
        "schema": {"type": "integer"},
    },
}
_BATCH_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The samples, in order.",
        "content": {content_type: {} for content_type in CONTENT_TYPES.values()},
        "headers": _HEADERS,
    }
}
