"""Everything static is in pyproject.toml; here is what an install may compile.

`pip install --no-build-isolation .` finds the TensorFlow that is installed, builds the native
library against it and puts it into the package. Without a TensorFlow or a compiler the package is
the same but for the library, which is then built at first need, or never.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = Path(__file__).resolve().parent
COMPILES = (
    importlib.util.find_spec("tensorflow") is not None and os.environ.get("RECOPS_CPP") != "0"
)


class BuildPy(build_py):
    def run(self):
        super().run()
        if not COMPILES or self.editable_mode:
            return
        sys.path.insert(0, str(HERE))
        from recops._core import build

        folder = Path(self.build_lib) / "recops" / "native"
        try:
            built = build.find_or_build(root=folder, rebuild=True)
            # Logs, locks, and the library of an install before this one.
            for by_product in set(folder.iterdir()) - {built.path.parent}:
                shutil.rmtree(by_product) if by_product.is_dir() else by_product.unlink()
        except build.BuildError as error:
            print(f"recops: installed without the native library: {error}", file=sys.stderr)


class Machine(Distribution):
    """A wheel with a library in it is for one kind of machine."""

    def has_ext_modules(self):
        return COMPILES


setup(cmdclass={"build_py": BuildPy}, distclass=Machine)
