"""reports/index.html: claims and reports of all studies on one page that needs no other file."""

import tla.guard  # noqa: F401

import argparse
import base64
import re
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from tla.files import read_metrics, write_text
from tla.report.hypotheses import load_summary, path_of, studied

WORDS = "confirmed|contradicted|resolved|undefined|run|agrees|disagrees"
VERDICTS = rf"<td[^>]*>((?:not )?({WORDS}))</td>"
TYPES = {".svg": "image/svg+xml", ".csv": "text/csv", ".yaml": "text/plain", ".md": "text/plain"}
SCROLL = '<div class="scroll" tabindex="0" role="region" aria-label="table">'


def data_uri(path: Path) -> str:
    """A file as an address that holds its whole content."""
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def lower_heading(tag: re.Match) -> str:
    """A heading's tag one level lower, as the page has a heading of its own."""
    return f"{tag[1]}{int(tag[2]) + 1}"


def body(path: Path) -> Markup:
    """A Markdown file as HTML: pictures and linked files inside, tables that scroll.

    Raises FileNotFoundError where the text links to a file that is not there.
    """
    def picture(link: re.Match) -> str:
        return f'src="{data_uri(path.parent / f"{link[1]}.svg")}"'

    def download(link: re.Match) -> str:
        name = f"{path.parent.name}-{Path(link[1]).name}"
        return f'href="{data_uri(path.parent / link[1])}" download="{name}"'

    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(path.read_text())
    html = re.sub(r"(</?h)(\d)", lower_heading, html)
    html = re.sub(r'src="(.+?)\.png"', picture, html)
    html = re.sub(r'href="([^#"].*?)"', download, html)
    html = html.replace("<table>", f"{SCROLL}<table>").replace("</table>", "</table></div>")
    html = re.sub(r"<p>(<img.+?>)</p>", r"<figure>\1</figure>", html)
    return Markup(re.sub(r"<td[^>]*>([^<]{30,})</td>", r'<td class="long">\1</td>', html))


def with_pills(html: Markup) -> Markup:
    """Verdicts in table cells as coloured marks."""
    return Markup(re.sub(VERDICTS, r'<td><span class="pill \2">\1</span></td>', str(html)))


def render(config: str | Path, root: Path = Path()) -> str:
    """The page of the studies that a file of claims names."""
    summary, reports, studies = load_summary(root / config), root / "reports", []
    for name in studied(summary):
        studies.append({
            "name": name, "command": "make repro" if name == "digits" else f"make {name}",
            "body": body(reports / name / "REPORT.md"),
            "params": (root / path_of(name)).read_text()})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((root / "stages" / "page.html").read_text())
    return template.render(counts=read_metrics(reports / "claims.json"), studies=studies,
                           claims=with_pills(body(reports / "claims.md")))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    write_text(Path("reports", "index.html"), render(parser.parse_args(argv).config))


if __name__ == "__main__":
    main()
