"""A Hugging Face folder in vLLM's engine, as lm-eval's language model: for models that want its speed, on GPUs mostly.

Importing this imports lm-eval, torch and vLLM; import it inside functions, after `quiet.calm_libraries` and
`quiet.calm_vllm`. Likelihoods are those of the Hugging Face model up to rounding. The window is two tokens shorter:
vLLM takes the last scored token as input too, and generates one even where a prompt is only scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.models.utils import postprocess_generated_text
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.metered import Metered
from ipt_stream.evaluation.metrics import Likelihood
from ipt_stream.evaluation.tasks import nearest
from ipt_stream.synthesis.engine import compiling, one_process

REQUESTS_AT_ONCE = 2048
"""Given to the engine in one call, which orders them itself; the meter moves between calls."""
DECIDED = {
    "model": "set models",
    "tokenizer": "the tokenizer is the model folder's",
    "max_model_len": "set max_length",
    "trust_remote_code": "no code that comes with a model is run",
}
"""Arguments of the engine that are not its user's, and what to do instead."""


class MeteredVLLM(Metered, VLLM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's `VLLM` with the tokenization, the counts and the meter of `Metered`."""

    def __init__(self, folder: str, *, engine: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(pretrained=folder, batch_size=REQUESTS_AT_ONCE, **settings, **engine)
        self.set_up(room=self.max_length - 1)

    def close(self) -> None:
        """End the engine and its processes."""
        self.model.llm_engine.engine_core.shutdown()

    def _score_all(self, requests: Sequence[tuple[list[int], list[int]]]) -> Iterator[dict[int, Likelihood]]:
        for start in range(0, len(requests), REQUESTS_AT_ONCE):
            part = requests[start : start + REQUESTS_AT_ONCE]
            prompts = [context + scored for context, scored in part]
            outputs = self._model_generate(requests=prompts, generate=False)
            found = {}
            for index, ((context, scored), prompt, output) in enumerate(
                zip(part, prompts, outputs, strict=True), start
            ):
                value, greedy = self._parse_logprobs(prompt, output, len(context))
                found[index] = Likelihood(float(value), greedy, len(scored))
            yield found

    def _most_generated(self, settings: Mapping[str, Any]) -> int:
        return int(self.modify_gen_kwargs(dict(settings), default_max_gen_toks=self.max_gen_toks)[2])

    def _generate_all(
        self, prompts: Sequence[list[int]], settings: Mapping[str, Any], most: int
    ) -> Iterator[dict[int, str]]:
        eos = self.tokenizer.decode(self.eot_token_id)
        sampling, stop, _ = self.modify_gen_kwargs(dict(settings), eos=eos, default_max_gen_toks=self.max_gen_toks)
        for start in range(0, len(prompts), REQUESTS_AT_ONCE):
            part = list(prompts[start : start + REQUESTS_AT_ONCE])
            parameters = [SamplingParams(max_tokens=most, stop=stop, **sampling) for _ in part]
            outputs = self._model_generate(requests=part, generate=True, sampling_params=parameters)
            texts = [output.outputs[0].text for output in outputs]
            yield {index: postprocess_generated_text(text, stop, None) for index, text in enumerate(texts, start)}


def load_vllm(
    name: str,
    folder: str,
    *,
    device: str,
    dtype: str,
    batch_size: int,
    batch_tokens: int,
    engine: Mapping[str, Any],
    **settings: Any,
) -> MeteredVLLM:
    """The model in `folder` in an engine of vLLM's; `engine` are further arguments of that, by their names there.

    Raises:
        EvaluationError: vLLM has no such argument, it is one that other settings decide, or the engine can't start.
    """
    known = EngineArgs.__dataclass_fields__.keys() - DECIDED
    for argument in engine:
        if argument not in known:
            problem = "has no argument" if argument not in DECIDED else "is not to be given the argument"
            raise EvaluationError(
                f"vLLM's engine {problem} {argument}", fix=DECIDED.get(argument, nearest(argument, known))
            )
    arguments = {
        "dtype": dtype,
        "max_num_seqs": batch_size,
        "max_num_batched_tokens": max(batch_tokens, batch_size),
        "generation_config": "vllm",  # sampling is what the task says, not what lies beside the model
        "enforce_eager": device == "cpu",  # without a GPU compilation costs more than it wins
        "use_tqdm_on_load": False,
        **(one_process() if device == "cpu" else {}),
        **engine,
    }
    try:
        with compiling(device != "cpu" or not arguments["enforce_eager"]):
            model = MeteredVLLM(folder, engine=arguments, **settings)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise EvaluationError(
            f"vLLM can't start with model {name} from {folder}",
            got=" ".join(str(error).split())[:500],
            fix="see its log above; check engine in the config, and that the model fits in the memory",
        ) from error
    if model.prefix_token_id is None:
        model.close()
        raise EvaluationError(f"the tokenizer of model {name} has neither BOS nor EOS", fix=f"set one in {folder}")
    return model
