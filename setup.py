"""Everything static is in pyproject.toml; here is what an install may compile.

`pip install --no-build-isolation .` finds the TensorFlow that is installed, builds the native
library against it for this processor and puts it into the package. Without a TensorFlow or a
compiler the package is the same but for the library, which is then built at first need, or never.

With RECOPS_ISA="x86-64-v3 x86-64-v4" (`make wheels`) a library for each goes in, and the wheel is
one for that TensorFlow: its version says so, and it requires it.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = Path(__file__).resolve().parent
COMPILES = (
    importlib.util.find_spec("tensorflow") is not None and os.environ.get("RECOPS_CPP") != "0"
)
ISA = os.environ.get("RECOPS_ISA", "").split() or ["native"]
FOR_OTHERS = COMPILES and "native" not in ISA


class BuildPy(build_py):
    def run(self):
        super().run()
        if not COMPILES or self.editable_mode:
            return
        sys.path.insert(0, str(HERE))
        from recops._core import build
        from recops._core.library import BuildError

        folder = Path(self.build_lib) / "recops" / "native"
        folder.mkdir(parents=True, exist_ok=True)
        made = set()
        try:
            made = {build.build(isa, root=folder).path.parent for isa in ISA}
        except BuildError as error:
            if FOR_OTHERS:
                raise SystemExit(f"recops: no wheel without its libraries: {error}") from error
            print(f"recops: installed without the native library: {error}", file=sys.stderr)
        # The libraries of an install before this one.
        for by_product in set(folder.iterdir()) - made:
            shutil.rmtree(by_product) if by_product.is_dir() else by_product.unlink()


class Wheel(bdist_wheel):
    """For one kind of machine and any Python: the libraries call none."""

    def get_tag(self):
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if COMPILES else (python, abi, platform)


class Machine(Distribution):
    """A wheel with a library in it is for one kind of machine."""

    def has_ext_modules(self):
        return COMPILES

    def parse_config_files(self, *args, **kwargs):
        super().parse_config_files(*args, **kwargs)
        if FOR_OTHERS:
            import tensorflow as tf

            others = [r for r in self.install_requires if not r.startswith("tensorflow")]
            self.install_requires = [f"tensorflow=={tf.__version__}", *others]
            self.metadata.install_requires = self.install_requires
            self.metadata.version += f"+tf{tf.__version__}"


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel}, distclass=Machine)
