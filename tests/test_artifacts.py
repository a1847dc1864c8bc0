"""What artifacts/ stores is checked against the names that dvc.lock asks for, and when fetched."""

import configparser
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import PARAMS
from dvc.repo import Repo

import artifacts
from tla.params import UserError

ROOT = PARAMS.parent


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Stores a few files, and gives their paths."""
    monkeypatch.chdir(tmp_path)
    paths = []
    for content, suffix in ((b"weights", ""), (b"rows", ""), (b"[]", ".dir")):
        name = hashlib.md5(content).hexdigest()
        paths.append(artifacts.STORED / name[:2] / (name[2:] + suffix))
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(content)
    return paths


def test_sound_files_pass(stored):
    artifacts.main()


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("content", [b"", b"weightz"])
def test_a_damaged_file_is_named_with_what_to_do(number, content, stored):
    stored[number].write_bytes(content)
    with pytest.raises(UserError, match=f"^{stored[number]}: is damaged .*; run git checkout"):
        artifacts.main()


def test_all_are_counted(stored):
    for path in stored:
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="and 2 more"):
        artifacts.main()


def test_what_this_repository_stores_is_sound(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert list(artifacts.STORED.glob("??/*"))
    artifacts.main()


def test_all_that_dvc_caches_is_stored():
    """Or `make fetch` would stop at what is missing."""
    with Repo(ROOT) as repo:
        wanted = [out.hash_info.value for out in repo.index.outs if out.use_cache]
    assert len(wanted) > 50
    for name in wanted:
        path = ROOT / artifacts.STORED / name[:2] / name[2:]
        assert path.exists(), name
        for each in json.loads(path.read_text()) if name.endswith(".dir") else []:
            assert Path(ROOT, artifacts.STORED, each["md5"][:2], each["md5"][2:]).exists(), each


def test_dvc_takes_no_file_that_is_not_what_the_lock_asks_for(tmp_path, monkeypatch):
    """Without `verify` it does, and calls the stage up to date."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / ".dvc" / "config")
    assert settings["'remote \"artifacts\"'"]["verify"] == "true"

    def dvc(*command):
        return subprocess.run(["dvc", *command], cwd=tmp_path, capture_output=True, text=True)

    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    dvc("init")
    (tmp_path / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text())
    (tmp_path / "weights").write_text("weights")
    assert dvc("add", "weights").returncode == dvc("push").returncode == 0
    (file,) = Path(tmp_path, artifacts.STORED).glob("??/*")
    file.chmod(0o644)
    file.write_text("others")
    (tmp_path / "weights").unlink()
    for cached in Path(tmp_path, ".dvc", "cache").rglob("*"):
        if cached.is_file():
            cached.unlink()
    pulled = dvc("pull")
    assert pulled.returncode != 0 and not (tmp_path / "weights").exists()


def test_a_stage_that_is_to_run_gets_what_it_reads_and_no_more(tmp_path):
    """In a clone without data, where only the tables are to be made anew; here it stops at them."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path], check=True)
    (tmp_path / "stages" / "compare.py").write_text("raise SystemExit('the stage began')\n")
    recipe = re.search(r"\n\tdvc (.*--pull.*)", (ROOT / "Makefile").read_text())[1]
    done = subprocess.run(["dvc", *recipe.replace("$@", "mnist-small").split()], cwd=tmp_path,
                          capture_output=True, text=True)
    assert "the stage began" in done.stderr, done.stderr
    found = tmp_path / "data" / "mnist-small"
    assert (found / "rows" / "tla").exists() and not (found / "models").exists()
