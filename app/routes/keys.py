"""Keys and ids in a path: any text at all, slashes and line ends included."""

from starlette.convertors import Convertor, register_url_convertor


class KeyConvertor(Convertor[str]):
    """The rest of the path, as it is; Starlette's own `path` ends at a line end."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def register_key_convertor() -> None:
    """Have `{name:key}` in a route's path mean a key."""
    register_url_convertor("key", KeyConvertor())
