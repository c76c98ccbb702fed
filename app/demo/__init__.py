"""A demo of any size: drawn pictures, true answers, files as pandas and Dask write them."""

from app.demo.write import write_demo

__all__ = ["write_demo"]
