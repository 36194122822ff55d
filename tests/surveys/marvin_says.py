"""What Marvin itself makes of MAPS files, for test_marvin.py: runs by its path in Marvin's environment.

marvin_says.py READER OUT.npz GALAXY=FILE ...: READER is the path of marvin_reader.py, which starts Marvin.
"""

import runpy
import sys
import tempfile
import warnings

import numpy as np

start = runpy.run_path(sys.argv[1])["load_marvin"]
said = {}
with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), np.errstate(all="ignore"):
    marvin, Maps = start(scratch)
    said |= {"marvin": marvin.__version__, "numpy": np.__version__}
    for argument in sys.argv[3:]:
        galaxy, path = argument.split("=", 1)
        maps = Maps(filename=path, mode="local")
        got = {name: maps.getMap(f"emline_{name}_ha_6564", exact=True) for name in ("gflux", "gvel", "gsigma")}
        for name, one in got.items():
            said[f"{galaxy}/{name}"] = one.value
            said[f"{galaxy}/{name}_masked"] = one.masked.mask
        corrected = got["gsigma"].inst_sigma_correction()
        said[f"{galaxy}/corrected"] = corrected.value
        said[f"{galaxy}/corrected_ivar"] = corrected.ivar
        said[f"{galaxy}/gsigma_ivar"] = got["gsigma"].ivar
np.savez(sys.argv[2], **said)
