"""Credentials, hosts, users and home folders in what is stored, logged and printed."""

import getpass
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr._redact import credentials, redact, restore, shell

CASES = {
    "user and password": ("https://bob:hunter2@tracker.example:5000/x", "https://***/x"),
    "password with @": ("--mlflow=https://bob:p@ss@tracker.example", "--mlflow=https://***"),
    "password with / and ?": ("https://bob:pa/ss?wo#rd@h/x", "https://***/x"),
    "password with a space": ("https://bob:my pass@h/x", "https://***/x"),
    "token as user": ("ray://token@head:10001", "ray://***"),
    "database": (
        "postgresql+psycopg://u:pw@db/m?sslpassword=x&a=b",
        "postgresql+psycopg://***/m?sslpassword=***&a=***",
    ),
    "redis": ("redis://:hunter2@cache:6379/0", "redis://***/0"),
    "query in text": (
        "404 for url: 'https://h.org/api?token=abc' (retry)",
        "404 for url: 'https://h.org/api?token=***' (retry)",
    ),
    "query without a name": ("see https://h.org/x?abcdef, later", "see https://h.org/x?***, later"),
    "fragment": ("https://h.org/#access_token=abc", "https://h.org/#access_token=***"),
    "path with @": ("https://h.org/users/@bob", "https://h.org/users/@bob"),
    "encoded user": ("https://bob%3Ahunter2%40x@h", "https://***"),
    "encoded URI": ("to https%3A%2F%2Fbob%3Ahunter2%40h%2Fx now", "to https://***/x now"),
    "encoded twice": ("https%253A%252F%252Fbob%253Ahunter2%2540h", "https://***"),
    "no URI": ("cannot reach bob:hunter2@head:10001", "cannot reach ***"),
    "assignment": ("connect(user, password='hun ter2', retries=3)", "connect(user, password=***, retries=3)"),
    "JSON": ('{"api_key": "hun\\"ter2", "n": 1}', '{"api_key": ***, "n": 1}'),
    "data source": ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
    "tokens of texts": 2 * ("loss_per_token: 0.25, pad_token=0, {'eos_token': '</s>', 'mask_token': '[MASK]'}",),
    "number as a token": ("token=123456, token: 0.5.x", "token=***, token: ***"),
    "number as a password": ("password=1234", "password=***"),
    "header": ("Authorization: Bearer abc.def, retry", "Authorization: ***, retry"),
    "bearer": ("sent bearer abcdef123456", "sent bearer ***"),
    "option in text": ("cyclr --api-key hunter2 --x", "cyclr --api-key *** --x"),
    "environment": ("WANDB_API_KEY=hunter2 cyclr", "WANDB_API_KEY=*** cyclr"),
    "os.environ": ('os.environ["HF_TOKEN"] = "hunter2"', 'os.environ["HF_TOKEN"] = ***'),
    "known format": ("bad hf_abcdefghijklmnopqrstuv, and", "bad ***, and"),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA", "-----BEGIN ***-----END RSA"),
    "node": ("died (ip=10.0.0.7, port 3), 10.0.0.8:6379", "died (ip=***, port 3), ***:6379"),
    "database in a home": ("sqlite:////home/alice/mlruns.db", "sqlite:///~/mlruns.db"),
    "home": ("/home/alice/model.py:build", "~/model.py:build"),
    "home in a traceback": ('File "/home/alice/a b/model.py", line 3', 'File "~/a b/model.py", line 3'),
    "home at the end": ("no file /home/alice, nor /home/bob.", "no file ~, nor ~"),
    "macOS": ("/Users/alice", "~"),
    "root": ("/root/.venv/bin/cyclr", "~/.venv/bin/cyclr"),
    "Windows": (r"C:\Users\alice\model.py", r"~\model.py"),
    "Windows in JSON": (r"C:\\Users\\Jane Doe\\model.py", r"~\\model.py"),
    "Windows with slashes": ("c:/Users/alice/x", "~/x"),
    "WSL and mounts": ("/mnt/c/Users/alice/x /export/home/bob/y", "~/x ~/y"),
    "host with a port": (
        "http://node7:8265 and http://a.b:80/x, http://a.b/x",
        "http://*** and http://***/x, http://a.b/x",
    ),
    "host without a dot": ("http://tracker/x in s3://bucket", "http://***/x in s3://***"),
    "host by its name": ("HTTPConnectionPool(host='t.example', port=5)", "HTTPConnectionPool(host=***, port=5)"),
    "this machine": (
        "http://localhost:8265/x and http://127.0.0.1:5",
        "http://localhost:8265/x and http://127.0.0.1:5",
    ),
    "encoded home": ("file%3A%2F%2F%2Fhome%2Falice%2Fx", "file://~/x"),
}


@pytest.mark.parametrize("case", CASES)
def test_credentials_and_home_folders_are_removed(case: str) -> None:
    text, kept = CASES[case]
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "/rootfs/x and /data/home/x and ../home/x",
        "mean 3 / 4 @ home, a[1:2]@b, x @ y",
        "tokens=128, pad_token_id=0, secretary: x, keys: 3, key=lambda x: x",
        "password=None, token: None",
        "cuDNN 9.1.0.70 on CUDA 12.4.5.8",
        'File "/opt/model.py", line 3, in build\n    return torch.nn.Linear(3, 4)',
        "100% of 5%20",
        "triangular, base_lr 0.1, seed 0 (model.py:build on digits)",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


def test_text_is_found_in_lists_and_tables_and_nothing_else_changes() -> None:
    content = {"a": ["https://u@h", 1, None, True], "/root/b": {"c": 0.5}}
    assert redact(content) == {"a": ["https://***", 1, None, True], "~/b": {"c": 0.5}}


def test_values_are_masked_by_their_names() -> None:
    options = ["--address", "head:10001", "--mlflow=https://t.example/x", "--token", "abc", "--wandb", "rates"]
    assert redact(options)[:3] == ["--address", "***", "--mlflow=https://***"]
    assert redact(options)[3:] == ["--token", "***", "--wandb", "rates"]
    kept = ["--address", "auto", "--mlflow", "./runs", "--mlflow", "sqlite:///runs.db"]
    assert redact(kept) == kept
    table = {"env_vars": {"WANDB_API_KEY": "abc", "PGPASSWORD": 1234}, "host": "n7", "max_token": 128, "user": None}
    masked = {"env_vars": {"WANDB_API_KEY": "***", "PGPASSWORD": "***"}, "host": "***", "max_token": 128, "user": None}
    assert redact(table) == masked


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home folder of a user, who is on a host; a link leads to it."""
    home = tmp_path / "people" / "alicia"
    home.mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "alicia")
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    return home


def test_the_home_folder_is_found_wherever_it_is(alice: Path, tmp_path: Path) -> None:
    texts = [f"{tmp_path}/link/x", f"{alice}/x", f"{alice}.", f"{alice}2/x", f"{tmp_path}/linked"]
    assert redact(texts) == ["~/x", "~/x", "~.", f"{alice}2/x", f"{tmp_path}/linked"]


@pytest.mark.parametrize("home", ["", "/", "relative"])
def test_a_home_folder_that_is_none_changes_nothing(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert redact("/data/relative/x") == "/data/relative/x"


def test_user_and_host_are_removed_and_a_path_is_restored(alice: Path) -> None:
    assert redact("on node7, in /scratch/alicia/x") == "on ***, in /scratch/$USER/x"
    assert restore(redact("/scratch/alicia/x")) == "/scratch/alicia/x"
    assert restore(redact(f"{alice}/x")) == str(alice.parents[1] / "link" / "x")
    # Names of policies are compared with the names in records.
    assert redact({"name": "alicia", "kind": "fixed"}) == {"name": "alicia", "kind": "fixed"}


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise KeyError("uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", fails)
    assert (redact("/data/x"), restore("/data/$USER")) == ("/data/x", "/data/$USER")


def test_what_the_process_was_given_is_found_in_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abcdef0123")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://bob:hun%40ter2@tracker.example:5000")
    monkeypatch.setattr("sys.argv", ["cyclr", "--address", "ray://head.example:10001", "--db-password=swordfish"])
    said = "key abcdef0123, password hun@ter2 (hun%40ter2, swordfish) at tracker.example, head.example"
    assert redact(said) == "key ***, password *** (***, ***) at ***, ***"
    assert credentials(said) == "key ***, password *** (***, ***) at tracker.example, head.example"


def test_hosts_in_the_environment_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head.cluster:10001")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.corp.example")
    assert redact("no head.cluster, no wandb.corp.example, no keras.io") == "no ***, no ***, no keras.io"


def test_a_command_can_be_typed(alice: Path) -> None:
    words = ["cyclr", "compare", "--output", f"{alice}/my run", "--workload", f"{alice}/m.py:build", str(alice)]
    assert shell(words) == "cyclr compare --output ~/'my run' --workload ~/m.py:build '~'"


secrets = st.text("abcXYZ789-._~!$*+=", min_size=8, max_size=20).filter(lambda text: text.strip("*") == text)


def in_place(secret: str, place: str) -> Any:
    """Text or data with a secret in it."""
    places = {
        "user": f"https://{secret}@h/x",
        "password": f"https://bob:{secret}@h/x",
        "query": f"https://h.org/x?a=b&sig={secret}&c=d",
        "fragment": f"https://h/x#access_token={secret}",
        "encoded": quote(f"https://bob:{secret}@h/x", safe=""),
        "encoded twice": quote(quote(f"https://bob:{secret}@h/x", safe=""), safe=""),
        "bare": f"bob:{secret}@head:10001",
        "assignment": f"password={secret!r}",
        "JSON": json.dumps({"api_key": secret}),
        "JSON in JSON": json.dumps(json.dumps({"api_key": secret})),
        "option": f"cyclr --token {secret}",
        "options": ["--token", secret],
        "option with =": [f"--token={secret}"],
        "entry": {"env": {"WANDB_API_KEY": secret}},
        "header": f"Authorization: Bearer {secret}",
    }
    return places[place]


HINTS = " @ token bearer :// Users home/ AKIA %41"
PLACES = ("user", "password", "query", "fragment", "encoded", "encoded twice", "bare", "assignment", "JSON")
PLACES += ("JSON in JSON", "option", "options", "option with =", "entry", "header")
AROUND = ["{}", "failed: {}", "OSError('{}')", "<{}>", "({}),", 'File "x", line 1\n    f("{}")\n', "a {} b"]


@given(secrets, st.sampled_from(PLACES), st.sampled_from(AROUND))
def test_a_secret_is_found_wherever_it_stands(secret: str, place: str, around: str) -> None:
    value = in_place(secret, place)
    value = around.format(value) if isinstance(value, str) else value
    once = redact(value)
    assert secret not in json.dumps(once)
    assert redact(once) == once


@pytest.mark.parametrize(
    "part", ["a", "-", "/home", "%41", "%", "a:", "password=", "://", "a:b@", "\\", "'", "1.1.1.", "("]
)
def test_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """At most some hundred operations a character: a quadratic search would take hours."""
    assert len(redact(part * (100_000 // len(part)) + HINTS)) < 200_000


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text("ab c", max_size=5), lambda one: st.lists(one)))
def test_data_without_secrets_is_equal(value: Any) -> None:
    assert redact(value) == value
