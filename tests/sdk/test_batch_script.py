"""Job scripts: their text, and what they do when bash runs them with drivers that play a part."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matensemble.batch import BatchJob, ResourceManager, make_script, parse_walltime
from matensemble.errors import InvalidOptionError
from matensemble.site import Site

HOSTILE_NAMES = [
    "plain",
    'it\'s a "run" of 100 %j',
    "$(touch pwned); `touch pwned`",
    "back\\slash 'and' # no comment",
    "'''\"\"\"",
    "-- flux: #SBATCH überall",
]
SITE = Site(
    account="mat 'n' co",
    queue="batch",
    gpus_per_node=4,
    directives=("--constraint=nvme", "--comment='two words'"),
    modules=("gcc/13", "a b"),
    setup=("export GREETING='hello world'",),
    srun_options=("--mpi=pmi2",),
    flux_options=("-Sstatedir=/tmp/a b",),
    mpi_pmi="pmix",
)


@pytest.fixture(params=["slurm", "flux"], ids="on_{}".format)  # the bare names are markers
def manager(request: pytest.FixtureRequest) -> str:
    return request.param


def make_job(run_dir: Path, manager: str = "slurm", **changes: Any) -> BatchJob:
    values = {"num_nodes": 1, "walltime": 7200.0, "chain": 2} | changes
    return BatchJob(run_dir=run_dir, manager=ResourceManager(manager), **values)


def directives_of(script: str) -> list[str]:
    """Return the words of the directives, as a shell would split them."""
    lines = script.splitlines()
    sentinel = "#SBATCH " if "#SBATCH " in script else "# flux: "
    found = [line.removeprefix(sentinel) for line in lines if line.startswith(sentinel)]
    first = lines.index(sentinel + found[0])
    assert lines[first : first + len(found)] == [sentinel + text for text in found]
    return [word for text in found for word in shlex.split(text)]


# --- what may be asked for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400.0),
        (" 2h ", 7200.0),
        ("1.5d", 129600.0),
        ("45s", 45.0),
        ("02:00:00", 7200.0),
        ("1-12:00:30", 129630.0),
    ],
)
def test_a_walltime(text, seconds):
    assert parse_walltime(text) == seconds


@pytest.mark.parametrize("text", ["120", "1:30", "", "soon", "-2h", "1:99:00", "0h"])
def test_no_walltime(text):
    with pytest.raises(InvalidOptionError, match="walltime"):
        parse_walltime(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_nodes": 0},
        {"walltime": 0.0},
        {"walltime": float("nan")},
        {"chain": -1},
        {"site": Site(mpi_pmi="; rm")},
    ],
)
def test_an_impossible_job(tmp_path, changes):
    with pytest.raises(InvalidOptionError):
        make_job(tmp_path, **changes)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\udcffb"])
def test_a_path_that_would_leave_its_comment_is_refused(tmp_path, name):
    with pytest.raises(InvalidOptionError, match="control characters"):
        make_job(tmp_path / name)


def test_what_flux_would_replace_is_refused(tmp_path):
    make_job(tmp_path / "{{id}}", "slurm")
    with pytest.raises(InvalidOptionError, match="would replace"):
        make_job(tmp_path / "{{id}}", "flux")


# --- the text ---------------------------------------------------------------------------------


def test_directives_for_slurm(tmp_path):
    script = make_script(make_job(tmp_path / "a run %j", num_nodes=3, walltime=90061.5, site=SITE))
    assert directives_of(script) == [
        "--job-name=a run %j",
        "--nodes=3",
        "--ntasks-per-node=1",
        "--exclusive",
        "--time=25:01:01",
        f"--output={tmp_path}/a run %%j/batch-%j.out",
        "--open-mode=append",
        "--account=mat 'n' co",
        "--partition=batch",
        "--gpus-per-node=4",
        "--constraint=nvme",
        "--comment=two words",
    ]


def test_directives_for_flux(tmp_path):
    script = make_script(make_job(tmp_path / "a run", "flux", num_nodes=3, site=SITE))
    assert directives_of(script) == [
        "--job-name=a run",
        "--nodes=3",
        "--exclusive",
        "--time-limit=7200s",
        f"--output={tmp_path}/a run/batch-{{{{id}}}}.out",
        "--bank=mat 'n' co",
        "--queue=batch",
        "--gpus-per-slot=4",
        '--conf=resource.exclude="0"',
        "--broker-opts='-Sstatedir=/tmp/a b'",
        "--constraint=nvme",
        "--comment=two words",
    ]


def test_rank_0_is_left_to_the_broker_where_there_are_more_nodes(tmp_path, manager):
    excludes = [
        "resource.exclude" in make_script(make_job(tmp_path, manager, **changes))
        for changes in (
            {"num_nodes": 1},
            {"num_nodes": 2},
            {"num_nodes": 2, "reserve_broker_node": False},
        )
    ]
    assert excludes == [False, True, False]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("site", [Site(), SITE], ids=["no site", "site"])
def test_bash_can_parse_it(tmp_path, manager, name, site):
    script = make_script(make_job(tmp_path / name, manager, num_nodes=2, site=site))
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_shellcheck_has_nothing_to_say(tmp_path, manager):
    own = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(own) if own.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed here")
    site = Site(modules=("gcc",), srun_options=("--mpi=pmi2",))
    script = make_script(make_job(tmp_path / "a run", manager, num_nodes=2, site=site))
    done = subprocess.run(
        [shellcheck, "--exclude=SC1091", "-"],
        input=script,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


# --- the script in action ---------------------------------------------------------------------

DRIVER = """\
#!/bin/bash
# Plays a driver: its n-th start does what the n-th line of the play says.
printf '%s\\n' "$*" >>"$STAGE/drivers"
eval "$(sed -n "$(wc -l <"$STAGE/drivers")p" "$STAGE/play")"
"""
SUBMIT = """\
#!/bin/bash
printf '%s\\n' "$#" "$@" >>"$STAGE/submitted"
env >"$STAGE/environment"
exit "$(cat "$STAGE/refusal" 2>/dev/null || echo 0)"
"""
SRUN = """\
#!/bin/bash
printf '%s\\n' "$@" >"$STAGE/srun"
while [[ $1 == -* ]]; do shift; done
SLURM_PROCID=0 FLUX_URI=local:///x PMI_FD=7 exec "$@"
"""
FLUX = """\
#!/bin/bash
case $1 in
start)
  shift
  while [[ $1 == -* ]]; do shift; done
  exec "$@" ;;
--parent) exec sbatch "${@:3}" ;;
esac
exit 9
"""
SLEEP = """\
#!/bin/bash
echo "$1" >>"$STAGE/sleeps"
"""
DATE = """\
#!/bin/bash
cat "$STAGE/now" 2>/dev/null || echo 1000000
"""


class Stage:
    """A machine of fakes, on which a script runs as if a resource manager had started it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin_dir = folder / "bin"
        self.bin_dir.mkdir(parents=True)
        self.run_dir = folder / "a 'run'"
        self.environ = {
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "STAGE": str(folder),
            "SLURM_JOB_ID": "7",
            "SLURM_CONF": "/etc/slurm.conf",
        }
        self.add(matensemble=DRIVER, sbatch=SUBMIT, srun=SRUN, flux=FLUX, sleep=SLEEP, date=DATE)

    def add(self, **programs: str) -> None:
        for name, text in programs.items():
            path = self.bin_dir / name
            path.write_text(text)
            path.chmod(0o755)

    def script(self, manager: str, **changes: Any) -> Path:
        path = self.folder / "job script.sh"
        path.write_text(make_script(make_job(self.run_dir, manager, **changes)))
        return path

    def play(self, *lines: str) -> None:
        (self.folder / "play").write_text("\n".join(lines) + "\n")

    def run(self, manager: str, *arguments: str, **changes: Any) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", str(self.script(manager, **changes)), *arguments],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def starts(self) -> int:
        return len(self.lines("drivers"))

    @property
    def submissions(self) -> list[str]:
        """The numbers with which the script was submitted again."""
        words = self.lines("submitted")
        assert words[::3] == ["2"] * (len(words) // 3)
        return words[2::3]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


KILL = "kill -KILL $$"


@pytest.mark.parametrize(
    ("play", "exit_code", "starts", "submissions"),
    [
        (["exit 0"], 0, 1, []),
        (["exit 1"], 1, 1, []),
        (["exit 2"], 2, 1, []),
        (["exit 130"], 130, 1, []),
        (["exit 75"], 75, 1, ["2"]),
        ([KILL, "exit 0"], 0, 2, []),
        ([KILL, "kill -SEGV $$", "exit 75"], 75, 3, ["2"]),
        (["exit 3", "exit 134", KILL, "exit 5"], 5, 4, []),
        # Crashes far from each other are no row.
        ([KILL] * 3 + ["echo 1001000 >$STAGE/now; exit 9"] + [KILL] * 3, 137, 7, []),
        # Whatever the driver says when its time is over: the run is not.
        (["echo 1007170 >$STAGE/now; exit 130"], 75, 1, ["2"]),
        (["echo 1007170 >$STAGE/now; " + KILL], 75, 1, ["2"]),
        (["echo 1007170 >$STAGE/now; exit 1"], 1, 1, []),
    ],
)
def test_how_a_driver_ends(stage, manager, play, exit_code, starts, submissions):
    stage.play(*play)
    done = stage.run(manager)
    assert (done.returncode, stage.starts, stage.submissions) == (exit_code, starts, submissions)
    assert stage.lines("drivers")[0] == (
        f"resume {stage.run_dir} --executor flux --no-progress --walltime 7170s"
    )


def test_a_driver_that_is_started_again_has_less_time(stage, manager):
    stage.play("echo 1000100 >$STAGE/now; " + KILL, "exit 0")
    stage.run(manager)
    assert [line.rsplit(maxsplit=1)[1] for line in stage.lines("drivers")] == ["7170s", "7070s"]


def test_no_driver_is_started_when_the_time_is_over(stage, manager):
    stage.play("echo 1007168 >$STAGE/now; exit 9", "exit 0")
    stage.add(sleep="#!/bin/bash\necho 1007171 >$STAGE/now\n")
    done = stage.run(manager)
    assert (done.returncode, stage.starts, stage.submissions) == (75, 1, ["2"])


def test_no_driver_is_started_that_could_start_nothing(stage, manager):
    stage.play(f"echo 1006990 >$STAGE/now; {KILL}", "exit 2")
    done = stage.run(manager, margin=200.0, resume_options=("--path", "a b"))
    assert (done.returncode, stage.starts, stage.submissions) == (75, 1, ["2"])
    assert stage.lines("drivers")[0].endswith("--margin 200s --path a b --walltime 7170s")


def test_a_chain_ends(stage, manager):
    stage.play(*["exit 75"] * 4)
    for number in ("1", "2", "3"):
        assert stage.run(manager, number).returncode == 75
    assert stage.submissions == ["2", "3"]
    assert stage.run(manager, chain=0).returncode == 75
    assert stage.submissions == ["2", "3"]


def test_the_next_job_does_not_take_itself_for_this_one(stage):
    stage.play("exit 75")
    stage.run("slurm")
    assert stage.lines("submitted") == ["2", str(stage.folder / "job script.sh"), "2"]
    environ = stage.lines("environment")
    ours = [line for line in environ if line.startswith(("SLURM", "FLUX", "PMI"))]
    assert ours == ["SLURM_CONF=/etc/slurm.conf"]


def test_a_submission_that_fails_is_tried_again_and_told(stage, manager):
    stage.play("exit 75")
    (stage.folder / "refusal").write_text("1")
    done = stage.run(manager)
    assert done.returncode == 75
    assert stage.submissions == ["2", "2", "2"]
    assert "submit the script again" in done.stderr


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_and_paths_arrive_as_they_are(stage, manager, name):
    stage.run_dir = stage.folder / name
    stage.play("printf '%s' \"$2\" >$STAGE/seen; exit 0")
    assert stage.run(manager, num_nodes=2).returncode == 0
    assert (stage.folder / "seen").read_text() == str(stage.run_dir)
    assert not list(stage.folder.rglob("pwned"))


def test_the_site_makes_the_environment(stage, manager):
    stage.play('printf "%s\\n" "$GREETING" "$*" >$STAGE/seen; exit 0')
    (stage.folder / "profile").write_text("")
    stage.environ["BASH_FUNC_module%%"] = '() { printf "%s\\n" "$@" >"$STAGE/modules"; }'
    done = stage.run(manager, site=SITE)
    assert done.returncode == 0, done.stderr
    assert stage.lines("modules") == ["load", "gcc/13", "a b"]
    greeting, arguments = stage.lines("seen")
    assert greeting == "hello world"
    assert "--mpi-pmi pmix" in arguments
    stage.environ["BASH_FUNC_module%%"] = "() { false; }"
    assert stage.run(manager, site=SITE).returncode == 2
    assert stage.starts == 1


def test_one_broker_a_node(stage):
    stage.play("exit 0")
    stage.run("slurm", num_nodes=3, site=replace(SITE, modules=()))
    assert stage.lines("srun")[:11] == [
        "--nodes=3",
        "--ntasks=3",
        "--mpi=none",
        "--cpu-bind=none",
        "--mpi=pmi2",
        "flux",
        "start",
        '--conf=resource.exclude="0"',
        "-Sstatedir=/tmp/a b",
        "bash",
        "-c",
    ]


def test_a_program_that_is_missing_is_named(stage, manager):
    (stage.bin_dir / "matensemble").unlink()
    done = stage.run(manager)
    assert done.returncode == 2
    assert "no 'matensemble' on the PATH" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_goes_on_to_the_driver_which_is_waited_for(stage, manager, number):
    ready = stage.folder / "ready"
    os.mkfifo(ready)
    stage.play(
        "trap 'echo TERM >>$STAGE/told; exit 130' TERM; echo now >$STAGE/ready; "
        "/bin/sleep 60 & wait $!",
        "exit 0",
    )
    process = subprocess.Popen(
        ["bash", str(stage.script(manager))],
        env=stage.environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert ready.read_text() == "now\n"
        process.send_signal(number)  # srun and flux exec, so the supervisor has this id as well
        process.wait(20)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 130
    assert set(stage.lines("told")) == {"TERM"}
    assert (stage.starts, stage.submissions) == (1, [])


@pytest.mark.slow
def test_a_driver_that_hangs_is_ended_in_time(stage, manager):
    stage.add(date='#!/bin/bash\nexec /bin/date "$@"\n')
    stage.play("trap 'exit 130' TERM; while :; do read -t 60 <>$STAGE/fifo; done")
    os.mkfifo(stage.folder / "fifo")
    done = stage.run(manager, walltime=3.0)
    assert (done.returncode, stage.starts, stage.submissions) == (75, 1, ["2"])


# --- real Flux --------------------------------------------------------------------------------


@pytest.fixture
def real_stage(stage: Stage, flux_library: None) -> Stage:
    for name in ("flux", "date", "sleep"):
        (stage.bin_dir / name).unlink()
    flux = shutil.which("flux")
    assert flux is not None
    stage.environ["PATH"] = f"{stage.bin_dir}:{Path(flux).parent}:/usr/bin:/bin"
    stage.environ["HOME"] = str(stage.folder)
    stage.run_dir.mkdir()
    return stage


@pytest.mark.slow
@pytest.mark.flux
def test_flux_reads_the_directives_as_they_were_meant(tmp_path, flux_library):
    for name in HOSTILE_NAMES:
        script = tmp_path / "script.sh"
        script.write_text(make_script(make_job(tmp_path / name, "flux", num_nodes=2)))
        done = subprocess.run(
            ["flux", "python", "-m", "flux.job.directives", str(script)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"SETARGS({[f'--job-name={name}']})" in done.stdout
        assert f"SETARGS({[f'--output={tmp_path}/{name}/batch-{{{{id}}}}.out']})" in done.stdout


@pytest.mark.slow
@pytest.mark.flux
def test_a_chain_of_jobs_on_flux_survives_a_killed_driver(real_stage: Stage):
    """The driver is killed, resumed in the same instance, and goes on in a second job."""
    stage = real_stage
    instance = "flux getattr instance-level; flux getattr broker.pid"
    stage.play(
        f"{{ {instance}; }} >$STAGE/first; {KILL}",
        f"{{ {instance}; }} >$STAGE/second; exit 75",
        "exit 0",
    )
    script = stage.script("flux", walltime=100.0)
    commands = (
        'flux batch "$1" && flux queue drain && flux jobs -a -n -o "{status} {returncode} {name}"'
    )
    done = subprocess.run(
        ["flux", "start", "bash", "-c", commands, "bash", str(script)],
        env=stage.environ,
        cwd=stage.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = [line for line in done.stdout.splitlines() if stage.run_dir.name in line]
    assert sorted(ended) == ["COMPLETED 0 a 'run'", "FAILED 75 a 'run'"]
    assert stage.starts == 3
    assert stage.lines("first") == stage.lines("second")
    assert stage.lines("first")[0] == "1"
    outputs = [path.read_text() for path in stage.run_dir.glob("batch-*.out")]
    assert len(outputs) == 2
    assert "the driver crashed (exit code 137)" in "".join(outputs)


@pytest.mark.slow
@pytest.mark.flux
def test_an_instance_inside_slurm_survives_a_killed_driver(real_stage: Stage):
    stage = real_stage
    stage.add(srun=SRUN.replace("FLUX_URI=local:///x PMI_FD=7", ""))
    stage.play(
        f"flux submit sh -c 'sleep 2; echo done >$STAGE/job' >$STAGE/id; {KILL}",
        'flux job attach "$(cat $STAGE/id)" && exit 75',
    )
    done = stage.run("slurm")
    assert done.returncode == 75, done.stderr
    assert stage.lines("job") == ["done"]
    assert stage.submissions == ["2"]
    assert not [line for line in stage.lines("environment") if line.startswith("FLUX")]


@pytest.mark.slow
@pytest.mark.flux
def test_the_end_of_the_allocation_reaches_the_driver(real_stage: Stage):
    """A broker that is told to end sends SIGHUP to its initial program, the supervisor."""
    stage = real_stage
    stage.add(srun=SRUN.replace("FLUX_URI=local:///x PMI_FD=7", ""))
    stage.play(
        "trap 'echo TERM >>$STAGE/told; exit 130' TERM; "
        "kill -TERM $(flux getattr broker.pid); /bin/sleep 60 & wait $!",
    )
    stage.run("slurm")
    assert set(stage.lines("told")) == {"TERM"}
    assert (stage.starts, stage.submissions) == (1, [])
