"""Settings of the command line, the environment (MIMICIT_…) and a YAML file, read once."""

import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, YamlConfigSettingsSource

from app.errors import MimicitError
from app.settings.settings import Settings


class SettingsError(MimicitError):
    """A setting has a value that it can not have."""

    code = "settings"


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """The settings: those given, else the environment's, else the YAML file's, else the defaults.

    The file is `config`, or what MIMICIT_CONFIG names. Raises SettingsError, with every mistake.
    """
    path = config or (Path(name) if (name := os.environ.get("MIMICIT_CONFIG")) else None)
    if path is not None and not path.is_file():
        raise SettingsError(f"{path}: there is no such settings file")

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *args: Any, **sources: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            found = super().settings_customise_sources(settings_cls, *args, **sources)
            if path is None:
                return found
            return *found, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.model_construct(**FileSettings(**chosen).model_dump())
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, mistake['loc'])) or 'settings'}: "
            f"{mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors()
        ]
        raise SettingsError("\n".join(["settings that can not be used:", *lines])) from error


def with_session_key(settings: Settings) -> Settings:
    """The settings with a new key for sessions, if they have none: one for all that answer."""
    if settings.session_key:
        return settings
    return settings.model_copy(update={"session_key": SecretStr(secrets.token_hex(32))})
