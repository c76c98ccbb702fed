"""The groups of a data YAML."""

from enum import StrEnum


class Group(StrEnum):
    """What the samples of a group are made of; a batch holds samples of one group."""

    IMAGE_TEXT = "IMAGE_TEXT"
    TEXT_ONLY = "TEXT_ONLY"
    IMAGE_TEXT_IN_CONTEXT = "IMAGE_TEXT_IN_CONTEXT"
    VIDEO_TEXT = "VIDEO_TEXT"
