"""A whole run: the stages in one folder, and the pipeline through all of them."""

from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.run.pipeline import References, references_only, resume, run_all, search_only
from kerasnac.stages.run.session import Run

__all__ = ["Outcome", "References", "Run", "references_only", "resume", "run_all", "search_only"]
