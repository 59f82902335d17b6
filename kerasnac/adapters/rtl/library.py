"""The parts of da4ml that adder graphs are made with, imported when the first graph is."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

from kerasnac.errors import EnvironmentProblem


@cache
def da4ml() -> SimpleNamespace:
    """Import da4ml.

    Returns:
        ``solve``, ``FixedVariable``, ``FixedVariableArray``, ``HWConfig``, ``comb_trace``, ``gather_variables`` and
        ``to_pipeline``.

    Raises:
        EnvironmentProblem: If it is missing.
    """
    try:
        from da4ml.cmvm import solve
        from da4ml.trace import FixedVariable, FixedVariableArray, HWConfig, comb_trace, to_pipeline
        from da4ml.trace.tracer import gather_variables
    except ImportError as error:
        raise EnvironmentProblem(f"adder graphs need the package da4ml ({error}): pip install 'da4ml==0.6.*'") from error
    return SimpleNamespace(
        solve=solve,
        FixedVariable=FixedVariable,
        FixedVariableArray=FixedVariableArray,
        HWConfig=HWConfig,
        comb_trace=comb_trace,
        gather_variables=gather_variables,
        to_pipeline=to_pipeline,
    )
