"""Outcomes: each prints and parses its own name, and nothing else is one."""

from itertools import product

import pandas as pd
import pytest

from tla.outcomes import CONVENTIONS, Outcome, is_outcome, outcome_columns

NAMES = {
    "clean": Outcome("clean"), "white-box": Outcome("white-box"), "robust": Outcome("robust"),
    "knn": Outcome("knn"), "fgsm_last": Outcome("fgsm", None, "last"),
    "pgd_400_last": Outcome("pgd", "400", "last"),
    "pgd_2000_worst": Outcome("pgd", "2000", "worst"),
    "pgd-400_last": Outcome("pgd-400", None, "last"),
    "pgd-restarts_last": Outcome("pgd-restarts", None, "last"),
    "cw_worst": Outcome("cw", None, "worst"), "square_worst": Outcome("square", None, "worst"),
    "autoattack_worst": Outcome("autoattack", None, "worst"),
    "autoattack_apgd-ce_worst": Outcome("autoattack", "apgd-ce", "worst"),
    "l2-ddn_0.25_worst": Outcome("l2-ddn", "0.25", "worst")}
NO_OUTCOMES = [
    "", "_", "pgd", "pgd_400", "union", "white_box", "last", "worst", "_last", "_400_last",
    "pgd__last", "pgd_400_", "pgd_last_", "pgd_last_400", "pgd_400_best", "pgd_400_20_last",
    "clean_", "clean_pred", "clean_accuracy", "pgd_linf", "complaint_square", "seed"]


@pytest.mark.parametrize("name", NAMES)
def test_an_outcome_prints_its_name_and_is_parsed_from_it(name):
    assert str(NAMES[name]) == name
    assert Outcome.parse(name) == NAMES[name]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_parsing_what_was_printed_gives_it_back(convention):
    attacks = ["pgd", "fgsm-least-likely", "cw-50", "autoattack"]
    budgets = [None, "20", "fab-t", "1.5"]
    for attack, budget in product(attacks, budgets):
        outcome = Outcome(attack, budget, convention)
        assert Outcome.parse(str(outcome)) == outcome


def test_names_tell_a_budget_from_an_attack_of_that_name():
    assert Outcome.parse("pgd_400_last") != Outcome.parse("pgd-400_last")
    assert len({str(outcome) for outcome in NAMES.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NO_OUTCOMES, ids=repr)
def test_a_name_that_no_outcome_prints_is_refused(name):
    assert not is_outcome(name)
    with pytest.raises(ValueError) as refused:
        Outcome.parse(name)
    assert repr(name) in str(refused.value)


def test_the_columns_of_a_table_that_are_outcomes():
    """In their order, and neither predictions nor distances nor complaints."""
    others = ["seed", "idx", "label", "clean_pred", "pgd_linf", "pgd_pred", "complaint_random"]
    columns = [*others, *NAMES, "eps_1.0", "autoattack_pred"]
    assert outcome_columns(pd.DataFrame(columns=columns)) == list(NAMES)
    assert outcome_columns(pd.DataFrame(columns=others)) == []
