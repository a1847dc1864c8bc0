"""reports/index.html: claims and reports of all studies on one page that needs no other file."""

import tla.guard  # noqa: F401

import base64
import gzip
import json
import re
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from claims import called, cells
from tla.command import config_parser
from tla.files import AGAIN, read_bytes, read_csv, read_metrics, write_text
from tla.params import UserError
from tla.report.hypotheses import load_summary, path_of, studied
from tla.report.intact import read_table, read_text
from tla.report.labels import DATA, attack_of, model_labels
from tla.report.ledger import VERDICTS, headline
from tla.report.tables import counted_outcome
from tla.train.methods import load_study

WORDS = "confirmed|contradicted|resolved|undefined|run|agrees|disagrees"
PILL = rf"<td[^>]*>((?:not )?({WORDS}))</td>"
SCROLL = '<div class="scroll" tabindex="0" role="region" aria-label="table">'
# Where on the page a file stands; a report under the name of its study.
SECTIONS = {"claims.md": "claims", "methods.md": "words", "REPORT.md": None}
TABLE = r"(?m)((?:^\|.*\n)+)"           # the first one of claims.md is the ledger's
LITERAL = " /:;=,()'!*+[]{}@"   # ends no address and no attribute; the rest is written as %22
# Figures are drawn on white: a browser that asks for dark gets their black and white exchanged.
DARK = ("<style>@media (prefers-color-scheme: dark) { text { fill: #e8e6e1 !important }"
        '[style*="fill: #ffffff"] { fill: #171716 !important }'
        '[style*="stroke: #000000"] { stroke: #e8e6e1 !important }'
        '[style*="stroke: #ffffff"] { stroke: #171716 !important }'
        '[style*="fill: #000000"] { fill: #e8e6e1 !important }'
        '[style*="stroke: #b0b0b0"] { stroke: #55524c !important } }</style>')


def encoded(content: bytes) -> str:
    """Bytes as text of 64 letters."""
    return base64.b64encode(content).decode()


def shortened(svg: str) -> str:
    """The same picture in fewer bytes: one line, coordinates cut to a hundredth of a point."""
    return re.sub(r"\s*\n\s*", " ", re.sub(r"(\.\d\d)\d{3,}", r"\1", svg))


def figure_uri(path: Path) -> str:
    """A figure as an address that holds its whole content, and follows dark and light."""
    svg = re.sub(r"(<svg[^>]*>)", lambda tag: tag[1] + DARK, shortened(read_text(path)), count=1)
    return f"data:image/svg+xml,{quote(svg, safe=LITERAL)}"


def slug(heading: str) -> str:
    """A heading as the end of an address, as GitHub makes it."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def body(text: str, folder: Path, name: str, files: dict[str, str]) -> Markup:
    """Markdown as HTML: its headings one level lower and with anchors, pictures inside.

    folder: where its links start; name: of the section that it becomes. A file that it links to is
    added to `files`, by name, gzipped. Raises FileNotFoundError where there is none.
    """
    def heading(tag: re.Match) -> str:
        level, head = int(tag[1]) + 1, tag[2]
        anchor = name if level == 2 else f"{name}-{slug(head)}"
        return f'<h{level} id="{anchor}">{head}</h{level}>'

    def link(found: re.Match) -> str:
        target = found[1]
        if target.startswith("#"):
            return f'href="#{name}-{target[1:]}"'
        if "://" in target:
            return found[0]
        path = folder / target.partition("#")[0]
        if path.name in SECTIONS:
            return f'href="#{SECTIONS[path.name] or path.parent.name}"'
        file = f"{name}-{path.name}"
        files[file] = encoded(gzip.compress(path.read_bytes(), mtime=0))
        return f'href="#" data-file="{file}"'

    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = re.sub(r"<h(\d)>(.*?)</h\d>", heading, html)
    html = re.sub(r'src="(.+?)\.png"',
                  lambda found: f'src="{figure_uri(folder / f"{found[1]}.svg")}"', html)
    html = re.sub(r'href="(.+?)"', link, html)
    html = html.replace("<table>", f"{SCROLL}<table>").replace("</table>", "</table></div>")
    html = re.sub(r"<p>(<img.+?>)</p>", r"<figure>\1</figure>", html)
    html = re.sub(r"<td[^>]*>([^<]{30,})</td>", r'<td class="long">\1</td>', html)
    return with_pills(html)


def with_pills(html: str) -> Markup:
    """Verdicts in table cells as coloured marks."""
    return Markup(re.sub(PILL, r'<td><span class="pill \2">\1</span></td>', html))


def headings(html: str) -> list[tuple[str, str]]:
    """Anchor and text of the sections of a study or of the claims."""
    return re.findall(r'<h3 id="(.*?)">(.*?)</h3>', html)


def ledger(path: Path) -> list[dict]:
    """For each claim what its line on the page says, and its other readings."""
    table = read_csv(path)
    claims = []
    for first in headline(table).itertuples():
        others = table[(table.claim == first.claim) & (table.index != first.Index)]
        claims.append({"id": first.claim, "called": called(first), "line": cells(first),
                       "data": DATA[first.data],
                       "readings": [cells(line) for line in others.itertuples()]})
    return claims


def width_of(sheet: Path) -> int:
    """Pixels that a picture is wide. Raises UserError where it is none."""
    try:
        with Image.open(sheet) as image:
            image.load()
            return image.width
    except OSError:
        raise UserError(f"{sheet}: is missing or damaged; {AGAIN}") from None


def explorer(name: str) -> dict:
    """What the page's explorer knows of a study: survivors of each attack, and pictures of some."""
    params, folder = load_study(path_of(name)), Path("reports", name)
    survivors = read_table(params, "survivors")
    examples, counts, shown = read_csv(folder / "examples" / "examples.csv"), {}, {}
    for line in survivors.to_dict("records"):
        numbers = [line[key] for key in ("both", "model_only", "other_only", "neither")]
        counts.setdefault(line["outcome"], {})[f"{line['model']} {line['other']}"] = numbers
    for model, part in examples.groupby("model"):
        sheet = folder / "examples" / f"{model}.png"
        lines = part[["label", "pred", "survived_by"]].values.tolist()
        shown[model] = {"sheet": f"data:image/png;base64,{encoded(read_bytes(sheet))}",
                        "size": width_of(sheet) // 2, "lines": lines}
    return {"models": model_labels(params), "counts": counts, "shown": shown,
            "attacks": {outcome: attack_of(outcome) for outcome in counts},
            "pictured": counted_outcome(params, params.evaluate.broken.attack),
            "seed": params.seeds[0]}


def as_script(content: dict) -> Markup:
    """Plain data as JSON that can stand in a script element."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("</", "<\\/"))


def words(files: dict[str, str]) -> Markup:
    """The section of words of docs/methods.md."""
    docs = Path("docs")
    _, found, text = (docs / "methods.md").read_text().partition("\n## Words\n")
    if not found:
        raise UserError(f"{docs / 'methods.md'}: lacks its heading 'Words'; take it from git again")
    text, _, _ = text.partition("\n## ")
    return body(f"# Words\n{text}", docs, "words", files)


def render(config: str | Path) -> str:
    """The page of the studies that a file of claims names."""
    summary, reports, studies, files = load_summary(config), Path("reports"), [], {}
    for name in studied(summary):
        studies.append({
            "name": name, "command": "make repro" if name == "digits" else f"make {name}",
            "body": body(read_text(reports / name / "REPORT.md"), reports / name, name, files),
            "params": Path(path_of(name)).read_text()})
    said = read_text(reports / "claims.md").partition("\n## Every claim")[0]
    if len(parts := re.split(TABLE, said, maxsplit=1)) != 3:
        raise UserError(f"{reports / 'claims.md'}: lacks its ledger; {AGAIN}")
    before, _, after = parts
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    stages = Path("stages")
    template = environment.from_string((stages / "page.html").read_text())
    return template.render(
        counts=read_metrics(reports / "claims.json"), verdicts=VERDICTS, studies=studies,
        headings=headings, ledger=ledger(reports / "claims.csv"),
        words=words(files), before=body(before, reports, "claims", files),
        after=body(after, reports, "claims", files),
        explorer=as_script({study["name"]: explorer(study["name"]) for study in studies}),
        files=as_script(files), style=Markup((stages / "page.css").read_text()),
        script=Markup((stages / "page.js").read_text()))


def main(argv: list[str] | None = None) -> None:
    parser = config_parser(__doc__, "the claims")
    write_text(Path("reports", "index.html"), render(parser.parse_args(argv).config))


if __name__ == "__main__":
    main()
