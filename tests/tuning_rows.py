"""A made-up row, or a few, for each packaged source, with the columns that its data set has; and what it must become.

`ROWS[source]` are the rows, `PAIRS[source]` the context and its pairs (instruction, response) with no rationale used;
`THOUGHTS[source]` is the response of the first pair that has one, with all rationales used.
"""

from __future__ import annotations

from typing import Any

MILL = "The mill stands by the river. Ada built it in 1802."
STORY = "Ben walked to the barn. The barn is red."
OPTIONS = "\nOptions:\n- {}\n- {}\n- {}\n- {}"
YES_NO = "\nOptions:\n- yes\n- no\n- maybe"


def span(text: str, context: str = MILL) -> dict[str, list[Any]]:
    """A quotation as SQuAD's features have it."""
    return {"text": [text], "answer_start": [context.index(text)]}


ROWS: dict[str, list[dict[str, Any]]] = {
    "qasper": [
        {
            "id": "1", "title": "On mills", "abstract": "We study mills.",
            "full_text": {"section_name": ["Intro", "Data"],
                          "paragraphs": [["Mills grind.", "They are old."], ["We have 40 mills."]]},
            "qas": {
                "question": ["How many mills?", "Are mills old?", "Who paid?", "What do mills do?"],
                "answers": [
                    {"answer": [{"unanswerable": False, "extractive_spans": ["40", "mills"], "yes_no": None,
                                 "free_form_answer": "", "evidence": ["We have 40 mills."]}]},
                    {"answer": [{"unanswerable": False, "extractive_spans": [], "yes_no": True,
                                 "free_form_answer": "", "evidence": []}]},
                    {"answer": [{"unanswerable": True, "extractive_spans": [], "yes_no": None,
                                 "free_form_answer": "", "evidence": []}]},
                    {"answer": [{"unanswerable": False, "extractive_spans": [], "yes_no": None,
                                 "free_form_answer": "They grind.", "evidence": ["Mills grind."]}]},
                ],
            },
        }
    ],
    "covid_qa": [{"document_id": 1, "context": MILL, "question": "When?", "is_impossible": False, "id": 2,
                  "answers": span("1802")}],
    "convfinqa": [
        {"pre_text": ["sales rose .", "costs fell ."], "post_text": ["see note 2 ."], "id": "a",
         "table": [["", "2007", "2006"], ["sales", "30", "20"]],
         "annotation": {"cur_dial": ["what were sales in 2007?"], "exe_ans": 30.0, "cur_program": "30",
                        "cur_type": "number selection", "turn_ind": 0}},
        {"pre_text": ["sales rose .", "costs fell ."], "post_text": ["see note 2 ."], "id": "a",
         "table": [["", "2007", "2006"], ["sales", "30", "20"]],
         "annotation": {"cur_dial": ["what were sales in 2007?", "and the change?"], "exe_ans": 10.0,
                        "cur_program": "subtract(30, 20)", "cur_type": "program", "turn_ind": 1}},
    ],
    "spartqa": [{"story": STORY, "question": "Where is Ben?", "candidate_answers": ["the barn", "the mill"],
                 "answer": 0, "q_type": "FB"}],
    "babi": [{"passage": "Ben went to the barn.\n", "question": "Where is Ben?", "answer": "barn", "task": 1}],
    "qasc": [{"id": "1", "question": "What grinds?", "choices": {"text": ["mills", "barns"], "label": ["A", "B"]},
              "answerKey": "A", "fact1": "Mills have stones", "fact2": "Stones grind", "combinedfact": "Mills grind.",
              "formatted_question": "What grinds? (A) mills (B) barns"}],
    "ecqa": [{"q_no": "1", "q_concept": "barn", "q_text": "Ben is a farmer. Where is his hay?", "q_op1": "barn",
              "q_op2": "sea", "q_op3": "sky", "q_op4": "mill", "q_op5": "well", "q_ans": "barn",
              "taskA_pos": "p", "taskA_neg": "n", "taskB": "Farmers keep hay in barns."}],
    "pubmedqa": [
        {"pubid": number, "question": f"Does {number} help?", "long_answer": "It helped most.", "final_decision": "yes",
         "context": {"contexts": [f"Group {number} was large.", "They were seen."], "labels": ["A", "B"],
                     "meshes": []}}
        for number in range(3)
    ],
    "squad": [{"id": "1", "title": "Mills", "context": MILL, "question": "Who built it?", "answers": span("Ada")}],
    "topiocqa": [
        {"Conversation_no": 1, "Turn_no": turn, "Question": question, "Answer": answer, "Topic": "Mills",
         "Topic_section": "History", "Rationale": rationale, "Context": [], "is_nq": False,
         "Gold_passage": {"id": "9", "title": "Mills [SEP] History", "text": MILL}}
        for turn, question, answer, rationale in [
            (1, "who built it", "It was Ada.", "Ada built it in 1802."), (2, "why", "UNANSWERABLE", "")]
    ],
    "quac": [
        {"dialogue_id": "1", "wikipedia_page_title": "Mills", "background": "b", "section_title": "s",
         "context": f"{MILL} CANNOTANSWER", "turn_ids": ["0", "1"], "questions": ["who built it", "why"],
         "followups": [0, 1], "yesnos": [2, 2], "answers": {"texts": [["Ada"], ["CANNOTANSWER"]],
                                                           "answer_starts": [[30], [52]]},
         "orig_answers": {"texts": ["Ada", "CANNOTANSWER"], "answer_starts": [30, 52]}}
    ],
    "wikitablequestions": [{"id": "1", "question": "what are the towers?", "answers": ["Low", "High"],
                            "table": {"header": ["Tower", "Year"], "rows": [["Low", "1802"], ["High", "1803"]],
                                      "name": "t.csv"}}],
    "qed": [{"example_id": 1, "title_text": "Mills", "url": "u", "question": "who built the mill",
             "paragraph_text": MILL, "sentence_starts": [0, 30],
             "original_nq_answers": [{"start": 30, "end": 33, "string": "Ada"}],
             "annotation": {"referential_equalities": [], "answer": [], "explanation_type": "single_sentence",
                            "selected_sentence": {"start": 30, "end": 51, "string": "Ada built it in 1802."}}}],
    "hotpotqa": [{"id": "1", "question": "Who built Ben's mill?", "answer": "Ada", "type": "bridge", "level": "easy",
                  "supporting_facts": {"title": ["Ben"], "sent_id": [0]},
                  "context": {"title": ["Ben", "Mill"],
                              "sentences": [["Ben has a mill."], ["Ada built it.", " It grinds."]]}}],
    "fairytaleqa": [{"story_name": "mill", "story_section": STORY, "question": "Where did Ben walk?",
                     "answer1": "to the barn", "answer2": "the barn", "local-or-sum": "local", "attribute": "action",
                     "ex-or-im": "explicit", "ex-or-im2": ""}],
    "narrativeqa": [{"document": {"id": "1", "kind": "gutenberg", "url": "u", "file_size": 1, "word_count": 1,
                                  "start": "s", "end": "e", "text": "the whole book",
                                  "summary": {"text": STORY, "tokens": [], "url": "u", "title": "Barn"}},
                     "question": {"text": "Who walks?", "tokens": []},
                     "answers": [{"text": "Ben", "tokens": []}, {"text": "Ben walks", "tokens": []}]}],
    "mctest": [{"idx": {"story": "1", "question": "0"}, "story": "Ben walked.\\newlineThe barn is red.", "question":
                "What is red?", "answer_options": {"A": "Ben", "B": "the barn", "C": "hay", "D": "he"}, "answer": "B",
                "properties": {}, "question_is_multiple": False}],
    "nlquad": [{"title": "News", "date": "1 May",
                "paragraphs": [{"context": MILL, "qas": [{"id": "1", "question": "What happened?", "answers": [
                    {"text": "Ada built it in 1802.", "answer_start": 30, "answer_end": 51}]}]}]}],
    "newsqa": [{"context": MILL, "question": "Who built it?", "answers": ["Ada"], "key": "k",
                "labels": [{"start": [30], "end": [32]}]}],
    "triviaqa": [{"question": "Which miller built it?", "question_id": "1", "question_source": "s",
                  "entity_pages": {"doc_source": ["a", "b"], "filename": ["f", "g"], "title": ["M", "N"],
                                   "wiki_context": [MILL, "Nothing is said here."]},
                  "search_results": {}, "answer": {"value": "ADA", "aliases": ["Ada"], "normalized_value": "ada"}}],
    "race": [{"example_id": "1", "article": STORY, "question": "What colour?", "answer": "C",
              "options": ["blue", "green", "red", "black"]}],
    "race_c": [{"article": STORY, "question": "What colour?", "option": ["blue", "green", "red", "black"], "label": 2}],
    "dream": [{"id": 1, "dialogue_id": "1", "dialogue": ["M: Where is Ben?", "W: In the barn."], "question":
               "Where is Ben?", "choice": ["In a mill.", "In the barn.", "At sea."], "answer": "In the barn."}],
    "logiqa": [{"label": "d", "context": STORY, "question": "Which follows?",
                "options": ["a mill", "a well", "no barn", "a red barn"]}],
    "reclor": [{"context": STORY, "question": "Which follows?", "answers": ["a mill", "a well", "no", "a red barn"],
                "label": 3, "id_string": "train_0"}],
    "aqua_rat": [{"question": "A train goes 3 km in 1 h. How fast is it?", "options": ["A)3", "B)4", "C)5"],
                  "rationale": "3 / 1 = 3\nAnswer - A", "correct": "A"}],
    "tweetqa": [{"Question": "who sings?", "Answer": ["the miller", "miller"], "Tweet": "The miller sings!",
                 "qid": "1"}],
    "coqa": [{"source": "wiki", "story": MILL, "questions": ["Who built it?", "When?"],
              "answers": {"input_text": ["Ada did", "in 1802"], "answer_start": [30, 30], "answer_end": [51, 51]}}],
    "doqa": [{"title": "t", "background": "b", "context": f"{MILL} CANNOTANSWER", "question": question, "id": "1",
              "answers": found, "followup": "n", "yesno": "x", "orig_answer": found}
             for question, found in [("Who built it?", span("Ada")),
                                     ("Why?", {"text": ["CANNOTANSWER"], "answer_start": [52]})]],
    "ropes": [{"id": "1", "background": "Mills grind.", "situation": "Ben has a mill.", "question": "What can Ben do?",
               "answers": {"text": ["grind"]}}],
    "quartz": [{"id": "1", "question": "Wet hay burns", "choices": {"text": ["faster", "slower"], "label": ["A", "B"]},
                "answerKey": "B", "para": "Dry hay burns faster.", "para_id": "p", "para_anno": {},
                "question_anno": {}}],
    "multirc": [{"paragraph": STORY, "question": "What is there?", "answer": answer, "label": label,
                 "idx": {"paragraph": 0, "question": 0, "answer": number}}
                for number, (answer, label) in enumerate([("Ben", 1), ("a well", 0), (" a barn", 1)])],
    "quail": [{"id": "1", "context_id": "c", "question_id": "q", "domain": "blogs", "metadata": {}, "context": STORY,
               "question": "What is red?", "question_type": "t", "answers": ["Ben", "the barn", "hay", "not said"],
               "correct_answer_id": 1}],
    "cosmosqa": [{"id": "1", "context": STORY, "question": "Why did Ben walk?", "answer0": "To rest.",
                  "answer1": "To see the barn.", "answer2": "To swim.", "answer3": "None.", "label": 1}],
    "socialiqa": [{"context": "Ben helped Ada.", "question": "How does Ada feel?", "answerA": "sad",
                   "answerB": "thankful", "answerC": "tired", "label": "2"}],
    "textbookqa": [{"context": MILL, "question": "Who built it?", "answers": ["Ada"], "key": "k", "labels": []}],
    "fever": [{"claim": "Ada built a mill.", "label": "SUPPORTS", "id": 1, "verifiable": "VERIFIABLE",
               "original_id": 2, "evidence": [["Mill", "0", "Ada built it."], ["Ada", "3", "She is a miller."]]}],
}  # fmt: skip

QASPER = "On mills\n\nWe study mills.\n\nIntro\n\nMills grind.\n\nThey are old.\n\nData\n\nWe have 40 mills."
TABLE = " | 2007 | 2006\nsales | 30 | 20\n"
RED = ("What is red?" + OPTIONS.format("Ben", "the barn", "hay", "he"), "the barn")
COLOUR = ("What colour?" + OPTIONS.format("blue", "green", "red", "black"), "red")

PAIRS: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {
    "qasper": [(QASPER, [("How many mills?", "40, mills"), ("Are mills old?", "yes"),
                         ("What do mills do?", "They grind.")])],
    "covid_qa": [(MILL, [("When?", "1802")])],
    "convfinqa": [(f"sales rose . costs fell .\n\n{TABLE}\nsee note 2 .",
                   [("what were sales in 2007?", "30.0"), ("and the change?", "10.0")])],
    "spartqa": [(STORY, [("Where is Ben?\nOptions:\n- the barn\n- the mill", "the barn")])],
    "babi": [("Ben went to the barn.", [("Where is Ben?", "barn")])],
    "qasc": [("Mills have stones. Stones grind.", [("What grinds?\nOptions:\n- mills\n- barns", "mills")])],
    "ecqa": [("Ben is a farmer. Where is his hay?",
              [("Where is his hay?\nOptions:\n- barn\n- sea\n- sky\n- mill\n- well", "barn")])],
    "squad": [(MILL, [("Who built it?", "Ada")])],
    "topiocqa": [(MILL, [("who built it", "It was Ada.")])],
    "quac": [(MILL, [("who built it", "Ada")])],
    "wikitablequestions": [("Tower | Year\nLow | 1802\nHigh | 1803", [("what are the towers?", "Low, High")])],
    "qed": [(MILL, [("who built the mill?", "Ada")])],
    "hotpotqa": [("Ben\nBen has a mill.\n\nMill\nAda built it. It grinds.", [("Who built Ben's mill?", "Ada")])],
    "fairytaleqa": [(STORY, [("Where did Ben walk?", "to the barn")])],
    "narrativeqa": [(STORY, [("Who walks?", "Ben")])],
    "mctest": [("Ben walked.\nThe barn is red.", [RED])],
    "nlquad": [(MILL, [("What happened?", "Ada built it in 1802.")])],
    "newsqa": [(MILL, [("Who built it?", "Ada")])],
    "triviaqa": [(MILL, [("Which miller built it?", "ADA")])],
    "race": [(STORY, [COLOUR])],
    "race_c": [(STORY, [COLOUR])],
    "dream": [("M: Where is Ben?\nW: In the barn.",
               [("Where is Ben?\nOptions:\n- In a mill.\n- In the barn.\n- At sea.", "In the barn.")])],
    "logiqa": [(STORY, [("Which follows?" + OPTIONS.format("a mill", "a well", "no barn", "a red barn"),
                         "a red barn")])],
    "reclor": [(STORY, [("Which follows?" + OPTIONS.format("a mill", "a well", "no", "a red barn"), "a red barn")])],
    "aqua_rat": [("A train goes 3 km in 1 h. How fast is it?", [("How fast is it?\nOptions:\n- 3\n- 4\n- 5", "3")])],
    "tweetqa": [("The miller sings!", [("who sings?", "the miller")])],
    "coqa": [(MILL, [("Who built it?", "Ada did"), ("When?", "in 1802")])],
    "doqa": [(MILL, [("Who built it?", "Ada")])],
    "ropes": [("Mills grind.\n\nBen has a mill.", [("What can Ben do?", "grind")])],
    "quartz": [("Dry hay burns faster.", [("Wet hay burns\nOptions:\n- faster\n- slower", "slower")])],
    "multirc": [(STORY, [("What is there?\nOptions:\n- Ben\n- a well\n- a barn", "Ben; a barn")])],
    "quail": [(STORY, [("What is red?" + OPTIONS.format("Ben", "the barn", "hay", "not said"), "the barn")])],
    "cosmosqa": [(STORY, [("Why did Ben walk?" + OPTIONS.format("To rest.", "To see the barn.", "To swim.", "None."),
                           "To see the barn.")])],
    "socialiqa": [("Ben helped Ada.", [("How does Ada feel?\nOptions:\n- sad\n- thankful\n- tired", "thankful")])],
    "textbookqa": [(MILL, [("Who built it?", "Ada")])],
    "fever": [("Ada built it. She is a miller.",
               [("Does the text support or refute that Ada built a mill?\nOptions:\n- It supports it\n- It refutes it\n"
                 "- It does not say enough", "It supports it")])],
}  # fmt: skip

THOUGHTS = {
    "convfinqa": "subtract(30, 20)\nTherefore, the answer is 10.0",
    "qasc": "Mills grind.\nTherefore, the answer is mills",
    "ecqa": "Farmers keep hay in barns.\nTherefore, the answer is barn",
    "qed": "Ada built it in 1802.\nTherefore, the answer is Ada",
    "aqua_rat": "3 / 1 = 3\nAnswer - A\nTherefore, the answer is 3",
    "wikiwhy": "It rained.\nTherefore, the answer is the flood",
}
