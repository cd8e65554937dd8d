"""What a judge was asked and what it cost, as a table of the report."""

from __future__ import annotations

from ipt_stream.analysis.judging.asking import Bill
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.part import Cell, Table


def bill_table(judge: JudgeSettings, bill: Bill) -> Table:
    """The bill: questions, answers, tokens, cost."""
    rows: list[tuple[Cell, ...]] = [
        ("questions", bill.questions),
        ("answered in this run", bill.asked),
        ("answered before", bill.cached),
        ("answers that can't be read", bill.unreadable),
        *[(f"without an answer: {reason}", count) for reason, count in sorted(bill.problems.items())],
        ("tokens in", bill.tokens_in),
        ("tokens out", bill.tokens_out),
        ("tokens in, this run", bill.tokens_in_now),
        ("tokens out, this run", bill.tokens_out_now),
        ("cost", cost_text(judge, bill)),
    ]
    return Table(
        title="What the judge was asked",
        columns=("what", "how much"),
        rows=tuple(rows),
        note=f"Judge: {judge.name()}. Tokens as it counts them; cost by the prices in the settings.",
        how="Summed over the answers in the judge's cache that this analysis needs, those from before too: tokens are "
        "what each answer says of its own use, and cost is tokens in and out times the two prices.",
    )


def cost_text(judge: JudgeSettings, bill: Bill) -> str:
    """What all answers cost, with the currency."""
    return f"{bill.cost(judge):.2f} {judge.endpoint.currency}" if judge.endpoint is not None else "no price"
