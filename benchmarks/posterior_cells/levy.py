"""Levy processes: the posteriors of flows beside the exact ones, see `benchmarks/levy`."""

from __future__ import annotations

from levy import study
from levy.page import page

SEED = 0


def run(setting) -> dict:
    return {"cells": study.run(setting.quick, setting.seed)}


def table(result: dict) -> str:
    return page(result["cells"])
