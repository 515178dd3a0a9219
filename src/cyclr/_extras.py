"""Optional packages. If a package is missing or too old, the error contains the command to install it."""

import contextlib
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from cyclr.errors import MissingExtraError

LOWEST = {
    "accelerate": "1.10",
    "jax": "0.8",
    "jinja2": "3.1",
    "keras": "3.15",
    "lightning": "2.4",
    "matplotlib": "3.9",
    "mlflow": "2.16",
    "msgspec": "0.22",
    "ray": "2.40",
    "rich": "14.3",
    "safetensors": "0.4.5",
    "scipy": "1.15",
    "sklearn": "1.5",
    "tensorboard": "2.19",
    "tensorflow": "2.19",
    "torch": "2.9",
    "transformers": "5.2",
    "typer": "0.19",
    "wandb": "0.20",
}
"""The lowest versions that pyproject.toml declares, by import name. `scripts/test-versions lowest` tests with them."""

_TITLES = {
    "accelerate": "Accelerate",
    "jax": "JAX",
    "jinja2": "Jinja2",
    "keras": "Keras",
    "lightning": "Lightning",
    "matplotlib": "Matplotlib",
    "mlflow": "MLflow",
    "ray": "Ray",
    "scipy": "SciPy",
    "sklearn": "scikit-learn",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "transformers": "Transformers",
    "wandb": "Weights & Biases",
}
DISTRIBUTIONS = {"mlflow": "mlflow-skinny", "sklearn": "scikit-learn"}
"""Names on the package index by import name, if they differ."""


@contextlib.contextmanager
def needed(user: str, *packages: str, extra: str | None = None) -> Iterator[None]:
    """Raise if the optional packages that are imported in this context are missing or too old.

    Args:
        user: start of the message: the name of the feature, and "needs" or "need".
        packages: names in `LOWEST`. Their modules are in `sys.modules` when the context ends.
        extra: extra of cyclr that installs the packages, or None to install the first package itself.

    Raises:
        MissingExtraError: an import failed, or a package is older than in `LOWEST`.
    """
    try:
        yield
    except ImportError as error:
        titles = " and ".join(_TITLES.get(package, package) for package in packages)
        wanted = f"cyclr[{extra}]" if extra else requirement(packages[0])
        raise MissingExtraError(f'{user} {titles} ({error}). Run: pip install "{wanted}".') from error
    check(user, *packages)


def check(user: str, *packages: str) -> None:
    """Raise `MissingExtraError` if an imported package is older than in `LOWEST`. `user` is as for `needed`."""
    for package in packages:
        version = _version(package)
        if _numbers(version) < _numbers(LOWEST[package]):
            raise MissingExtraError(
                f"{user} {_TITLES.get(package, package)} {LOWEST[package]} or newer; got {version}. "
                f'Run: pip install "{requirement(package)}".'
            )


def requirement(package: str) -> str:
    """Return the requirement with which pip installs a package in a supported version."""
    return f"{DISTRIBUTIONS.get(package, package)}>={LOWEST[package]}"


def _version(package: str) -> str:
    # `rich` has no `__version__`. Some packages compute it and warn, which `vars` avoids.
    found = vars(sys.modules[package]).get("__version__")
    if found is None:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.version(DISTRIBUTIONS.get(package, package))
    return str(found)


def _numbers(version: str) -> tuple[float, ...]:
    """Return the numbers at the start of a version. A pre-release counts as its release.

    A version without numbers, such as a user's own build, counts as the newest.
    """
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else (float("inf"),)
