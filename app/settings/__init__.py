"""Every setting, read once: from the command line, the environment (MIMICIT_…) and a YAML file."""

from app.settings.limits import object_limits
from app.settings.load import SettingsError, load_settings, with_session_key
from app.settings.settings import Settings

__all__ = ["Settings", "SettingsError", "load_settings", "object_limits", "with_session_key"]
