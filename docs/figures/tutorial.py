"""Draw the tutorial's pictures by running its pages: what a block draws is the picture that stands below it.

python docs/figures/tutorial.py FOLDER [PAGE ...]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import pages


def draw(page: Path, folder: Path) -> None:
    """Run a page, and save what each of its blocks draws under the names below it, in `folder`."""
    namespace: dict[str, object] = {"__name__": page.stem}
    for code, images in pages.blocks(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec"), namespace)  # noqa: S102 - the page is our own
        figures = [plt.figure(number) for number in plt.get_fignums()]
        if len(figures) != len(images):
            raise SystemExit(f"{page.name}: {len(figures)} figures drawn above {images or 'no picture'}.")
        for figure, image in zip(figures, images, strict=True):
            target = folder / Path(image).relative_to("../images")
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(target, dpi=110)
        plt.close("all")


def main() -> None:
    folder, *names = sys.argv[1:]
    for page in pages.tutorial():
        if not names or page.stem in names:
            draw(page, Path(folder))


if __name__ == "__main__":
    main()
