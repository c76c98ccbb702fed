"""What a rank sees at a step, and how the epoch falls into steps."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from app.batches.groups import Epoch
from app.batches.sample import Sample
from app.errors import InvalidRequestError, MimicitError
from app.explorer import links
from app.explorer.cards import Card, make_cards
from app.explorer.pages import render
from app.group import Group
from app.routes.batches import describe_plan
from app.routes.problems import describe
from app.routes.revision import CatalogService
from app.service import Service

_BIG = 2**63 - 1
_CARDS = 24
Number = Annotated[int, Query(ge=0, le=_BIG)]
_Count = Annotated[int, Query(ge=1, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class Fields:
    """The form's fields."""

    group: str
    step: int
    seed: int
    epoch: int
    batch_size: int
    rank: int
    world_size: int

    def link(self, **other: object) -> str:
        """The page with other values of some fields."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return links.batch_page(**(values | other))


@dataclass(frozen=True, slots=True)
class DrawnCard:
    """A sample of the batch: its place, its card, and the id of the sample it stands in for."""

    number: int
    card: Card
    substituted_for: str | None


async def _get_fields(
    group: Literal["", "IMAGE_TEXT", "TEXT_ONLY", "IMAGE_TEXT_IN_CONTEXT", "VIDEO_TEXT"] = "",
    step: Number = 0,
    seed: Number = 0,
    epoch: Number = 0,
    batch_size: _Count = 8,
    rank: Number = 0,
    world_size: _Count = 1,
) -> Fields:
    return Fields(group, step, seed, epoch, batch_size, rank, world_size)


def create_router() -> APIRouter:
    """The route of the batches."""
    router = APIRouter()

    @router.get("/batches")
    async def get_batch(
        service: CatalogService,
        fields: Annotated[Fields, Depends(_get_fields)],
        first: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> HTMLResponse:
        epoch = _make_epoch(fields)
        plan = describe_plan(epoch, service.batches.groups.list_steps(epoch))
        drawn: tuple[Group, list[DrawnCard], int] | None = None
        problem = None
        try:
            drawn = await _load_cards(service, epoch, fields, first)
        except MimicitError as error:
            problem = describe(error)
        last = plan.steps - 1
        return render(
            "batch.html",
            problem.status if problem else 200,
            fields=fields,
            groups=list(Group),
            plan=plan,
            problem=problem,
            drawn=drawn,
            first=first,
            previous=fields.link(step=min(fields.step - 1, max(last, 0))) if fields.step else None,
            next=fields.link(step=fields.step + 1) if fields.step < last else None,
        )

    return router


def _make_epoch(fields: Fields) -> Epoch:
    return Epoch(
        Group(fields.group) if fields.group else None,
        fields.seed,
        fields.epoch,
        fields.batch_size,
        fields.world_size,
        drop_last=True,
    )


async def _load_cards(
    service: Service, epoch: Epoch, fields: Fields, first: int
) -> tuple[Group, list[DrawnCard], int]:
    """The group, the cards of some samples from the first on, and how many samples there are."""
    if fields.rank >= fields.world_size:
        raise InvalidRequestError(
            f"rank {fields.rank} is not one of world size {fields.world_size}: they begin at 0"
        )
    group, samples = await service.batches.list_samples(epoch, fields.step, fields.rank)
    shown = list(enumerate(samples))[first : first + _CARDS]
    cards: dict[int, DrawnCard] = {}
    by_dataset: dict[str, list[tuple[int, Sample]]] = {}
    for number, sample in shown:
        by_dataset.setdefault(sample.dataset.name, []).append((number, sample))
    for of_dataset in by_dataset.values():
        dataset = of_dataset[0][1].dataset
        items = [dataset.instructions.get_row(sample.turn.row) for _, sample in of_dataset]
        made = await make_cards(service, dataset, items)
        for (number, sample), card in zip(of_dataset, made, strict=True):
            cards[number] = DrawnCard(number, card, sample.substituted_for)
    return group, [cards[number] for number, _ in shown], len(samples)
