"""Helpers behind the notebooks of the Simple and Safe (S2) study: flat modules, plain functions."""

__version__ = "0.1.0"

from s2utils.workflow.progress import settle

settle()
