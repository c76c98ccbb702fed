"""Instructions as cards: the beginning of their texts, and their first pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.catalog.dataset import Dataset
from app.catalog.instructions import Instruction
from app.explorer import links
from app.explorer.pictures import Picture, load_pictures
from app.service import Service

_PICTURES = 4  # of a card; what has more says how many
_TEXT_CHARS = 600  # fill a card of the largest size


@dataclass(frozen=True, slots=True)
class Card:
    """An instruction in a list; `more` is how many pictures it has beside those shown."""

    dataset: str
    id: str
    page: str
    instruction: str
    answer: str
    pictures: list[Picture]
    more: int
    context: int


async def make_cards(
    service: Service, dataset: Dataset, items: Sequence[Instruction]
) -> list[Card]:
    """The cards of instructions of the dataset, in their order."""
    shown = {item.row: item.image_ids[:_PICTURES] for item in items}
    keys = dict.fromkeys(key for ids in shown.values() for key in ids)
    pictures = await load_pictures(service, dataset, list(keys))
    return [
        Card(
            dataset=dataset.name,
            id=item.id,
            page=links.instruction_page(dataset.name, item.id),
            instruction=item.instruction[:_TEXT_CHARS],
            answer=item.answer[:_TEXT_CHARS],
            pictures=[pictures[key] for key in shown[item.row] if key in pictures],
            more=max(0, len(item.image_ids) - _PICTURES) if dataset.images else 0,
            context=len(dataset.context_ids(item)),
        )
        for item in items
    ]
