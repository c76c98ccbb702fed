"""The catalog: what is derived from the sources, once, and can always be built again."""
