"""The trainer `command`: what it may start, what it gives and what it takes as a result."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.trainers import base, command_folders, command_result
from modelperf.trainers.base import TrainingError
from modelperf.trainers.command_output import Output
from tests.trainers.scripts import GOOD, Commands, Told

COPY = """
    import json, shutil, sys
    _, marker, given, result, artefacts, *rest = sys.argv
    print(rest)
    shutil.copytree(".", artefacts, dirs_exist_ok=True)
    json.dump(RESULT, open(result, "w"))
"""
PLACES = ("{input}", "{result}", "{artefacts}")


@pytest.fixture
def commands(tmp_path: Path, settings: Settings) -> Iterator[Commands]:
    there = Commands(tmp_path, settings)
    yield there
    assert there.alive() == []


def copying(result: Any = GOOD) -> str:
    return COPY.replace("RESULT", repr(result))


def kept(commands: Commands, attempt: int = 1) -> Path:
    return commands.training / "artefacts" / f"{commands.run_id}-{attempt}"


# --- what may be started --------------------------------------------------------------------


def refuse(says: str, **document: Any) -> None:
    with pytest.raises(TrainingError, match=says):
        base.find({"kind": "command", "command": ["train"], **document})


def test_commands_are_off_until_a_folder_is_set() -> None:
    refuse("Set MODELPERF_COMMAND_DIR")


@pytest.mark.parametrize(
    "name", ["/bin/sh", "../outside", "inner/../../outside", "link", "linked/outside"]
)
def test_command_does_not_lead_out_of_its_folder(
    commands: Commands, tmp_path: Path, name: str
) -> None:
    commands.write("", name="../outside")
    (commands.folder / "inner").mkdir()
    (commands.folder / "link").symlink_to(tmp_path / "outside")
    (commands.folder / "linked").symlink_to(tmp_path)
    refuse("is not in MODELPERF_COMMAND_DIR", command=[name])


def test_link_within_the_folder_is_a_command(commands: Commands) -> None:
    commands.write("")
    (commands.folder / "link").symlink_to("train")
    base.find({"kind": "command", "command": ["link"]})


def test_command_is_an_executable_file(commands: Commands) -> None:
    refuse("is no file in MODELPERF_COMMAND_DIR", command=["missing"])
    refuse("is no file in MODELPERF_COMMAND_DIR", command=["."])
    (commands.folder / "plain").write_text("")
    refuse("not executable", command=["plain"])


def test_command_may_not_be_written_by_commands(commands: Commands, settings: Settings) -> None:
    commands.write("")
    settings.TRAINING_DIR = settings.COMMAND_DIR / "training"
    refuse("Keep them apart")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"command": []}, "length >= 1"),
        ({"command": "train --all"}, "array"),
        ({"command": ["train", 5]}, "str"),
        ({"command": ["train", "{data}"]}, "The trainer knows no {data}, only {input}, {result}"),
        ({"command": ["train", "a\0b"]}, "no argument can hold"),
        ({"command": ["tr\0ain"]}, "no argument can hold"),
        ({"command": ["train", "\ud800"]}, "no argument can hold"),
        ({"timeout_seconds": 0.5}, ">= 1"),
        ({"timeout_seconds": 604801}, "<= 604800"),
        ({"memory_bytes": 1000}, "memory_bytes"),
        ({"output_bytes": 0}, "output_bytes"),
        ({"shell": True}, "shell"),
        ({"environment": ["MODELPERF_SECRET_KEY"]}, "may not hold MODELPERF_SECRET_KEY"),
        ({"environment": ["DATABASE_URL"]}, "may not hold DATABASE_URL"),
        ({"environment": ["PGPASSWORD"]}, "may not hold PGPASSWORD"),
        ({"environment": ["HOME"]}, "may not hold HOME"),
        ({"environment": ["A=B"]}, "names no variable: 'A=B'"),
        ({"environment": ["NO_SUCH_VARIABLE"]}, "NO_SUCH_VARIABLE, which is not set here"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    commands: Commands, document: dict[str, Any], says: str
) -> None:
    commands.write("")
    refuse(says, **document)


def test_commands_need_linux(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    refuse("needs Linux")


# --- what it is given -----------------------------------------------------------------------


def test_command_is_given_the_series_and_the_version_before(commands: Commands) -> None:
    previous = SimpleNamespace(id=uuid.uuid4(), model_version=4, artefact={"a": [1.5]})
    machine = SimpleNamespace(id=uuid.uuid4(), name="pump 7", metadata={"floor": 3})
    asked = {"hyperparameters": {"depth": 3}, "previous": previous, "machine": machine}
    commands.train(copying(), *PLACES, asked=asked)
    assert json.loads((kept(commands) / "input.json").read_text()) == {
        "run_id": str(commands.run_id),
        "attempt": 1,
        "machine": {"id": str(machine.id), "name": "pump 7", "metadata": {"floor": 3}},
        "model_type": "baseline",
        "data_start": "2021-01-01T00:00:00Z",
        "data_end": "2021-01-03T00:00:00Z",
        "hyperparameters": {"depth": 3},
        "previous": {"id": str(previous.id), "model_version": 4, "artefact": {"a": [1.5]}},
        "source": None,
        "readings": None,
    }


def test_command_is_given_the_readings_of_the_policys_source(
    commands: Commands, tmp_path: Path, settings: Settings
) -> None:
    settings.SOURCE_DIR = tmp_path.resolve()
    lines = ["time,value,temperature", "2021-01-01T01:00Z,,4", "2021-01-01T00:00Z,0.1,"]
    (tmp_path / "a.csv").write_text("\n".join([*lines, "2021-02-01T00:00Z,3,4\n"]))
    source = {"kind": "files", "pattern": "a.csv"}
    watch = Told()
    commands.train(copying(), *PLACES, asked={"source": source}, watch=watch)
    given = json.loads((kept(commands) / "input.json").read_text())
    assert given["source"] == source
    assert Path(given["readings"]).name == "readings.csv"
    assert (kept(commands) / "readings.csv").read_text() == (
        "start,target,hour_of_day,temperature_c\n"
        "2021-01-01T00:00:00Z,0.1,0,\n"
        "2021-01-01T01:00:00Z,,1,4.0\n"
    )
    assert watch.steps == [(None, "Reads the data.")]


def test_arguments_are_filled_and_seen_by_no_shell(commands: Commands) -> None:
    asked = {"machine": SimpleNamespace(id=uuid.UUID(int=7), name="$(id) 'x' {end}", metadata={})}
    texts = ("{run_id}", "--name={machine_name}", "{machine_id}", "{model_type}", "{start}/{end}")
    trained = commands.train(copying(), *PLACES, *texts, '{"a": 1} *', "", asked=asked)
    assert trained.log == (
        str(
            [
                str(commands.run_id),
                "--name=$(id) 'x' {end}",
                str(uuid.UUID(int=7)),
                "baseline",
                "2021-01-01T00:00:00Z/2021-01-03T00:00:00Z",
                '{"a": 1} *',
                "",
            ]
        )
        + "\n"
    )


def test_name_does_not_become_an_option(commands: Commands) -> None:
    asked = {"machine": SimpleNamespace(id=uuid.uuid4(), name="--help", metadata={})}
    with pytest.raises(TrainingError, match="would become the option '--help'"):
        commands.train(copying(), *PLACES, "{machine_name}", asked=asked)
    trained = commands.train(copying(), *PLACES, "--name={machine_name}", asked=asked)
    assert "--name=--help" in trained.log


def test_environment_is_little_and_holds_no_secret(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@host/name")
    monkeypatch.setenv("FLAVOUR", "vanilla")
    monkeypatch.setenv("OTHER", "not passed on")
    code = copying() + "    import os\n    print(dict(os.environ), os.getcwd())\n"
    passed = {"environment": ["FLAVOUR"]}
    log = commands.train(code, *PLACES, **passed).log.splitlines()[1]
    found, _, folder = log.rpartition(" ")
    variables = json.loads(found.replace("'", '"'))
    variables.pop("LC_CTYPE", None)  # Python sets it where LANG is C
    assert variables == {
        "PATH": os.environ["PATH"],
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "FLAVOUR": "vanilla",
        "HOME": folder,
        "TMPDIR": folder,
    }


# --- what it tells and leaves ---------------------------------------------------------------


def test_result_is_returned_with_progress_and_log(commands: Commands) -> None:
    result = {
        **GOOD,
        "hyperparameters": {"depth": 4},
        "training_samples": None,
        "reference_profiles": [{"counts": {"a": {"values": [1], "counts": [2]}}}],
    }
    code = """
        import json, sys
        print("progress: 40 fitting trees", flush=True)
        json.dump(RESULT, open(sys.argv[2], "w"))
        print("progress: 100% done")
    """.replace("RESULT", repr(result))
    watch = Told()
    trained = commands.train(code, "{result}", watch=watch, asked={"hyperparameters": {"a": 1}})
    assert trained.artefact == {"kind": "mean", "value": 1.5}
    assert trained.feature_names == ("hour_of_day",)
    assert trained.hyperparameters == {"depth": 4}
    assert trained.training_metrics == {"mae": 0.5}
    assert trained.validation_metrics == {"mae": 1.0}
    assert trained.training_samples is None
    assert trained.reference_profiles == (result["reference_profiles"][0],)
    assert trained.log == "progress: 40 fitting trees\nprogress: 100% done\n"
    assert watch.steps[-1] == (100.0, "done")


def test_progress_is_told_while_the_command_is_at_work(commands: Commands) -> None:
    code = """
        import json, os, sys, time
        print("progress: 40 fitting trees", flush=True)
        while not os.path.exists("go on"):
            time.sleep(0.01)
        json.dump(RESULT, open(sys.argv[2], "w"))
    """.replace("RESULT", repr(GOOD))

    def wanted(told: Told) -> bool:
        if told.steps:
            (next((commands.training / "work").iterdir()) / "go on").touch()
        return True

    watch = Told(wanted=wanted)
    commands.train(code, "{result}", watch=watch)
    assert watch.steps == [(40.0, "fitting trees")]


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([b"progress: 40 fitting trees\n"], (40.0, "fitting trees")),
        ([b"progress: 7.5% a\r\n"], (7.5, "a")),
        ([b"progress: reads\n"], (None, "reads")),
        ([b"progress: 3 trees of 9\n"], (3.0, "trees of 9")),
        ([b"progress: 40\n"], (40.0, "")),
        ([b"progress:100\n"], (100.0, "")),
        ([b"pro", b"gress: 1", b"0 a\n"], (10.0, "a")),
        ([b"bar 10%\rprogress: 20 b\r"], (20.0, "b")),
        ([b"progress: 20 b\nprogress: 30 c\nother\n"], (30.0, "c")),
        ([b"progress: 20 b\nprogress: 101 c\n"], (20.0, "b")),
        ([b"progress: 20 \xff\0b\n"], (20.0, "\ufffdb")),
        ([b"progress: 1 " + b"x" * 999_999 + b"\n"], (1.0, "x" * 200)),
        ([b"no progress: 20 b\n"], None),
        ([b"x" * 70_000, b"progress: 20 b\n"], None),
        ([b"progress: 20 b"], None),
    ],
)
def test_lines_of_progress(chunks: list[bytes], told: tuple[float | None, str] | None) -> None:
    output, watch = Output(), Told()
    for chunk in chunks:
        output.add(chunk)
    output.tell(watch)
    output.tell(watch)  # once only
    assert watch.steps == [told] * (told is not None)


def test_artefacts_stay_where_the_run_succeeds_and_its_folder_goes(commands: Commands) -> None:
    (kept(commands) / "inner").mkdir(parents=True)
    (kept(commands) / "inner" / "old").touch()
    code = """
        import json, os, sys
        assert os.listdir(sys.argv[2]) == [], os.listdir(sys.argv[2])
        open(sys.argv[2] + "/model.bin", "wb").write(b"weights")
        json.dump(RESULT, open(sys.argv[3], "w"))
    """.replace("RESULT", repr(GOOD))
    commands.train(code, "{artefacts}", "{result}")
    assert (kept(commands) / "model.bin").read_bytes() == b"weights"
    assert commands.left() == [
        f"artefacts/{kept(commands).name}{end}" for end in ("", "/model.bin")
    ]


@pytest.mark.parametrize("result", [GOOD, {"broken": True}])
def test_artefacts_of_a_run_that_fails_are_removed(commands: Commands, result: Any) -> None:
    code = copying(result) + ("    sys.exit(3)\n" if result is GOOD else "")
    with pytest.raises(TrainingError) as raised:
        commands.train(code, *PLACES, "said")
    assert raised.value.log == "['said']\n"
    assert commands.left() == []


def test_attempts_have_artefacts_of_their_own(commands: Commands) -> None:
    commands.train(copying(), *PLACES, asked={"attempt": 2})
    with command_folders.opened(run_id=commands.run_id, attempt=1):
        assert kept(commands, 2).is_dir()  # an earlier one removes no later one's
    commands.train(copying(), *PLACES, asked={"attempt": 3})
    assert [path.name for path in (commands.training / "artefacts").iterdir()] == [
        kept(commands, 3).name
    ]
    command_folders.discard_artefacts(run_id=commands.run_id)
    assert commands.left() == []


# --- results --------------------------------------------------------------------------------


def read(content: Any, folder: Path) -> base.TrainedModel:
    path = folder / "result.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return command_result.read(path, hyperparameters={"asked": 1}, log="")


def test_hyperparameters_are_those_asked_unless_told_otherwise(tmp_path: Path) -> None:
    assert read(GOOD, tmp_path).hyperparameters == {"asked": 1}
    assert read({**GOOD, "hyperparameters": {}}, tmp_path).hyperparameters == {}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def raw(name: str, value: str) -> bytes:
    return json.dumps({**without(name), name: "PLACE"}).replace('"PLACE"', value).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The result is not JSON"),
        (b'{"artefact": ', "The result is not JSON"),
        (b"\xff\xfe", "The result is not UTF-8."),
        (b"[]", "The result: Expected `object`, got `array`."),
        (b"[" * 100_000, "deeper than 64 levels"),
        (raw("artefact", '{"a":' * 65 + "1" + "}" * 65), "deeper than 64 levels"),
        (raw("validation_metrics", '{"mae": NaN}'), "validation_metrics.mae is not a finite"),
        (raw("training_metrics", '{"a": -Infinity}'), "training_metrics.a is not a finite number"),
        (raw("artefact", '{"a": [1, 1e999]}'), "The result's artefact.a.1 is not a finite number."),
        (raw("training_metrics", '{"a": 1' + "0" * 400 + "}"), "training_metrics.a is not a finit"),
        (raw("artefact", '{"a": 1' + "0" * 5000 + "}"), "The result is not JSON"),
        (raw("artefact", '{"a": 1, "a": 2}'), "The result gives 'a' twice."),
        (raw("artefact", r'{"a": "\u0000"}'), "artefact.a has a character that is no text"),
        (raw("artefact", r'{"\ud800": 1}'), "artefact has a character that is no text"),
        ({**GOOD, "validation_metrics": {"mae": None}}, "mae is not a finite number"),
        ({**GOOD, "validation_metrics": {"mae": "0.1"}}, "mae is not a finite number"),
        ({**GOOD, "validation_metrics": {"mae": True}}, "mae is not a finite number"),
        ({**GOOD, "validation_metrics": {"1a": 1}}, "a metric '1a': a name is a letter"),
        ({**GOOD, "validation_metrics": [1]}, r"\$.validation_metrics"),
        ({**GOOD, "training_samples": -1}, r"training_samples"),
        ({**GOOD, "training_samples": 1.5}, r"training_samples"),
        ({**GOOD, "training_samples": 2**63}, r"training_samples"),
        ({**GOOD, "feature_names": [""]}, r"feature_names"),
        ({**GOOD, "artefact": None}, r"\$.artefact"),
        ({**GOOD, "reference_profiles": [1]}, r"reference_profiles"),
        ({**GOOD, "colour": "red"}, "colour"),
        *((without(name), f"missing required field `{name}`") for name in GOOD),
    ],
)
def test_result_that_is_wrong_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        read(content, tmp_path)


def test_result_is_a_file_of_limited_size(tmp_path: Path) -> None:
    def refused(says: str) -> None:
        with pytest.raises(TrainingError, match=says):
            command_result.read(path, hyperparameters={}, log="")

    path = tmp_path / "result.json"
    refused("ended well and wrote no result")
    path.symlink_to("/etc/passwd")
    refused("The result is no file.")
    path.unlink()
    path.mkdir()
    refused("The result is no file.")
    path.rmdir()
    os.mkfifo(path)
    refused("The result is no file.")
    path.unlink()
    path.write_bytes(b" " * (16 * 1024**2 + 1))
    refused("larger than 16,777,216 bytes")
