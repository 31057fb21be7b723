"""The version: its one source, for the package, its metadata and what it writes."""

__version__ = "0.1.0"
