"""reports/index.html: claims and reports of all studies on one page that needs no other file and no network."""

import argparse
import base64
import re
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from tla.files import read_metrics, write_text
from tla.ledger import load_summary, path_of, studied

VERDICTS = r"<td[^>]*>((?:not )?(confirmed|contradicted|resolved|undefined|run|agrees|disagrees))</td>"
TYPES = {".svg": "image/svg+xml", ".csv": "text/csv", ".yaml": "text/plain"}


def data_uri(path: Path) -> str:
    """A file as an address that holds its whole content."""
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def body(path: Path) -> Markup:
    """A Markdown file as HTML: headings one level lower, pictures and linked files inside, tables that scroll.

    Raises FileNotFoundError where the text links to a file that is not there.
    """
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(path.read_text())
    html = re.sub(r"(</?h)(\d)", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", html)
    html = re.sub(r'src="(.+?)\.png"', lambda link: f'src="{data_uri(path.parent / f"{link[1]}.svg")}"', html)
    html = re.sub(r'href="(.+?)"', lambda link: f'href="{data_uri(path.parent / link[1])}" '
                                                f'download="{path.parent.name}-{Path(link[1]).name}"', html)
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>')
    html = html.replace("</table>", "</table></div>")
    html = re.sub(r"<p>(<img.+?>)</p>", r"<figure>\1</figure>", html)
    return Markup(re.sub(r"<td[^>]*>([^<]{30,})</td>", r'<td class="long">\1</td>', html))


def with_pills(html: Markup) -> Markup:
    """Verdicts in table cells as coloured marks."""
    return Markup(re.sub(VERDICTS, r'<td><span class="pill \2">\1</span></td>', str(html)))


def render(config: str | Path, root: Path = Path()) -> str:
    """The page of the studies that a file of claims names."""
    summary, reports = load_summary(root / config), root / "reports"
    studies = [{"name": name, "command": "make repro" if name == "digits" else f"make {name}",
                "body": body(reports / name / "REPORT.md"), "params": (root / path_of(name)).read_text()}
               for name in studied(summary)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string((root / "stages" / "page.html").read_text()).render(
        counts=read_metrics(reports / "claims.json"), claims=with_pills(body(reports / "claims.md")), studies=studies)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    write_text(Path("reports", "index.html"), render(parser.parse_args(argv).config))


if __name__ == "__main__":
    main()
