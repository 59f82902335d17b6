"""kerasnac: neural architecture codesign, from a dataset to bit-exact firmware.

    import kerasnac as kn

    data = kn.datasets.bragg_peaks(20_000, seed=0)
    run = kn.Run("runs/bragg", data)
    found = run.search("bragg_exact", evaluations=60)       # NSGA-II on validation metric and BOPs
    tuned = run.tune(found.select("knee"))                  # Bayesian optimisation of the training
    small = run.compress(tuned, bits=[8, 6])                # quantization-aware training with pruning
    firmware = run.convert(small.select("within 5%"))       # hls4ml, compiled and compared with Keras
    print(firmware[0].report())

Data        Dataset, Task, Metric; datasets: those that come along, by name; TaskKind: a task of your own
Runs        Run: stages in a folder; run_all, search_only, resume: those of a run file; open_run: one to look at
Run files   load_run, load_space, to_yaml
Networks    SearchSpace of blocks; Architecture of LayerSpec; Precision of their formats; baselines: known networks
Training    Training: hyperparameters; Trained: a network with weights; build, load_keras: Keras models; from_keras: your
            own; setup: TensorFlow
Trees       Run.boosted_trees: to compare networks with; TreeEnsemble: boosted trees in whole numbers
Costs       bops, costs: of an architecture; hardware_costs: of a trained network on a board; CostModel: one of your own
Firmware    make_firmware, validate_firmware, Firmware, HlsOptions: hls4ml; make_rtl, Rtl: Verilog without HLS
Display     plots: figures of results; progress_bar

Names are loaded on first use: ``import kerasnac`` imports neither TensorFlow nor NumPy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

#: Public name -> where it is.
_PUBLIC = {
    "Architecture": "core.network.architecture:Architecture",
    "CostModel": "core.hardware.estimators:CostModel",
    "Dataset": "core.data.dataset:Dataset",
    "Firmware": "stages.firmware.result:Firmware",
    "HlsOptions": "core.hardware.hls_options:HlsOptions",
    "LayerSpec": "core.network.layers:LayerSpec",
    "Metric": "core.data.metrics:Metric",
    "Precision": "core.network.precision:Precision",
    "Rtl": "stages.firmware.rtl:Rtl",
    "Run": "stages.run:Run",
    "SearchSpace": "core.space.search_space:SearchSpace",
    "Task": "core.data.task:Task",
    "TaskKind": "core.data.task:TaskKind",
    "Trained": "core.network.trained:Trained",
    "Training": "core.network.training:Training",
    "TreeEnsemble": "core.trees.ensemble:Ensemble",
    "baselines": "core.space.baselines",
    "blocks": "core.space.blocks",
    "bops": "core.network.bops:bops",
    "build": "adapters.keras.build:build",
    "costs": "core.network.bops:costs",
    "datasets": "datasets",
    "from_keras": "adapters.keras.foreign.model:from_keras",
    "hardware_costs": "stages.firmware.costs:hardware_costs",
    "load_keras": "adapters.keras.build:load_keras",
    "load_run": "core.settings.yaml_files:load_run",
    "load_space": "core.settings.yaml_files:load_space",
    "make_firmware": "stages.firmware.delivery:make_firmware",
    "make_rtl": "stages.firmware.rtl:make_rtl",
    "open_run": "stages.results.saved:open_run",
    "plots": "ui.plots",
    "progress_bar": "ui.progress:progress_bar",
    "resume": "stages.run:resume",
    "run_all": "stages.run:run_all",
    "search_only": "stages.run:search_only",
    "setup": "adapters.keras.runtime:tensorflow",
    "to_yaml": "core.settings.yaml_files:to_yaml",
    "validate_firmware": "stages.firmware.validation:validate",
}

if TYPE_CHECKING:  # Type checkers take ``X as X``, and what is assigned, for public.
    from kerasnac import datasets as datasets
    from kerasnac.adapters.keras.build import build as build
    from kerasnac.adapters.keras.build import load_keras as load_keras
    from kerasnac.adapters.keras.foreign.model import from_keras as from_keras
    from kerasnac.adapters.keras.runtime import tensorflow
    from kerasnac.core.data.dataset import Dataset as Dataset
    from kerasnac.core.data.metrics import Metric as Metric
    from kerasnac.core.data.task import Task as Task
    from kerasnac.core.data.task import TaskKind as TaskKind
    from kerasnac.core.hardware.estimators import CostModel as CostModel
    from kerasnac.core.hardware.hls_options import HlsOptions as HlsOptions
    from kerasnac.core.network.architecture import Architecture as Architecture
    from kerasnac.core.network.bops import bops as bops
    from kerasnac.core.network.bops import costs as costs
    from kerasnac.core.network.layers import LayerSpec as LayerSpec
    from kerasnac.core.network.precision import Precision as Precision
    from kerasnac.core.network.trained import Trained as Trained
    from kerasnac.core.network.training import Training as Training
    from kerasnac.core.settings.yaml_files import load_run as load_run
    from kerasnac.core.settings.yaml_files import load_space as load_space
    from kerasnac.core.settings.yaml_files import to_yaml as to_yaml
    from kerasnac.core.space import baselines as baselines
    from kerasnac.core.space import blocks as blocks
    from kerasnac.core.space.search_space import SearchSpace as SearchSpace
    from kerasnac.core.trees.ensemble import Ensemble
    from kerasnac.stages.firmware.costs import hardware_costs as hardware_costs
    from kerasnac.stages.firmware.delivery import make_firmware as make_firmware
    from kerasnac.stages.firmware.result import Firmware as Firmware
    from kerasnac.stages.firmware.rtl import Rtl as Rtl
    from kerasnac.stages.firmware.rtl import make_rtl as make_rtl
    from kerasnac.stages.firmware.validation import validate
    from kerasnac.stages.results.saved import open_run as open_run
    from kerasnac.stages.run import Run as Run
    from kerasnac.stages.run import resume as resume
    from kerasnac.stages.run import run_all as run_all
    from kerasnac.stages.run import search_only as search_only
    from kerasnac.ui import plots as plots
    from kerasnac.ui.progress import progress_bar as progress_bar

    setup, validate_firmware, TreeEnsemble = tensorflow, validate, Ensemble
else:
    __all__ = sorted(_PUBLIC)

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'kerasnac' has no attribute {name!r}")
        module, _, attribute = _PUBLIC[name].partition(":")
        found = import_module(f"kerasnac.{module}")
        return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


def load_ipython_extension(shell: Any) -> None:
    """Have IPython show objects with figures; ``%load_ext kerasnac`` does so in an IPython that began later than the import."""
    import_module("kerasnac.ui.notebook").register(shell)


if (_ipython := sys.modules.get("IPython")) is not None and (_shell := _ipython.get_ipython()) is not None:
    load_ipython_extension(_shell)
