"""mimicit: multimodal instruction data over HTTP, read in place from the files people have."""

__version__ = "0.1.0"
