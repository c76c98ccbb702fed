"""The data YAML: which datasets there are, in which groups, and where their files stand."""

from app.data_yaml.dataset import FIELDS, GROUPS, Dataset, DataYaml
from app.data_yaml.files import list_image_files
from app.data_yaml.load import load_data_yaml

__all__ = ["FIELDS", "GROUPS", "DataYaml", "Dataset", "list_image_files", "load_data_yaml"]
