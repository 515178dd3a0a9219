"""What mkdocstrings reads: our `Example:` is the section that Google's style calls `Examples:`."""

import re
from typing import Any

import griffe


class OneExample(griffe.Extension):
    """Make the section of examples one that is shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section; called for every object that is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
