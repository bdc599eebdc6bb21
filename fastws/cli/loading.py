"""Finding the application that `module:app` names."""

import importlib
import os
import sys
from typing import Any

import click

import fastws


def load_app(name: str, app_dir: str) -> fastws.App:
    """The App; click.UsageError where there is none. What the user's module raises keeps its traceback."""
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes or not all(module_name.split(".")):
        raise click.UsageError(f"{name!r} does not name an application: write module:app")
    sys.path.insert(0, os.path.abspath(app_dir))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Only if it is the module itself, or a package it is in; what it imports in turn keeps its traceback.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise click.UsageError(
            f"there is no module {exc.name!r} in {os.path.abspath(app_dir)} or on sys.path"
        ) from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise click.UsageError(f"module {module_name!r} has no {attributes!r}") from None
    if not isinstance(found, fastws.App):
        raise click.UsageError(f"{name!r} is a {type(found).__name__}, not a fastws.App")
    return found
