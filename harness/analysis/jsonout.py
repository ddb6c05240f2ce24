"""JSON that every other tool can read back: NaN and infinity become null, numpy scalars become numbers.

Python would happily print NaN, which is not JSON; the harness's own reader refuses it, and so must everything written here.
"""
from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np


def clean(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: clean(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def dumps(value: Any) -> str:
    return json.dumps(clean(value), indent=2, ensure_ascii=False, allow_nan=False)
