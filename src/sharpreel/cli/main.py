"""The Typer application: commands, signals, entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from sharpreel._version import __version__
from sharpreel.cli import data, diagnostics, evaluate, models, plan, studio, train, upscale, web
from sharpreel.cli.console import noted

app = typer.Typer(
    name="sharpreel",
    help="Turn low-resolution video into high-resolution video, with everything else in it kept.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of `sharpreel --help`.
COMMANDS: tuple[Callable[..., None], ...] = (
    upscale.upscale,
    plan.plan,
    plan.verify,
    models.models,
    models.fetch,
    diagnostics.doctor,
    models.export,
    evaluate.evaluate,
    evaluate.compare,
    train.train,
    train.tune,
    train.recipes,
    studio.studio,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.data_app, name="data")
web.register(app)


def _note_commands(commands: typer.Typer) -> None:
    """Let errors name the options of the command that is running."""
    for info in commands.registered_commands:
        if info.callback is not None:
            info.callback = noted(info.callback)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _note_commands(group.typer_instance)


_note_commands(app)


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"sharpreel {__version__}")
        raise typer.Exit


def main() -> None:
    """The `sharpreel` command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    app()


if __name__ == "__main__":
    main()
