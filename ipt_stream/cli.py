"""`ipt-stream VERB CONFIG.yaml [dotted.key=value ...]`: one verb a stage, `run` for a recipe of them.

Exit codes: 0 done; 1 failed, with one line that says what was wanted, what was got and what to do; 2 bad usage or
configuration; 3 finished, with more rejects than the configuration allows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from ipt_stream.config import build, load_mapping, merge
from ipt_stream.errors import IptError
from ipt_stream.progress import log, set_up_logging
from ipt_stream.stage import StageReport
from ipt_stream.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    parser = _parser()
    # argparse gives up on positional arguments that follow an option; settings may stand anywhere.
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    set_up_logging()
    try:
        return _run(options)
    except IptError as error:
        log.error("error: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("error: interrupted; run the same command again to go on")
        return 1


def entry() -> None:
    """The console script."""
    sys.exit(main())


def _run(options: argparse.Namespace) -> int:
    if options.verb == "run":
        from ipt_stream.recipe import run_recipe_file

        return run_recipe_file(options.config, options.overrides)
    if options.verb == "status":
        from ipt_stream.status import format_status, read_status

        found = read_status(options.directory)
        _say(json.dumps(found, indent=2) if options.json else format_status(options.directory, found))
        return 0
    if options.verb == "view":
        from ipt_stream.view import read_view
        from ipt_stream.view.show import format_view

        chosen = {"source": options.source, "number": options.n, "seed": options.seed}
        view = read_view(options.directory, **chosen, characters=options.characters)
        records = [json.dumps(item.record()) for item in view.items]
        _say("\n".join(records) if options.json else format_view(view, colour=sys.stdout.isatty()))
        return 0
    verb = VERBS[options.verb]
    overrides = [*options.overrides, *["dry_run=true"] * getattr(options, "dry_run", False)]
    if options.verb == "sample-world":
        mapping = {"output": options.directory, "seed": options.seed, "documents": options.documents}
        given = {key: value for key, value in mapping.items() if value is not None}
        config = build(verb.load_config_class(), merge(given, overrides, "sample-world"), "sample-world")
    else:
        config = build(verb.load_config_class(), load_mapping(options.config, overrides), options.config)
    _print_report(options.verb, verb.load_function()(config))
    return 0


def _print_report(verb: str, report: StageReport) -> None:
    if report.skipped:
        log.info("%s: already done, nothing to do", verb)
    _say("\n".join(report.lines))


def _say(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ipt-stream",
        description="Instruction pre-training on streamed shards: raw text in, augmented MDS and trained models out.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        made = _add(verbs, name, verb.help, verb.example)
        if name == "sample-world":
            made.add_argument("directory", metavar="DIR", help="where to write it")
            made.add_argument("--seed", type=int, help="the world's seed (default 0)")
            made.add_argument("--documents", type=int, help="documents in the shards")
            made.add_argument("overrides", metavar="key=value", nargs="*", help="other settings (shard_documents=N)")
            continue
        _add_config(made)
        if "dry_run" in verb.options:
            made.add_argument("--dry-run", action="store_true", help="say what it would be, and write nothing")
    _add_config(_add(verbs, "run", "run a recipe of stages", "ipt-stream run jobs/configs/demo.yaml"))
    status = _add(verbs, "status", "say how far a synthesis run is, from storage alone", "ipt-stream status out/pubmed")
    status.add_argument("directory", metavar="DIR", help="the run's output")
    status.add_argument("--json", action="store_true", help="as JSON")
    text = "show what training will see: random sequences, texts or examples, decoded, with borders and sources marked"
    view = _add(verbs, "view", text, "ipt-stream view out/mixture --n 5")
    view.add_argument("directory", metavar="DIR", help="a mixture, its sources/NAME or text/NAME, or a synthesis run")
    view.add_argument("--source", metavar="S", help="a source of the mixture; of a run, augmented or raw (default all)")
    view.add_argument("--n", type=int, default=3, metavar="N", help="how many (default 3)")
    view.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default 0)")
    view.add_argument("--characters", type=int, metavar="N", help="at most so many of each text (default all)")
    view.add_argument("--json", action="store_true", help="as JSON, one line an item")
    return parser


def _add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", help="the settings")
    parser.add_argument("overrides", metavar="dotted.key=value", nargs="*", help="settings to change")


def job(verb: str) -> int:
    """What `jobs/VERB.py` calls: the same arguments as the verb's."""
    return main([verb, *sys.argv[1:]])


if __name__ == "__main__":
    entry()
