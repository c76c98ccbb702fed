"""Samples on their way out: drawn, their pictures read, and written as Arrow, tar or NDJSON."""
