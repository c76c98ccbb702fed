"""An instruction with what goes before it, as a conversation of turns."""

from dataclasses import dataclass

from app.catalog.dataset import Dataset
from app.catalog.instructions import Instruction
from app.explorer import links
from app.explorer.pictures import Picture, load_pictures
from app.service import Service

_TURNS = 50
_PICTURES = 24  # of a turn; more are on pages of their own
_TEXT_CHARS = 20_000  # some ten screens; the API has it whole


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and how many characters of it are not shown."""

    shown: str
    more: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One instruction of the conversation; without texts its id is one that does not exist.

    `left_out` says why it is not in the samples that are handed out, if it is not.
    """

    id: str
    page: str
    instruction: Text | None
    answer: Text | None
    pictures: list[Picture]
    more: int
    left_out: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The context in order, and the turn that is asked; `more` ids of the context are not shown."""

    context: list[Turn]
    more: int
    turn: Turn


async def load_conversation(
    service: Service, dataset: Dataset, item: Instruction, first: int
) -> Conversation:
    """The conversation that ends in the instruction, whose pictures are shown from `first` on."""
    ids = dataset.context_ids(item)
    shown = ids[:_TURNS]
    found, _ = await service.read(lambda: dataset.list_context(shown))
    by_id = {one.id: one for one in found}
    own = item.image_ids[first : first + _PICTURES]
    wanted = dict.fromkeys(own)
    for one in found:
        wanted |= dict.fromkeys(one.image_ids[:_PICTURES])
    pictures = await load_pictures(service, dataset, list(wanted))
    context = [_make_turn(dataset, id, by_id.get(id), None, pictures) for id in shown]
    turn = _make_turn(dataset, item.id, item, own, pictures)
    return Conversation(context, len(ids) - len(shown), turn)


def _make_turn(
    dataset: Dataset,
    id: str,
    item: Instruction | None,
    shown: list[str] | None,
    pictures: dict[str, Picture],
) -> Turn:
    page = links.instruction_page(dataset.name, id)
    if item is None:
        return Turn(id, page, None, None, [], 0, "no instruction has this id")
    keys = item.image_ids[:_PICTURES] if shown is None else shown
    return Turn(
        id=id,
        page=page,
        instruction=_cut(item.instruction),
        answer=_cut(item.answer),
        pictures=[pictures[key] for key in keys if key in pictures],
        more=len(item.image_ids) - len(keys) if dataset.images else 0,
        left_out=_why_left_out(dataset, item),
    )


def _why_left_out(dataset: Dataset, item: Instruction) -> str | None:
    if dataset.images is None:
        return None
    for key in item.image_ids:
        place = dataset.images.find_place(key)
        if place is None or not place.is_readable:
            return f"its image {key[:100]} is {'missing' if place is None else 'unreadable'}"
    return None


def _cut(text: str) -> Text:
    return Text(text[:_TEXT_CHARS], max(0, len(text) - _TEXT_CHARS))
