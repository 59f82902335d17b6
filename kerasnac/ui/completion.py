"""Shell completion: of run files, profiles, and models of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from kerasnac.errors import KerasnacError

#: The program, and the variable by which shells ask it for completions; both are click's.
PROGRAM, VARIABLE = "kerasnac", "_KERASNAC_COMPLETE"

#: Where a line that loads the completions belongs, by shell.
STARTUP = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/kerasnac.fish"}

Items = list[CompletionItem]


def run_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the run files that come with kerasnac, and let the shell add files."""
    from kerasnac.core.settings.yaml_files import names

    own = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
    return [*own, CompletionItem(incomplete, type="file")]


def profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the profiles of the run file that stands on the command line."""
    from kerasnac.core.settings.yaml_files import load_plain

    # click does not come to the arguments where an option at the end lacks its value.
    file = context.params.get("file") or next(iter(context.args), "")
    try:
        named = load_plain(file).get("profiles")
    except KerasnacError:  # The command says what is wrong with the file.
        return []
    return [CompletionItem(str(name)) for name in named or () if str(name).startswith(incomplete)]


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the models of the run folder that stands on the command line, by the folders that they have in it."""
    folder = Path(context.params.get("folder") or ".")
    return [CompletionItem(name) for name in dict.fromkeys(_models(folder)) if name.startswith(incomplete)]


def runs_and_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return ``RUN:MODEL`` for a run folder with a colon after it; without, let the shell add folders."""
    folder, colon, start = incomplete.rpartition(":")
    if not colon:
        return [CompletionItem(incomplete, type="dir")]
    return [CompletionItem(f"{folder}:{name}") for name in dict.fromkeys(_models(Path(folder))) if name.startswith(start)]


def _models(folder: Path) -> Iterator[str]:
    for stage in ("firmware", "tuned", "compressed"):
        yield from sorted(p.name for p in folder.glob(f"{stage}/*/") if not p.name.endswith(("-ramp", "-rewind")))


def script(program: click.Command, shell: str) -> str:
    """Return what makes a shell complete the commands of a program.

    Args:
        program: The program.
        shell: A key of :data:`STARTUP`.
    """
    found = get_completion_class(shell)
    assert found is not None
    return found(program, {}, PROGRAM, VARIABLE).source()


@click.command()
@click.argument("shell", type=click.Choice(list(STARTUP)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print what makes SHELL complete commands, options, run files, profiles and models.

    \b
    Examples:
      eval "$(kerasnac completion bash)"              # in ~/.bashrc
      eval "$(kerasnac completion zsh)"               # in ~/.zshrc
      kerasnac completion fish > ~/.config/fish/completions/kerasnac.fish
    """
    click.echo(script(context.find_root().command, shell))
