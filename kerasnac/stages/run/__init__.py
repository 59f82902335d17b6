"""A whole run: the stages in one folder, and the pipeline through all of them."""

from kerasnac.stages.run.pipeline import Outcome, resume, run_all, search_only
from kerasnac.stages.run.session import Run

__all__ = ["Outcome", "Run", "resume", "run_all", "search_only"]
