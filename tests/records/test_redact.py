"""Credentials and home folders in text that is stored."""

from pathlib import Path

import pytest

from cyclr.records.redact import redact


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://bob:hunter2@tracker.example:5000/x", "https://***@tracker.example:5000/x"),
        ("--mlflow=https://bob:p@ss@tracker.example", "--mlflow=https://***@tracker.example"),
        ("ray://token@head:10001", "ray://***@head:10001"),
        (
            "postgresql+psycopg://u:pw@db/mlflow?sslpassword=x&a=b",
            "postgresql+psycopg://***@db/mlflow?sslpassword=***&a=***",
        ),
        ("404 for url: 'https://host/api?token=abc' (retry)", "404 for url: 'https://host/api?token=***' (retry)"),
        ("https://host/#access_token=abc", "https://host/#access_token=***"),
        ("https://host/users/@bob", "https://host/users/@bob"),
        ("sqlite:////home/alice/mlruns.db", "sqlite:///~/mlruns.db"),
        ("/home/alice/model.py:build", "~/model.py:build"),
        ('File "/home/alice/a b/model.py", line 3', 'File "~/a b/model.py", line 3'),
        ("/Users/alice", "~"),
        ("/root/.venv/bin/cyclr", "~/.venv/bin/cyclr"),
        (r"C:\Users\alice\model.py", r"~\model.py"),
        ("/rootfs/x and /data/home/x and ../home/x", "/rootfs/x and /data/home/x and ../home/x"),
        ("mean 3 / 4 @ home", "mean 3 / 4 @ home"),
    ],
)
def test_credentials_and_home_folders_are_removed(text: str, kept: str) -> None:
    assert redact(text) == kept


def test_the_home_folder_of_the_process_is_removed_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/export/people/alice"))
    assert redact(["/export/people/alice/x", "/export/people/alice2/x"]) == ["~/x", "/export/people/alice2/x"]
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert redact("/data/x") == "/data/x"


def test_text_is_found_in_lists_and_tables_and_nothing_else_changes() -> None:
    content = {"a": ["https://u@h", 1, None, True], "/root/b": {"c": 0.5}}
    assert redact(content) == {"a": ["https://***@h", 1, None, True], "~/b": {"c": 0.5}}
