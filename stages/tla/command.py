"""Command lines of the stages: which study, and which of its models."""

import argparse
from typing import NoReturn

from tla.params import Params, UserError
from tla.train.methods import load_study, parse_model


class Parser(argparse.ArgumentParser):
    """One whose complaints are UserErrors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; --help says more")


def config_parser(description: str, of: str = "the study") -> Parser:
    """A command line that names a params.yaml."""
    parser = Parser(description=description)
    parser.add_argument("config", help=f"params.yaml of {of}")
    return parser


def study_arguments(description: str, argv: list[str] | None) -> Params:
    """The parameters of the study that the command line names."""
    return load_study(config_parser(description).parse_args(argv).config)


def variant_arguments(description: str, argv: list[str] | None) -> tuple[Params, str]:
    """The parameters of a study, and the name of one of its variants; others are refused so too."""
    parser = config_parser(description)
    parser.add_argument("--variant", required=True, help="one of the study's variants")
    arguments = parser.parse_args(argv)
    params = load_study(arguments.config)
    if arguments.variant not in params.variants.trained:
        raise UserError(f"{params.config}: variants.trained: {arguments.variant!r} is not among "
                        f"them; choose one of {', '.join(params.variants.trained) or 'none'}")
    return params, arguments.variant


def model_arguments(description: str, argv: list[str] | None) -> tuple[Params, str]:
    """The parameters of a study, and the name of one of its models.

    A model that the study does not list is refused with a UserError that names those it does.
    """
    parser = config_parser(description)
    parser.add_argument("--model", required=True, help="one of the models that the study lists")
    arguments = parser.parse_args(argv)
    params = load_study(arguments.config)
    return params, parse_model(arguments.model, params).name
