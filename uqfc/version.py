"""The version of uqfc."""

__version__ = "0.1.0"
