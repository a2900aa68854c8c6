"""`help()` of anything in the package shows neither the environment nor a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import runner

# Walks every module, function, class and method: their help, their default values and the module constants.
WALK = """
import importlib, inspect, os, pkgutil, sys, runner
secret = os.environ["PLANTED_TOKEN"]
shown, seen = [], 0
for found in pkgutil.walk_packages(runner.__path__, "runner."):
    if found.name.endswith("__main__"):
        continue
    module = importlib.import_module(found.name)
    for name, value in vars(module).items():
        owned = str(getattr(value, "__module__", None)).startswith("runner")
        parts = {name: value}
        if inspect.isclass(value) and owned:
            parts |= {f"{name}.{key}": part for key, part in vars(value).items()}
        for label, part in parts.items():
            part = getattr(part, "__func__", part)
            defaults = list(getattr(part, "__defaults__", None) or ())
            defaults += (getattr(part, "__kwdefaults__", None) or {}).values()
            seen += inspect.isfunction(part)
            if part is os.environ or os.environ in defaults or any(secret in repr(item) for item in (*defaults, part)):
                if not inspect.ismodule(part) and label != "__builtins__":
                    shown.append(f"{found.name}.{label}")
print(seen)
print(*sorted(set(shown)))
"""


def test_no_default_value_and_no_constant_has_the_environment() -> None:
    environ = {**os.environ, "PLANTED_TOKEN": "sk-planted-1f2e3d4c5b"}
    walked = subprocess.run([sys.executable, "-c", WALK], env=environ, capture_output=True, text=True, check=True)
    functions, shown = walked.stdout.split("\n")[:2]
    assert int(functions) > 1000
    assert shown == ""


def test_help_of_the_public_names_shows_no_secret() -> None:
    secret = "sk-planted-1f2e3d4c5b"
    names = [
        *(f"runner.{name}" for name in runner.__all__),
        "runner.planning.check_inputs",
        "runner.config.ServiceConfig",
    ]
    program = "import runner, runner.planning, runner.config\n" + "\n".join(f"help({name})" for name in names)
    environ = {**os.environ, "JUDGE_MODEL_TOKEN": secret, "PAGER": "cat"}
    shown = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert re.search(r"load_config\(\s*source", shown.stdout)  # Python 3.13 shows long signatures on several lines
    assert secret not in shown.stdout
    assert "environ({" not in shown.stdout
