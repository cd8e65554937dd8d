"""How fast a device can compute and read: what its maker says, and what a product and a copy on it show."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

MEASURE_SECONDS = 1.0
_GPU_SIDE, _CPU_SIDE = 8192, 1536
_GPU_BYTES, _CPU_BYTES = 4 * 2**30, 256 * 2**20


@dataclass(frozen=True, slots=True)
class Peak:
    """A device's ceilings as its maker publishes them: dense products, no sparsity.

    Attributes:
        bfloat16: 10^12 FLOPs a second, summed up in float32.
        fp8: the same; None where it has none.
        bandwidth: 10^9 bytes a second of its memory.
    """

    bfloat16: float
    fp8: float | None
    bandwidth: float


PEAKS: tuple[tuple[str, Peak], ...] = (
    ("B200", Peak(2250, 4500, 8000)),
    ("GH200 480GB", Peak(989.4, 1978.9, 4000)),
    ("H200 NVL", Peak(835.5, 1671, 4800)),
    ("H200", Peak(989.4, 1978.9, 4800)),
    ("H100 NVL", Peak(835.5, 1671, 3938)),
    ("H100 PCIe", Peak(756, 1513, 2039)),
    ("H100 80GB HBM3", Peak(989.4, 1978.9, 3352)),
    ("A100-SXM4-80GB", Peak(312, None, 2039)),
    ("A100 80GB PCIe", Peak(312, None, 1935)),
    ("A100-SXM4-40GB", Peak(312, None, 1555)),
    ("A100-PCIE-40GB", Peak(312, None, 1555)),
    ("A10G", Peak(70, None, 600)),
    ("A10", Peak(125, None, 600)),
    ("A40", Peak(149.7, None, 696)),
    ("L40S", Peak(362, 733, 864)),
    ("L40", Peak(181, 362, 864)),
    ("L4", Peak(121, 242, 300)),
    ("RTX A6000", Peak(154.8, None, 768)),
    ("RTX 5090", Peak(209.5, 419, 1792)),
    ("RTX 4090", Peak(165.2, 330.3, 1008)),
    ("RTX 3090", Peak(71, None, 936)),
    ("MI325X", Peak(1307.4, 2614.9, 6000)),
    ("MI300X", Peak(1307.4, 2614.9, 5300)),
    ("MI250X", Peak(383, None, 3277)),
)
"""By a part of the name that the driver gives the device; the first that fits counts. From the vendors' data sheets."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What one device reached, in a product of two large matrices and in a copy of its memory.

    Attributes:
        device: its name.
        flops: FLOPs a second, by what was multiplied: float32, bfloat16, fp8.
        bandwidth: bytes a second, read and written.
    """

    device: str
    flops: dict[str, float]
    bandwidth: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def known_peak(device: str) -> Peak | None:
    """What the maker says of a device of that name, or None where the table has none."""
    return next((peak for name, peak in PEAKS if name.casefold() in device.casefold()), None)


def peak_flops(device: str, compute: str) -> float | None:
    """FLOPs a second that the maker tells for products in `compute`; None where it is not known."""
    peak = known_peak(device)
    if peak is None:
        return None
    value = {"bfloat16": peak.bfloat16, "float16": peak.bfloat16, "fp8": peak.fp8}.get(compute)
    return None if value is None else value * 1e12


def measure_ceilings() -> dict[str, Any]:
    """`Ceilings` of this process's first GPU, or of all cores of its machine, as JSON. Some seconds."""
    import torch

    from ipt_stream.synthesis.engine import _processor

    if torch.cuda.is_available():
        device = torch.device("cuda")
        name, side, size = torch.cuda.get_device_name(), _GPU_SIDE, _GPU_BYTES
        flops = {"bfloat16": _product(side, torch.bfloat16, device)}
        if torch.cuda.get_device_capability() >= (8, 9):
            flops["fp8"] = _product_fp8(side, device)
    else:
        from ipt_stream.synthesis.engine import has_bfloat16

        torch.set_num_threads(os.cpu_count() or 1)
        device = torch.device("cpu")
        name, side, size = _processor(), _CPU_SIDE, _CPU_BYTES
        flops = {"float32": _product(side, torch.float32, device)}
        if has_bfloat16():
            flops["bfloat16"] = _product(side, torch.bfloat16, device)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _best(lambda: target.copy_(source), device)
    return Ceilings(name, flops, 2 * size / seconds).to_json()


def _product(side: int, dtype: Any, device: Any) -> float:
    import torch

    left = torch.randn(side, side, dtype=dtype, device=device)
    right = torch.randn(side, side, dtype=dtype, device=device)
    return float(2 * side**3 / _best(lambda: left @ right, device))


def _product_fp8(side: int, device: Any) -> float:
    import torch

    left = torch.randn(side, side, device=device).to(torch.float8_e4m3fn)
    right = torch.randn(side, side, device=device).to(torch.float8_e4m3fn).t()  # column-major, as the kernel asks
    one = torch.ones((), device=device)

    def product() -> Any:
        return torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)

    return float(2 * side**3 / _best(product, device))


def _best(work: Callable[[], Any], device: Any) -> float:
    """The shortest time that `work` took in about a second, after a first call that doesn't count."""
    import torch

    def once() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    found: list[float] = []
    until = time.perf_counter() + MEASURE_SECONDS
    while len(found) < 5 or time.perf_counter() < until:
        found.append(once())
    return min(found)
