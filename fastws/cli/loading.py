"""Finding the application that `module:app` names."""

import importlib
import os
import sys
import traceback
from typing import Any

import click

import fastws
from fastws.running.runner import RunWhileImported, importing


def load_app(name: str, app_dir: str) -> fastws.App:
    """The App; click.UsageError where there is none. What the user's module raises keeps its traceback."""
    module_name, _, attributes = name.partition(":")
    is_file = module_name.endswith(".py") and (not attributes or os.path.isfile(os.path.join(app_dir, module_name)))
    if is_file or not module_name or not attributes or not all(module_name.split(".")):
        dotted = os.path.normpath(module_name.removesuffix(".py")).replace(os.sep, ".")
        right = f"{dotted}:{attributes or 'app'}" if is_file and all(dotted.split(".")) else "module:app"
        raise click.UsageError(f"{name!r} does not name an application: write {right}")
    try:
        sys.path.insert(0, os.path.abspath(app_dir))
    except FileNotFoundError:
        raise click.UsageError("the working directory has been deleted: change to another one") from None
    token = importing.set(True)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Only if it is the module itself, or a package it is in; what it imports in turn keeps its traceback.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise click.UsageError(
            f"there is no module {exc.name!r} in {os.path.abspath(app_dir)} or on sys.path"
        ) from None
    except RunWhileImported as error:
        codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        # The last module that is being imported, whichever function it calls.
        caller = [module_name, *(os.path.relpath(one.co_filename) for one in codes if one.co_name == "<module>")][-1]
        raise click.UsageError(f"{caller} calls {error}") from None
    finally:
        importing.reset(token)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise click.UsageError(f"module {module_name!r} has no {attributes!r}") from None
    if not isinstance(found, fastws.App):
        raise click.UsageError(f"{name!r} is a {type(found).__name__}, not a fastws.App")
    return found
