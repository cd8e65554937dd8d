"""How good the corpus is: a sample of its pairs, judged by a model, by people, or by the sample world's truth.

    segments --draw_sample--> texts, evenly over sources and rounds --> pairs --> judge (each answer kept) --+
                                                                |--> sheet.csv --> people --> their CSV -----+--> tables
                                                                `--> the sample world's truth ---------------+    6, 10

Files: `judgements.jsonl` (a line a pair, with what every rater said of it), `sheet.csv`, `quality.json`.
"""

from __future__ import annotations

from ipt_stream.analysis.quality.analyze import QualitySettings, analyze_quality

__all__ = ["QualitySettings", "analyze_quality"]
