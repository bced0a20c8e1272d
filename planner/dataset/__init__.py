"""Data to measure a model on: a folder of sensor messages, or arrays for the network's inputs."""

from planner.dataset.reading import read_dataset
from planner.dataset.samples import Dataset, Sample

__all__ = ["Dataset", "Sample", "read_dataset"]
