"""Models whose weights are shared out among the ranks (FSDP 2, by Composer), and layers that are compiled."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from composer.utils.parallelism import FSDP2Config, ParallelismConfig
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.nn import Module

from ipt_stream.errors import TrainingError
from ipt_stream.training.ranks import is_first, world_size

if TYPE_CHECKING:
    from composer.devices import Device
    from transformers import PreTrainedModel


def parallelism(fsdp: bool) -> ParallelismConfig | None:
    """What Composer is told of sharding: whole checkpoints, which rank 0 alone reads and writes.

    Raises:
        TrainingError: there is one rank, so nothing to share out.
    """
    if not fsdp:
        return None
    if world_size() == 1:
        raise TrainingError(
            "fsdp shares a model out among ranks, and there is one",
            wanted="two ranks or more",
            got="one process",
            fix="start with `composer -n N -m ipt_stream.cli ...` (pretrain: or workers=N), or leave fsdp out",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP2 Config/APIs are experimental")
        return ParallelismConfig(fsdp2=FSDP2Config(state_dict_type="full", load_monolith_rank0_only=True))


def decoder_layers(model: PreTrainedModel) -> list[Module]:
    """The layers that are all alike, by the name that the architecture gives to what must stay in one piece."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__.removeprefix("FSDP") in names]


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each decoder layer, in place. Raises `TrainingError` where there is no compiler, or no such layer."""
    if not torch.cuda.is_available() and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise TrainingError("compile needs a C++ compiler on a CPU", wanted="g++", got="none", fix="leave compile out")
    layers = decoder_layers(model)
    if not layers:
        name = type(model).__name__
        raise TrainingError(f"{name} names no layers to compile", fix="leave compile out, or use another architecture")
    for layer in layers:
        layer.compile()


def is_sharded(module: Module) -> bool:
    """Whether the weights of `module` are shared out among ranks."""
    return isinstance(module, FSDPModule)


@contextmanager
def gathered(head: Module, device: Device) -> Iterator[None]:
    """Within, what stands between the layers of a sharded `head` is whole on each rank; layers gather themselves."""
    if not isinstance(head, FSDPModule):
        raise TypeError(f"{type(head).__name__} is not sharded")
    # A first pass through the whole tells each layer that it is part of it.
    tokens = device.tensor_to_device(torch.zeros(1, 2, dtype=torch.int64))
    head({"input_ids": tokens, "labels": tokens})
    head.unshard()
    try:
        yield
    finally:
        head.reshard()


def gathered_state(model: Module) -> dict[str, Tensor] | None:
    """The whole weights of a sharded model, by name, in rank 0's main memory; None where the model is whole itself.

    Every rank calls this; what it gives to others than the first is empty.
    """
    if not any(isinstance(module, FSDPModule) for module in model.modules()):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    shared = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    return {name: weight for name, weight in state.items() if name not in shared} if is_first() else {}
