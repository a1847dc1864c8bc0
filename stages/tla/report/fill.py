"""Markdown pages from a template and facts."""

from jinja2 import Environment, StrictUndefined


def fill(template: str, filters: dict, **facts) -> str:
    """The template with its facts put in. Raises jinja2.UndefinedError for a missing fact."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    environment.filters |= filters
    return environment.from_string(template).render(facts)
