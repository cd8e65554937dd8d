"""The benchmark's figures, by hand: FLOPs, bytes, the floor, rates, ranges, what a corpus costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from timeline_world import engine, figures

from ipt_stream.benchmark.devices import known_peak, measure_ceilings, peak_flops
from ipt_stream.benchmark.dummy import load_shape
from ipt_stream.benchmark.figures import cost, counts_between, interval, measure
from ipt_stream.benchmark.floor import (
    Precision,
    Shape,
    Work,
    precision_of,
    request_contexts,
    request_read,
    shape_of,
    work_of,
)
from ipt_stream.benchmark.settings import CorpusSettings
from ipt_stream.benchmark.tables import compare_lines, differences, result_lines
from ipt_stream.benchmark.timelines import steady_from, steady_state
from ipt_stream.errors import ConfigError, InputError

TINY = Shape(hidden=2, intermediate=3, layers=1, heads=1, kv_heads=1, head_size=2, vocabulary=5, tied=False)
FLOAT32 = Precision("float32", 4, 4, 4)


class TestFloor:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [("mistral-7b", 7_241_732_096), ("llama-3-8b", 8_030_261_248), ("small", 10_490_112)],
    )
    def test_the_shapes_have_their_models_parameters(self, name: str, parameters: int) -> None:
        shape = shape_of(load_shape(name))
        assert shape is not None
        assert shape.parameters() == parameters

    def test_the_kv_cache_counts_key_and_value_heads_alone(self) -> None:
        shape = shape_of(load_shape("mistral-7b"))
        assert shape is not None
        assert shape.kv_values() * 2 == 131_072  # bytes a token in bfloat16: 2 x 32 layers x 8 heads x 128 x 2

    def test_tied_embeddings_and_other_architectures(self) -> None:
        config = load_shape("small")
        tied = shape_of({**config, "tie_word_embeddings": True})
        assert tied is not None
        assert tied.parameters() == 10_490_112 - 256 * 8192
        assert shape_of({**config, "num_local_experts": 8}) is None
        assert shape_of({"model_type": "mamba"}) is None

    def test_what_a_request_sees_and_reads(self) -> None:
        """10 prompt tokens, 4 of them cached, 3 generated: inputs at places 4 to 11 see 5, 6, ... 12 tokens."""
        assert request_contexts(10, 4, 3) == sum(range(5, 13)) == 68
        assert request_read(10, 4, 3) == 4 + 11 + 12
        assert request_contexts(10, 4, 1) == request_contexts(10, 4, 0) == sum(range(5, 11))
        assert request_read(10, 4, 1) == 4

    def test_flops_and_bytes(self) -> None:
        """34 weights in the layer (4 matrices of 2 x 2, 3 of 2 x 3), 10 in the output layer; 8 inputs, 3 logits."""
        counts = {
            "requests": 1, "steps": 3, "prompt_tokens": 10, "cached_tokens": 4, "generated_tokens": 3, "contexts": 68,
            "read_tokens": 27,
        }  # fmt: skip
        assert (TINY.layer_weights(), TINY.output_weights(), TINY.kv_values()) == (34, 10, 4)
        work = work_of(TINY, FLOAT32, counts)
        assert work.flops == 2 * 34 * 8 + 2 * 10 * 3 + 4 * 1 * 2 * 68
        assert work.bytes == (34 + 10) * 4 * 3 + 4 * 4 * 27

    def test_the_floor_is_the_slower_of_the_two(self) -> None:
        assert Work(flops=100.0, bytes=10.0).floor_seconds(50.0, 10.0) == 2.0
        assert Work(flops=100.0, bytes=10.0).floor_seconds(50.0, 2.0) == 5.0

    def test_what_numbers_are_kept_in(self) -> None:
        assert precision_of("bfloat16", {}, {}) == Precision("bfloat16", 2, 2, 2)
        fp8 = precision_of("bfloat16", {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}, {})
        assert fp8 == Precision("fp8", 1, 2, 1)
        awq = precision_of("bfloat16", {}, {"quantization_config": {"quant_method": "awq"}})
        assert awq == Precision("bfloat16", 0.5, 2, 2)


class TestDevices:
    def test_names_that_drivers_give_are_found(self) -> None:
        peaks = {name: known_peak(name) for name in ("NVIDIA H200", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB")}
        assert {name: peak and peak.bandwidth for name, peak in peaks.items()} == {
            "NVIDIA H200": 4800, "NVIDIA H100 PCIe": 2039, "NVIDIA A100-SXM4-80GB": 2039,
        }  # fmt: skip
        assert known_peak("NVIDIA L40S") != known_peak("NVIDIA L4")
        assert peak_flops("NVIDIA H200", "fp8") == 1978.9e12
        assert peak_flops("NVIDIA A100-SXM4-80GB", "fp8") is None
        assert known_peak("Intel(R) Xeon(R) Processor") is None

    def test_this_machine_can_be_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ipt_stream.benchmark.devices.MEASURE_SECONDS", 0.05)
        monkeypatch.setattr("ipt_stream.benchmark.devices._CPU_SIDE", 256)
        monkeypatch.setattr("ipt_stream.benchmark.devices._CPU_BYTES", 2**22)
        found = measure_ceilings()
        assert found["device"]
        assert min(found["flops"].values()) > 1e8
        assert found["bandwidth"] > 1e8


class TestRates:
    def test_the_range_is_students(self) -> None:
        """s of 10, 11, 12 is 1, t for 2 degrees of freedom 4.3027: 11 -+ 4.3027 / sqrt(3)."""
        assert interval([10.0, 11.0, 12.0]) == pytest.approx((11.0, 11 - 2.4841, 11 + 2.4841), abs=1e-4)
        assert interval([1.0, 2.0, 3.0])[1] == 0.0, "no rate is below zero"
        assert interval([7.0, 7.0]) == (7.0, 7.0, 7.0)

    def test_counts_between_two_moments(self) -> None:
        line = engine()
        counts = counts_between(line, 110.25, 112.75)
        assert counts["raw_tokens"] == pytest.approx(250)
        assert counts["computed_tokens"] == pytest.approx(2.5 * 300)
        assert counts["pairs"] == pytest.approx(5 * 5), "5 pairs an answer, 2 answers a second"
        assert line.at(99.0, "requests") == 0
        assert line.at(1e9, "requests") == 80

    def test_an_engine_that_runs_empty(self) -> None:
        """40 s with 24 requests open, then 23, 17, ...: below nine tenths of 24 from second 41 on."""
        line = engine(drained=5)
        assert line.runs_out() == 140.0
        assert line.ended() == 145.0
        assert engine().runs_out() == 140.0, "its end"

    def test_one_engine(self) -> None:
        found = measure(
            [engine(drained=5)], begun=70.0, least=1, warm_up=10, stopped=None, windows=5, model={}, shape=TINY,
            ceilings={"device": "Some CPU", "flops": {"float32": 1e6}, "bandwidth": 1e4},
        )  # fmt: skip
        assert found["seconds"] == {
            "startup": 30.0, "engine_start": 20.0, "warm_up": 10.0, "steady": 30.0, "tail": pytest.approx(5.0),
        }  # fmt: skip
        total, only = found["total"], found["engines"][0]
        assert total["per_second"]["raw_tokens"] == pytest.approx(100)
        assert total["per_gpu_day"]["generated_tokens"] == pytest.approx(60 * 86_400), "cores count as one GPU"
        assert total["raw_tokens_per_gpu_day"] == pytest.approx(dict.fromkeys(("mean", "low", "high"), 8_640_000))
        assert total["cached_share"] == pytest.approx(0.25)
        assert only["occupancy"] == pytest.approx((16 * 30 + 4) / 31 / 32)
        assert only["sequences_a_step"] == pytest.approx(6)
        # a second: 2 x 34 x (400 - 100 + 60 - 2) + 2 x 10 x 60 + 4 x 2 x 4000, and 10 steps of 176 bytes + 2000 x 16
        assert only["model_flops_per_second"] == pytest.approx(24_344 + 1200 + 32_000)
        assert only["bytes_per_second"] == pytest.approx(1760 + 32_000)
        assert only["utilisation"] == pytest.approx(0.057544)
        assert (only["floor_compute_seconds"], only["floor_read_seconds"]) == pytest.approx((1.72632, 101.28))
        assert total["floor_share"] == pytest.approx(3.376), "the ceilings of this example are low"
        assert found["drift"] == pytest.approx(0.0)

    def test_two_engines_and_a_stop(self) -> None:
        lines = [engine(ready=100), engine(ready=104, name="b", factor=0.5, gpus=1.0)]
        found = measure(
            lines, begun=90, least=2, warm_up=6, stopped=130.0, windows=4, model={}, shape=None, ceilings={}
        )  # fmt: skip
        assert (found["seconds"]["startup"], found["seconds"]["steady"]) == (14, 20)
        assert found["devices"] == 2
        assert found["total"]["per_second"]["raw_tokens"] == pytest.approx(150)
        assert found["total"]["raw_tokens_per_gpu_day"]["mean"] == pytest.approx(75 * 86_400)
        assert [e["per_second"]["raw_tokens"] for e in found["engines"]] == pytest.approx([100, 50])
        assert "floor_share" not in found["total"]

    def test_warm_up_lasts_until_each_engine_has_answered_something(self) -> None:
        """The second one's first answer comes with its sample of second 109, though 6 s of warm-up end at 108."""
        lines = [engine(ready=100), engine(ready=102, name="b")]
        assert steady_from(lines, warm_up=6) == 108.0
        late = replace(lines[1], times=(102.0, *(at + 6 for at in lines[1].times[1:])))
        assert steady_from([lines[0], late], warm_up=6) == 109.0
        assert steady_from([lines[0], replace(late, rows=late.rows[:1], times=late.times[:1])], warm_up=6) is None
        assert [lines[0].answered_after(at) for at in (100.0, 139.5, 140.0, 150.0)] == [True, True, False, False]

    def test_a_moment_with_less_to_do_before_the_stop_is_no_end_of_the_work(self) -> None:
        line = engine(drained=5)
        assert steady_state([line], 10, stopped=141.5) == (110.0, 141.5)
        assert steady_state([line], 10, stopped=143.0) == (110.0, 140.0), "3 s: it ran out of work"
        assert steady_state([line], 10, stopped=130.0) == (110.0, 130.0)

    def test_a_sample_that_is_done_too_soon_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"done before there was a steady state.*raise sample\.documents"):
            measure(
                [engine(seconds=12)], begun=90, least=1, warm_up=10, stopped=None, windows=8, model={}, shape=None,
                ceilings={},
            )  # fmt: skip


class TestCost:
    def test_days_and_money(self) -> None:
        found = cost(figures(2e9, spread=0.2), CorpusSettings(raw_tokens=100e9, price_per_gpu_hour=2.5), 0.2)
        assert found["gpu_days"] == pytest.approx({"mean": 10, "low": 20 / 2.4, "high": 12.5})
        assert found["money"] == pytest.approx({"mean": 600, "low": 500, "high": 750})
        assert "days" not in found

    def test_start_up_and_tail_once_a_gpu(self) -> None:
        """30 s of start-up and 2 s of tail on each of 27 GPUs are a hundredth of a day."""
        found = cost(figures(1e9), CorpusSettings(raw_tokens=1e9, gpus=27), 1.0)
        assert found["gpu_days"]["mean"] == pytest.approx(1.01)
        assert found["days"]["mean"] == pytest.approx(1.01 / 27)

    def test_a_range_without_an_end(self) -> None:
        found = cost(figures(1e9, spread=1.0), CorpusSettings(raw_tokens=1e9, price_per_gpu_hour=1), 1.0)
        assert found["gpu_days"]["high"] is None and found["money"]["high"] is None
        lines = result_lines({**figures(1e9), "cost": found})
        assert any("0.5 to no end) GPU-days" in line for line in lines)


class TestTables:
    def test_the_settings_in_which_two_differ(self) -> None:
        one = {"engine": {"max_num_seqs": 8, "arguments": {}}, "rounds": 2}
        two = {"engine": {"max_num_seqs": 16, "arguments": {"quantization": "fp8"}}, "rounds": 2}
        assert differences([one, two]) == {
            "engine.arguments": [{}, None], "engine.arguments.quantization": [None, "fp8"],
            "engine.max_num_seqs": [8, 16],
        }  # fmt: skip
        lines = compare_lines(["one", "two"], [figures(1e9, **one), figures(1.5e9, **two)])
        assert lines[1].split() == ["raw", "tokens", "a", "GPU-day", "1B", "1.5B", "(1.50x)"]
        assert lines[-1].split() == ["engine.max_num_seqs", "8", "16"]

    def test_a_row_for_each_of_the_first_engines_and_one_for_all(self) -> None:
        """Half as fast, the tenth makes 50 raw tokens a second, the others 100 each: a GPU each, on average 95."""
        lines = [engine(name=str(n), factor=0.5 if n == 9 else 1.0, gpus=1.0) for n in range(10)]
        found = measure(
            lines, begun=90, least=10, warm_up=6, stopped=130.0, windows=4, model={}, shape=None, ceilings={}
        )  # fmt: skip
        told = result_lines(found)
        rows = [line.split() for line in told if line.startswith(("engine ", "all "))]
        first = ["8.64M", "100", "400", "300", "60", "10", "2", "25.0%", "50.0%"]
        assert [row[:4] for row in rows[:-1]] == [["engine", str(n), "on", "h"] for n in range(1, 9)]
        assert [row[4:] for row in rows[:-1]] == [first] * 8
        assert rows[-1] == ["all", "10", "8.21M", "950", "3,800", "2,850", "570", "95", "19", "25.0%", "50.0%"]
        assert "  and 2 more engines, in the result" in told
        assert not any(line.startswith("all ") for line in result_lines(figures(1e9))), "one engine is the total"

    def test_a_state_that_was_not_steady_is_told(self) -> None:
        lines = result_lines({**figures(1e9), "drift": 0.3})
        assert any("+30%" in line and "warm_up_seconds" in line for line in lines)


def test_a_shape_that_is_not_there(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(ConfigError, match="llama-3-8b, mistral-7b, small"):
        load_shape(f"{tmp_path}/none.json")
