import json
import os
import subprocess
from dataclasses import asdict

import torch

from metaformer.core import machine


def test_facts_are_plain_json_values():
    facts = asdict(machine.this_machine())
    assert json.loads(json.dumps(facts)) == facts


def test_facts_name_what_decides_speed():
    assert set(asdict(machine.this_machine())) == {
        "processor",
        "cores",
        "torch_threads",
        "memory_gib",
        "system",
        "accelerator",
    }


def test_threads_are_those_of_torch():
    assert asdict(machine.this_machine())["torch_threads"] == torch.get_num_threads()


def test_cores_are_those_that_the_process_may_use():
    assert 1 <= machine.available_cores() <= (os.cpu_count() or 1)


def test_versions_leave_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(machine, "VERSIONED", ("torch", "no-such-library"))
    assert set(machine.versions()) == {"python", "torch"}


def test_the_commit_is_none_where_git_is_not(monkeypatch):
    def no_git(*_args, **_options):
        raise FileNotFoundError

    machine.commit.cache_clear()
    monkeypatch.setattr(subprocess, "run", no_git)
    assert machine.commit() is None
    machine.commit.cache_clear()


def test_a_changed_checkout_is_marked(monkeypatch):
    answers = {"rev-parse": "0123456789ab", "status": " M file"}
    machine.commit.cache_clear()
    monkeypatch.setattr(machine, "_git", lambda _folder, *words: answers[words[0]])
    assert machine.commit() == "0123456789ab+"
    machine.commit.cache_clear()
