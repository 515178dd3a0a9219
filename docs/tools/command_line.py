"""The command line as Markdown, made from the command itself."""

from typing import Any

PLACE = "[commands]: # (made by docs/tools/command_line.py)"


def markdown() -> str:
    """A section for every command, with a table of its arguments and options."""
    import typer

    from cyclr.cli.app import app

    group: Any = typer.main.get_command(app)
    parts = [str(group.epilog)]
    for name, command in group.commands.items():
        rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        table = "| option | default | meaning |\n|---|---|---|\n" + "\n".join(rows)
        parts.append(f"## cyclr {name}\n\n{command.help}\n\n{table}")
    return "\n\n".join(parts)


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    known = f"`{default}`" if isinstance(default, str | int | float) else ""
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    type_ = getattr(parameter, "type_descriptor", None) or getattr(parameter, "type", None)
    choices = getattr(type_, "choices", None)
    if choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    return " | ".join(["", names, known, meaning.replace("|", "\\|"), ""]).strip()
