"""The catalog: what is derived from the sources once, and can always be thrown away and built again."""
