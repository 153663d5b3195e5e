"""Everything static is in pyproject.toml; this file is where a native build step hooks in."""

from setuptools import setup

setup()
