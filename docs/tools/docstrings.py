"""What mkdocstrings reads: `Example:` is a section, and exported functions are no modules of the same name."""

import re
from typing import Any

import griffe


class AsRead(griffe.Extension):
    """Shows examples as code, and functions instead of the modules that define them."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section; called for every object that is created, before `on_package`."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Let a function that a package exports take the place of the module of its name, as the import does."""
        for package in (pkg, *pkg.modules.values()):
            for name, module in list(package.modules.items()):
                if name in module.functions and name in (package.exports or ()):
                    package.members[name] = griffe.Alias(name, module.functions[name], parent=package)
