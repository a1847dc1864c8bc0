"""params.yaml with values at random: it loads, or says in one short line which key is wrong."""

import copy
import time
from pathlib import Path

import pytest
import yaml
from conftest import PARAMS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tla.params import Params, UserError
from tla.train.methods import load_study

EXAMPLES = 200
SHORT, QUICK = 300, 2.0     # characters, seconds
PLAIN = yaml.safe_load(PARAMS.read_text())
STUDY = Path("params.yaml")


def places(tree, above=()):
    """Every key and every position of a list, by what leads there."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


# By how they are found in the file: a section with many values is not found more often.
SECTIONS = {}
for place in places(PLAIN):
    SECTIONS.setdefault(place[0], []).append(place)

NUMBERS = st.one_of(
    st.integers(), st.integers(-3, 3), st.floats(), st.floats(0, 1),
    st.sampled_from([0, 1, -1, 2**31, 2**32, 2**63, 10**9, 10**30, 1e-300, 1e300, float("nan")]))
TEXTS = st.one_of(
    st.text(max_size=50), st.sampled_from(["", "at", "tla-b1", "digits", "test", "null", "~",
                                           "a" * 5000, "../x", "x; touch y", "a\nb", "\x1b[31m"]))
LEAVES = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none(), st.binary(max_size=5), st.dates())
KEYS = st.one_of(st.text(max_size=30), st.integers(), st.none(),
                 st.sampled_from(["lr", "kind", "steps", "seeds", "images", "at"]))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)), max_leaves=8)
PLACES = st.sampled_from(sorted(SECTIONS)).flatmap(lambda name: st.sampled_from(SECTIONS[name]))


def section_of(tree, place):
    """Where the last key of a place lies; None where the way there is gone."""
    for key in place[:-1]:
        try:
            tree = tree[key]
        except (LookupError, TypeError):
            return None
    return tree if isinstance(tree, dict | list) else None


def replaced(tree, place, value):
    section, key = section_of(tree, place), place[-1]
    listed = isinstance(section, list) and isinstance(key, int) and key < len(section)
    if isinstance(section, dict) or listed:
        section[key] = value


def dumped(plain):
    return yaml.dump(plain, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def refused(content):
    """What is said of a file, or None where it loads; in time, in a short line, and never else."""
    STUDY.write_text(content)
    begun = time.process_time()     # of this process: others may be busy
    try:
        assert isinstance(load_study(STUDY), Params)
        return None
    except UserError as error:
        line = str(error)
    finally:
        assert time.process_time() - begun < QUICK
    assert line.startswith("params.yaml: ") and line.isprintable() and len(line) < SHORT, line
    return line.removeprefix("params.yaml: ")


fuzzed = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
                  suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@fuzzed
@given(PLACES, VALUES)
def test_another_value_loads_or_is_refused_by_its_key(place, value):
    plain = copy.deepcopy(PLAIN)
    replaced(plain, place, value)
    said = refused(dumped(plain))
    assert said is None or any(str(key) in said for key in place), said


@fuzzed
@given(PLACES)
def test_without_a_key_it_loads_or_says_which(place):
    plain = copy.deepcopy(PLAIN)
    del section_of(plain, place)[place[-1]]
    said = refused(dumped(plain))
    assert said is None or any(str(key) in said for key in place), said


@fuzzed
@given(PLACES, KEYS, VALUES)
def test_one_key_more_is_refused_or_is_of_a_section_without_fixed_keys(place, key, value):
    plain = copy.deepcopy(PLAIN)
    section = section_of(plain, place)
    if isinstance(section, dict):
        section[key] = value
    said = refused(dumped(plain))
    assert said is None or str(key) in said or repr(key) in said or str(place[0]) in said, said


@fuzzed
@given(st.lists(st.tuples(PLACES, VALUES), min_size=2, max_size=6))
def test_several_other_values_load_or_are_refused_in_one_line(changes):
    plain = copy.deepcopy(PLAIN)
    for place, value in changes:
        replaced(plain, place, value)
    refused(dumped(plain))


@fuzzed
@given(st.integers(0, len(PARAMS.read_text())), st.text(max_size=20))
def test_text_in_any_place_loads_or_is_refused_in_one_line(at, text):
    whole = PARAMS.read_text()
    refused((whole[:at] + text + whole[at:]).encode(errors="replace").decode())
