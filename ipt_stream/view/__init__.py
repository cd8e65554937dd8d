"""`ipt-stream view DIR`: what training will see, decoded, with the borders of documents and the sources marked.

    DIR                     what is drawn
    a mixture               sequences along the training order, so that sources come up with their planned shares
    MIXTURE/sources/NAME    sequences of one source, decoded with the mixture's tokenizer
    MIXTURE/text/NAME       texts of one source, before they were tokenized
    a synthesis run         examples (texts with their pairs, chained) and raw texts

The same seed draws the same. Reading is at random: only the MDS shards and the segments that hold what was drawn are
read, from a disk or an object store.
"""

from __future__ import annotations

from ipt_stream import storage
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.view.items import View


def read_view(
    directory: str, *, source: str | None = None, number: int = 3, seed: int = 0, characters: int | None = None
) -> View:
    """Random items of whatever `directory` holds.

    Args:
        directory: a mixture, one of its MDS directories, or a synthesis run; a path or a URL.
        source: only of this source of a mixture; of a run, `augmented` or `raw`.
        number: how many, where there are as many.
        seed: which ones.
        characters: at most so many of each text; None: all.

    Raises:
        ConfigError: a number that can't be, or no such source.
        InputError: the directory is none of these, or its files are not what was written.
        MixtureError: the mixture's plan or data was changed.
        StorageError: something can't be read.
    """
    for name, value, least in (("n", number, 1), ("seed", seed, 0), ("characters", characters, 0)):
        if value is not None and value < least:
            raise ConfigError(f"--{name} can't be {value}", wanted=f"{least} or more", got=str(value))
    from ipt_stream.view.mixtures import view_mds, view_mixture
    from ipt_stream.view.runs import view_run

    plan = storage.join(directory, "plan.json")
    if storage.exists(plan):
        record = storage.read_json(plan)
        kinds = {"sequence_length": view_mixture, "segment_documents": view_run}
        found = [kind for key, kind in kinds.items() if isinstance(record, dict) and key in record]
    else:
        found = [view_mds] if storage.exists(storage.join(directory, "index.json")) else []
    if not found:
        raise InputError(
            f"nothing to view in {directory}",
            wanted="a mixture or a synthesis run (plan.json), or an MDS directory (index.json)",
            got="plan.json of something else" if storage.exists(plan) else "neither",
            fix="name the output of mix or synthesize, or sources/NAME or text/NAME in a mixture",
        )
    view = found[0](directory, source=source, number=number, seed=seed)
    if not view.items:
        of = "" if source is None else f" of source {source}"
        raise InputError(f"nothing{of} to show in {directory}", wanted="something", got=view.lines[0])
    if characters is None:
        return view
    return View(view.lines, tuple(item.shortened(characters) for item in view.items))
