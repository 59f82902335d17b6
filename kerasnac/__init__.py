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
    from kerasnac.adapters.keras.build import build, load_keras
    from kerasnac.adapters.keras.runtime import tensorflow as setup
    from kerasnac.core.data.dataset import Dataset, Task
    from kerasnac.core.hardware.hls_options import HlsOptions
    from kerasnac.core.network.architecture import Architecture
    from kerasnac.core.network.bops import bops, costs
    from kerasnac.core.network.layers import LayerSpec
    from kerasnac.core.network.precision import Precision
    from kerasnac.core.network.trained import Trained
    from kerasnac.core.network.training import Training
    from kerasnac.core.settings.yaml_files import dump as to_yaml
    from kerasnac.core.settings.yaml_files import load_run, load_space
    from kerasnac.core.space import baselines, blocks
    from kerasnac.core.space.search_space import SearchSpace
    from kerasnac.stages.firmware.costs import hardware_costs
    from kerasnac.stages.firmware.firmware import Firmware, make_firmware
    from kerasnac.stages.firmware.rtl import Rtl, make_rtl
    from kerasnac.stages.firmware.validation import validate as validate_firmware
    from kerasnac.stages.run import Run, resume, run_all, search_only
    from kerasnac.ui import plots
    from kerasnac.ui.progress import progress_bar

#: Public name -> where it is.
_PUBLIC = {
    "Architecture": "core.network.architecture:Architecture",
    "Dataset": "core.data.dataset:Dataset",
    "Firmware": "stages.firmware.firmware:Firmware",
    "HlsOptions": "core.hardware.hls_options:HlsOptions",
    "LayerSpec": "core.network.layers:LayerSpec",
    "Precision": "core.network.precision:Precision",
    "Rtl": "stages.firmware.rtl:Rtl",
    "Run": "stages.run:Run",
    "SearchSpace": "core.space.search_space:SearchSpace",
    "Task": "core.data.dataset:Task",
    "Trained": "core.network.trained:Trained",
    "Training": "core.network.training:Training",
    "baselines": "core.space.baselines",
    "blocks": "core.space.blocks",
    "bops": "core.network.bops:bops",
    "build": "adapters.keras.build:build",
    "costs": "core.network.bops:costs",
    "datasets": "datasets",
    "hardware_costs": "stages.firmware.costs:hardware_costs",
    "load_keras": "adapters.keras.build:load_keras",
    "load_run": "core.settings.yaml_files:load_run",
    "load_space": "core.settings.yaml_files:load_space",
    "make_firmware": "stages.firmware.firmware:make_firmware",
    "make_rtl": "stages.firmware.rtl:make_rtl",
    "plots": "ui.plots",
    "progress_bar": "ui.progress:progress_bar",
    "resume": "stages.run:resume",
    "run_all": "stages.run:run_all",
    "search_only": "stages.run:search_only",
    "setup": "adapters.keras.runtime:tensorflow",
    "to_yaml": "core.settings.yaml_files:dump",
    "validate_firmware": "stages.firmware.validation:validate",
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
