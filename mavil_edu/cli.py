"""The command line: which commands there are, and how their errors are told. Nothing heavy is imported before a command is known."""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial, wraps
from inspect import getdoc
from pathlib import Path
from typing import Any

import tyro

from mavil_edu import __version__, launch
from mavil_edu.commands import (
    benchmark,
    clips,
    comparing,
    course,
    datasets,
    embedding,
    finetuning,
    inpainting,
    localising,
    masking,
    probing,
    reproducing,
    retrieval,
    shards,
    training,
)
from mavil_edu.commands.common import say
from mavil_edu.config import PRESETS, Config
from mavil_edu.recipe import RECIPES, FinetuneConfig

DESCRIPTION = "Learn, teach and reproduce self-supervised audio-visual learning (MAViL). Begin with: mavil-edu demo"


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument == option or argument.startswith(f"{option}="):
            return following if argument == option else argument.removeprefix(f"{option}=")
    return None


def _config_for(arguments: Sequence[str]) -> Config:
    """The numbers that the arguments begin from, and may change one by one; with --fast those of less work."""
    config = _named_config(arguments)
    if "--fast" not in arguments or arguments[0] != "pretrain":
        return config
    from mavil_edu.fast import fast
    from mavil_edu.processes import join

    return fast(config, join().device, fresh_decoder=_value_of("--start", arguments) is None)


def _named_config(arguments: Sequence[str]) -> Config:
    """The preset that the arguments name, else the config of the model that they start from or are taught by."""
    preset, teacher, start = (_value_of(option, arguments) for option in ("--preset", "--teacher", "--start"))
    if preset is None and teacher and arguments[0] == "pretrain":
        from mavil_edu.teacher import teachers_config

        return teachers_config(teacher)
    if preset is None and start and arguments[0] == "pretrain":
        from mavil_edu.start import starting_config

        return starting_config(start)
    return PRESETS.get(preset, training.tiny)()


def _recipe_for(arguments: Sequence[str]) -> FinetuneConfig:
    """The recipe that the arguments of `finetune` name: its numbers are the others' defaults."""
    return RECIPES.get(_value_of("--recipe", arguments) or "small", FinetuneConfig)()


def _deferred(command: Callable) -> Callable:
    """The same signature, but a call only binds its arguments: parsing is one thing, doing another."""

    @wraps(command)
    def bind(*arguments, **options):
        return partial(command, *arguments, **options)

    return bind


def _parsed(arguments: Sequence[str]) -> Callable[[], int | None]:
    """The command that the arguments ask for, bound to them; exits by itself, with a sentence, where they cannot be.

    A run that is resumed has its own config and seed; options that would be another run's are refused.
    """
    if arguments[0] != "pretrain" or "--resume" not in arguments:
        return _bound(arguments)
    from mavil_edu.resume import begun, check_options

    run = Path(_value_of("--out", arguments) or ".")
    if (stored := begun(run)) is None:
        return _bound(arguments)
    command = _bound(arguments, stored)
    check_options(run, stored, command.keywords, partial(_first_options, stored))
    return command


def _first_options(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The options of the command that began a run; None where it is not known, or this version cannot read it."""
    _program, *arguments = stored.get("command") or [""]
    if arguments[:1] != ["pretrain"]:
        return None
    try:
        with redirect_stderr(io.StringIO()):
            return _bound(arguments, stored).keywords
    except SystemExit:
        return None


def _bound(arguments: Sequence[str], stored: Mapping[str, Any] | None = None) -> Callable[[], int | None]:
    """The command that the arguments ask for. stored: of a run, whose config and seed `pretrain` then has where none are given."""
    pretrain = {"config": stored["config"], "seed": stored["seed"]} if stored else {"config": _config_for(arguments)}
    commands = {
        "demo": _deferred(training.demo),
        "inspect": _deferred(clips.inspect),
        "world": _deferred(clips.world),
        "avmnist": _deferred(datasets.avmnist),
        "subset": _deferred(datasets.subset),
        "pretrain": partial(_deferred(training.pretrain), **pretrain),
        "reconstruct": _deferred(training.reconstruct),
        "masks": _deferred(masking.masks),
        "probe": _deferred(probing.probe),
        "retrieve": _deferred(retrieval.retrieve),
        "localise": _deferred(localising.localise),
        "inpaint": _deferred(inpainting.inpaint),
        "embed": _deferred(embedding.embed),
        "finetune": partial(_deferred(finetuning.finetune), config=_recipe_for(arguments)),
        "reproduce": _deferred(reproducing.reproduce),
        "shards": _deferred(shards.shards),
        "benchmark": _deferred(benchmark.benchmark),
        "check": _deferred(course.check),
        "progress": _deferred(course.progress),
        "doctor": _deferred(course.doctor),
    }
    measured = {"data": benchmark.data, "step": benchmark.step, "fast": benchmark.fast, "predict": benchmark.predict}
    measured |= {"peers": comparing.peers, "decode": comparing.decode, "fbank": comparing.fbank}
    measured |= {"import": comparing.import_, "interact": comparing.interact}
    groups = {"benchmark": {name: _deferred(command) for name, command in measured.items()}}  # commands of two words
    prog, description = "mavil-edu", DESCRIPTION
    if arguments[0] in groups:
        group, *arguments = arguments
        prog, description, commands = f"{prog} {group}", getdoc(commands[group]), groups[group]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(commands, args=arguments or ["--help"], prog=prog, description=description)
    finally:
        if text := said.getvalue():
            say(text.replace("__tyro-dummy-inner__.", "--").rstrip())


def _in_words(error: Exception) -> str:
    """What an error says; one of the system by its name and the file's, and not by its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{str(error.filename):.200}: {error.strerror}."
    return str(error)


def _is_told(error: Exception) -> bool:
    """Whether its words say all there is to know: raised by this package, or of a file that the system names."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    named = isinstance(error, OSError) and error.filename is not None
    return named or Path(frame.f_code.co_filename).is_relative_to(Path(__file__).parent)


def _what_is_kept(arguments: Sequence[str]) -> str:
    """What a stopped command leaves behind, and how to go on."""
    if arguments[:1] != ["pretrain"]:
        return "What is saved is whole."
    run = Path(_value_of("--out", arguments) or ".")
    if any((place / "config.json").exists() for place in (run, run / "1")):  # of --iterations the first stands in 1/
        return "What is saved is whole. To go on: the same command with --resume."
    return "Nothing had been saved yet. To begin again: the same command."


@contextmanager
def _stopped_by_sigterm() -> Iterator[Callable[[], None]]:
    """Within, SIGTERM ends a command as Ctrl-C does. What it yields is called when the command has ended: then SIGTERM changes nothing.

    So an end that is being told is told to its end. Nothing is done outside the main thread, which alone can be told of signals.
    """
    stopping = True

    def stop(_number: int, _frame: object) -> None:
        if stopping:
            raise KeyboardInterrupt("stopped by SIGTERM")

    def ended() -> None:
        nonlocal stopping
        stopping = False

    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: Sequence[str]) -> int:
    """Runs one command, in as many processes as it asks for; returns its exit status."""
    command, ranks = _parsed(arguments or ["--help"]), launch.launched()
    if arguments[:1] != ["pretrain"] and ranks > 1:
        raise ValueError(f"mavil-edu {arguments[0]} runs in one process, and {ranks} were started; only pretrain shares its work.")
    processes = 1 if arguments[:1] != ["pretrain"] else command.keywords["processes"]
    if processes < 1:
        raise ValueError(f"--processes is {processes}; give 1 or more.")
    if processes > 1 and ranks == 1:
        return launch.watch([sys.executable, "-m", "mavil_edu", *arguments], processes)
    launch.hold_lifeline()
    return command() or 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 a verdict against, 2 an error told in one sentence, 130 stopped."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be UTF-8: it is printed as `files.as_text` gives it
            stream.reconfigure(errors="backslashreplace")
    if arguments == ["--version"]:
        print(__version__)
        return 0
    with _stopped_by_sigterm() as ended:
        try:
            try:
                return _run(arguments)
            finally:
                ended()
        except BrokenPipeError:  # the reader of our output has gone, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt as stop:
            if launch.place().rank == 0:
                say(f"\n{str(stop) or 'stopped'}. {_what_is_kept(arguments)}")
            return 130
        except (ValueError, OSError, RuntimeError) as error:
            if os.environ.get("MAVIL_EDU_TRACEBACK"):
                raise
            if not getattr(error, "quiet", False):  # of several processes one tells
                say(f"error: {_in_words(error)}" + ("" if _is_told(error) else "\n(MAVIL_EDU_TRACEBACK=1 shows where it arose.)"))
            return getattr(error, "status", 2)
