"""Imported once by the process from which those of a group are forked: importing is most of what starting them costs."""

from cg_train import detector_run, stage
from cg_train.step import import_deepspeed

deepspeed = import_deepspeed(gpu=False)
__all__ = ["deepspeed", "detector_run", "stage"]
