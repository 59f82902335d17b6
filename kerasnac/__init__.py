"""kerasnac: neural architecture codesign, from a dataset to bit-exact firmware.

    import kerasnac as kn

    data = kn.datasets.bragg_peaks(20_000, seed=0)
    run = kn.Run("runs/bragg", data)
    found = run.search("bragg_exact", evaluations=60)       # NSGA-II on validation metric and BOPs
    tuned = run.tune(found.select("knee"))                  # Bayesian optimisation of the training
    small = run.compress(tuned, bits=[8, 6])                # quantization-aware training with pruning
    firmware = run.convert(small.select("within 5%"))       # hls4ml, compiled and compared with Keras
    print(firmware[0].report())

Names are loaded on first use: ``import kerasnac`` imports neither TensorFlow nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from kerasnac import datasets
    from kerasnac.adapters.keras.build import build
    from kerasnac.adapters.keras.runtime import tensorflow as setup
    from kerasnac.core import baselines, blocks
    from kerasnac.core.architecture import Architecture
    from kerasnac.core.bops import bops, costs
    from kerasnac.core.data import Dataset, Task
    from kerasnac.core.hls_options import HlsOptions
    from kerasnac.core.layers import LayerSpec
    from kerasnac.core.precision import Precision
    from kerasnac.core.space import SearchSpace
    from kerasnac.core.trained import Trained
    from kerasnac.core.training import Training
    from kerasnac.core.yaml_files import dump as to_yaml
    from kerasnac.core.yaml_files import load_run, load_space
    from kerasnac.faces import plots
    from kerasnac.faces.progress import progress_bar
    from kerasnac.stages.firmware import Firmware, make_firmware
    from kerasnac.stages.hardware import hardware_costs
    from kerasnac.stages.rtl import Rtl, make_rtl
    from kerasnac.stages.run import Run, resume, run_all, search_only
    from kerasnac.stages.validate import validate as validate_firmware

#: Public name -> where it is.
_PUBLIC = {
    "Architecture": "core.architecture:Architecture",
    "Dataset": "core.data:Dataset",
    "Firmware": "stages.firmware:Firmware",
    "HlsOptions": "core.hls_options:HlsOptions",
    "LayerSpec": "core.layers:LayerSpec",
    "Precision": "core.precision:Precision",
    "Rtl": "stages.rtl:Rtl",
    "Run": "stages.run:Run",
    "SearchSpace": "core.space:SearchSpace",
    "Task": "core.data:Task",
    "Trained": "core.trained:Trained",
    "Training": "core.training:Training",
    "baselines": "core.baselines",
    "blocks": "core.blocks",
    "bops": "core.bops:bops",
    "build": "adapters.keras.build:build",
    "costs": "core.bops:costs",
    "datasets": "datasets",
    "hardware_costs": "stages.hardware:hardware_costs",
    "load_keras": "adapters.keras.build:load_keras",
    "load_run": "core.yaml_files:load_run",
    "load_space": "core.yaml_files:load_space",
    "make_firmware": "stages.firmware:make_firmware",
    "make_rtl": "stages.rtl:make_rtl",
    "plots": "faces.plots",
    "progress_bar": "faces.progress:progress_bar",
    "resume": "stages.run:resume",
    "run_all": "stages.run:run_all",
    "search_only": "stages.run:search_only",
    "setup": "adapters.keras.runtime:tensorflow",
    "to_yaml": "core.yaml_files:dump",
    "validate_firmware": "stages.validate:validate",
}

__all__ = [
    "Architecture",
    "Dataset",
    "Firmware",
    "HlsOptions",
    "LayerSpec",
    "Precision",
    "Rtl",
    "Run",
    "SearchSpace",
    "Task",
    "Trained",
    "Training",
    "baselines",
    "blocks",
    "bops",
    "build",
    "costs",
    "datasets",
    "hardware_costs",
    "load_keras",
    "load_run",
    "load_space",
    "make_firmware",
    "make_rtl",
    "plots",
    "progress_bar",
    "resume",
    "run_all",
    "search_only",
    "setup",
    "to_yaml",
    "validate_firmware",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kerasnac' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(f"kerasnac.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
