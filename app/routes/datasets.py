"""Datasets: counts, shares and problems."""

from collections import Counter
from collections.abc import Iterable

from fastapi import APIRouter, Depends

from app import schemas
from app.catalog.dataset import Dataset
from app.routes.problems import PROBLEM_RESPONSES
from app.routes.revision import CatalogService, pin_revision


def create_router() -> APIRouter:
    """The routes of the datasets."""
    router = APIRouter(
        prefix="/v1",
        tags=["datasets"],
        dependencies=[Depends(pin_revision)],
        responses=PROBLEM_RESPONSES,
    )

    @router.get("/datasets", summary="Every dataset, in the order of the data YAML")
    async def list_datasets(service: CatalogService) -> schemas.Datasets:
        datasets = service.catalog.datasets.values()
        in_groups = _count_draws(datasets)
        return schemas.Datasets(items=[_describe(dataset, in_groups) for dataset in datasets])

    @router.get("/datasets/{dataset}", summary="One dataset")
    async def get_dataset(service: CatalogService, dataset: str) -> schemas.Dataset:
        in_groups = _count_draws(service.catalog.datasets.values())
        return _describe(service.catalog.get_dataset(dataset), in_groups)

    return router


def _count_draws(datasets: Iterable[Dataset]) -> Counter[str]:
    """How many samples an epoch of each group has."""
    in_groups: Counter[str] = Counter()
    for dataset in datasets:
        in_groups[dataset.group] += dataset.draws
    return in_groups


def _describe(dataset: Dataset, in_groups: Counter[str]) -> schemas.Dataset:
    in_group = in_groups[dataset.group]
    facts = dataset.images.facts if dataset.images else None
    return schemas.Dataset(
        name=dataset.name,
        group=dataset.group,
        task_description=dataset.task_description,
        instructions=dataset.instructions.facts.instructions,
        usable=dataset.facts.usable,
        images=facts.images if facts else 0,
        num_samples=dataset.num_samples,
        draws=dataset.draws,
        share=dataset.draws / in_group if in_group else 0.0,
        problems=dataset.count_problems(),
        readers=dict(Counter(file.reader for file in facts.files)) if facts else {},
    )
