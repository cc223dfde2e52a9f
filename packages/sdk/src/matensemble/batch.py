"""Job scripts: text that a resource manager runs, and that sees a run through to its end.

Owns that text. A script asks for nodes, makes the environment, starts Flux where the site has
another resource manager, and drives the run from a loop in the shell, which is the initial program
of the Flux instance: the driver is its child, so that its death takes neither the instance nor the
chores along. Nothing is run or submitted here; the subcommand ``batch-script`` prints the text.

Two texts reach the shell, the rest is quoted: what stands in directives, one line each (checked),
and the lines of ``setup`` in the user's own site file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from matensemble.errors import InvalidOptionError
from matensemble.model import parse_duration
from matensemble.protocols import RunOptions
from matensemble.site import Site, is_one_line
from matensemble.workdir import BATCH_PREFIX

MAX_RESERVE_SECONDS = 30
"""The driver is to be gone so long before the end of the job, or a tenth of it: there must be time
to submit the next job, and for Flux to leave."""
DEFAULT_CHAIN = 10
MAX_CRASHES = 3
"""A driver that crashes so many times in a row is started again, after the next one no more."""

_CLOCK_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)")
_THREE_QUOTES = re.compile("[\"']{3}")
_UNIT = re.compile(r".*[a-z]\s*")


class ResourceManager(StrEnum):
    """Who hands out the nodes."""

    SLURM = "slurm"
    FLUX = "flux"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """What a job script is to do.

    Raises
    ------
    InvalidOptionError
        If a value is impossible.
    """

    run_dir: Path
    """The run, an absolute path."""
    manager: ResourceManager
    """Whose directives the script carries."""
    num_nodes: int
    """Whole nodes, at least 1."""
    walltime: float
    """Seconds until the resource manager ends the job, at least 1; a fraction is dropped."""
    chain: int = 0
    """How many further jobs the script may submit, one after the other, while the run goes on."""
    margin: float | None = None
    """Seconds before the end of the driver at which it starts nothing more, at least 1; None
    leaves them to the driver. A fraction is dropped."""
    resume_options: tuple[str, ...] = ()
    """Further options of ``matensemble resume``."""
    reserve_broker_node: bool = True
    """Whether Flux rank 0 is left to the broker where there are more nodes."""
    site: Site = field(default_factory=Site)
    """What the site wants to be told."""

    def __post_init__(self) -> None:
        path = str(self.run_dir)
        if not self.run_dir.is_absolute() or not is_one_line(path):
            raise InvalidOptionError("DIR", path, "an absolute path without control characters")
        if self.manager is ResourceManager.FLUX and "{{" in path:
            raise InvalidOptionError("DIR", path, "a path without '{{', which Flux would replace")
        for name, value, minimum in (
            ("nodes", self.num_nodes, 1),
            ("walltime", self.walltime, 1),
            ("chain", self.chain, 0),
            ("margin", 1 if self.margin is None else self.margin, 1),
        ):
            if not value >= minimum:
                raise InvalidOptionError(name, value, f"at least {minimum}")
        if self.margin is not None and self.margin >= self.walltime - self.reserve:
            raise InvalidOptionError(
                "margin",
                self.margin,
                f"less than {self.walltime - self.reserve:g} s, the time "
                "that a driver has: nothing would be started",
            )
        if self.site.mpi_pmi is not None:
            RunOptions(mpi_pmi=self.site.mpi_pmi)  # the driver would say it hours later

    @property
    def reserve(self) -> int:
        """Seconds before the end of the job in which no driver runs."""
        return max(1, min(MAX_RESERVE_SECONDS, int(self.walltime) // 10))


def parse_walltime(text: str) -> float:
    """Return how long a job may last, in seconds.

    Parameters
    ----------
    text
        A number with a unit (``"90m"``, ``"2h"``, ``"1.5d"``) or a time as Slurm writes it
        (``"02:00:00"``, ``"1-12:00:00"``). A bare number is refused: here it would be seconds, on
        the command lines of Slurm and Flux minutes.

    Raises
    ------
    InvalidOptionError
        If it is no such time.
    """
    match = _CLOCK_TIME.fullmatch(text.strip())
    if match is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if not _UNIT.fullmatch(text):
        raise InvalidOptionError("walltime", text, "a time with a unit, '90m', or '01:30:00'")
    return parse_duration(text, "walltime")


def make_script(job: BatchJob) -> str:
    """Return the script of a job, a text for bash."""
    is_slurm = job.manager is ResourceManager.SLURM
    directives = _slurm_directives(job) if is_slurm else _flux_directives(job)
    sentinel = "#SBATCH" if is_slurm else "# flux:"
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"{sentinel} {directive}" for directive in (*directives, *job.site.directives)),
            "",
            f"# Runs or resumes {job.run_dir}, for as long as this job lasts.",
            "",
            *_environment(job),
            "",
            *(f"{name}={value}" for name, value in _settings(job).items()),
            SUPERVISOR,
            *(_start_on_slurm(job) if is_slurm else ("supervise",)),
            "",
        )
    )


def _slurm_directives(job: BatchJob) -> Iterator[str]:
    site, run = job.site, job.run_dir
    minutes, seconds = divmod(int(job.walltime), 60)
    hours, minutes = divmod(minutes, 60)
    output = str(run).replace("%", "%%") + f"/{BATCH_PREFIX}%j.out"
    yield f"--job-name={shlex.quote(run.name)}"
    yield f"--nodes={job.num_nodes}"
    yield "--ntasks-per-node=1"
    yield "--exclusive"
    yield f"--time={hours:02}:{minutes:02}:{seconds:02}"
    yield f"--output={shlex.quote(output)}"
    yield "--open-mode=append"  # a job that Slurm starts again keeps what it had said
    if site.account is not None:
        yield f"--account={shlex.quote(site.account)}"
    if site.queue is not None:
        yield f"--partition={shlex.quote(site.queue)}"
    if site.gpus_per_node:
        yield f"--gpus-per-node={site.gpus_per_node}"


def _flux_directives(job: BatchJob) -> Iterator[str]:
    site, run = job.site, job.run_dir
    yield f"--job-name={_quote_for_flux(run.name)}"
    yield f"--nodes={job.num_nodes}"
    yield "--exclusive"
    yield f"--time-limit={int(job.walltime)}s"
    yield f"--output={_quote_for_flux(str(run / f'{BATCH_PREFIX}{{{{id}}}}.out'))}"
    if site.account is not None:
        yield f"--bank={_quote_for_flux(site.account)}"
    if site.queue is not None:
        yield f"--queue={_quote_for_flux(site.queue)}"
    if site.gpus_per_node:
        yield f"--gpus-per-slot={site.gpus_per_node}"
    for option in _exclusion(job):
        yield _quote_for_flux(option)
    if site.flux_options:
        yield f"--broker-opts={_quote_for_flux(shlex.join(site.flux_options))}"


def _quote_for_flux(text: str) -> str:
    """Quote a word of a directive; Flux takes three quotes in a row for one of Python's."""
    quoted = shlex.quote(text)
    return re.sub(r"([^\w@%+=:,./{}-])", r"\\\1", text) if _THREE_QUOTES.search(quoted) else quoted


def _exclusion(job: BatchJob) -> tuple[str, ...]:
    """Return the option that leaves rank 0 to the broker; the only node is not left to it."""
    is_reserved = job.reserve_broker_node and job.num_nodes > 1
    return ('--conf=resource.exclude="0"',) if is_reserved else ()


def _environment(job: BatchJob) -> Iterator[str]:
    site = job.site
    yield "started_at=$(date +%s)"
    if site.modules:
        yield "type module &>/dev/null || . /etc/profile"
        yield f"module load {shlex.join(site.modules)} || exit 2"
    yield from site.setup
    yield CHECK


def _settings(job: BatchJob) -> Mapping[str, str]:
    """Return the variables that the supervisor reads."""
    options = ["--executor", "flux", "--no-progress"]
    if job.site.mpi_pmi is not None:
        options += ["--mpi-pmi", job.site.mpi_pmi]
    if job.margin is not None:
        options += ["--margin", f"{int(job.margin)}s"]
    options += job.resume_options
    submit = "sbatch" if job.manager is ResourceManager.SLURM else "flux --parent batch"
    return {
        "run": shlex.quote(str(job.run_dir)),
        "options": f"({shlex.join(options)})",
        "submit": f"({submit})",
        "script": '"$0"  # the copy that the resource manager made when the job was submitted',
        "number": f'"${{1:-1}}"  # of this job, of {job.chain + 1} at most',
        "last_number": str(job.chain + 1),
        "ends_at": f"$((started_at + {int(job.walltime)}))",
        "reserve": f"{job.reserve}  # seconds before the end in which no driver runs",
        "least": f"{int(job.margin or 0)}  # seconds in which a driver would start nothing",
        "max_crashes": str(MAX_CRASHES),
    }


def _start_on_slurm(job: BatchJob) -> Iterator[str]:
    yield "# One Flux broker a node; what rank 0 runs is the supervisor, sent along as text."
    yield f'supervisor="$(declare -p {" ".join(_settings(job))})'
    yield "$(declare -f say forward watch submit_next supervise)"
    yield 'supervise"'
    srun = [
        "srun",
        f"--nodes={job.num_nodes}",
        f"--ntasks={job.num_nodes}",
        "--mpi=none",
        "--cpu-bind=none",
        *job.site.srun_options,
    ]
    flux = ["flux", "start", *_exclusion(job), *job.site.flux_options]
    yield f"exec {shlex.join(srun)} \\"
    yield f'  {shlex.join(flux)} bash -c "$supervisor"'


CHECK = """\
for program in matensemble flux timeout; do
  type -P "$program" >/dev/null && continue
  echo "no '$program' on the PATH of this job: see 'setup' and 'modules' of the site file" >&2
  exit 2
done"""

SUPERVISOR = r"""
say() { echo "$(date '+%F %T') batch: $*" >&2; }

# A signal goes on to the driver, which then has 10 s to leave the run in good order.
forward() {
  is_stopping=yes has_signal=yes
  local pid
  for pid in $(jobs -pr); do kill -s TERM "$pid"; done
}

# Runs one driver to its end; its exit code is left in $code.
watch() {
  local answer
  timeout --kill-after=10 "$1" matensemble resume "$run" "${options[@]}" --walltime "$1s" &
  code=127
  [[ -z $is_stopping ]] || forward # it came while there was no driver yet
  while :; do
    has_signal=
    wait "$!"
    answer=$?
    [[ $answer == 127 ]] || code=$answer # 127: there is nothing left to wait for
    [[ -n $has_signal ]] || return 0 # a signal ends the waiting, not the driver
  done
}

submit_next() (
  # The next job must not take itself for this one.
  conf=${SLURM_CONF-}
  [[ ${submit[0]} != sbatch ]] || unset "${!SLURM@}" "${!FLUX@}" "${!PMI@}"
  [[ -z $conf ]] || export SLURM_CONF=$conf
  for pause in 2 2 0; do
    "${submit[@]}" "$script" "$((number + 1))" && return
    sleep "$pause"
  done
  return 1
)

supervise() {
  local code=130 num_crashes=0 since left
  trap forward TERM HUP INT USR1
  while [[ -z $is_stopping ]]; do
    since=$(date +%s)
    left=$((ends_at - reserve - since))
    if ((left <= least)); then code=75; break; fi
    watch "$left"
    # 0: all completed. 1: it ended, with failures. 2 and 126, 127: it cannot be driven here.
    case $code in 0 | 1 | 2 | 126 | 127) break ;; esac
    if (($(date +%s) >= ends_at - reserve)); then code=75; fi
    # 75: the time is over, the run is not. 130: somebody stopped it.
    if [[ $code == 75 || $code == 130 || -n $is_stopping ]]; then break; fi
    if (($(date +%s) - since > 600)); then num_crashes=0; fi
    if ((num_crashes == max_crashes)); then
      say "the driver crashed again (exit code $code); look into the log of the run"
      break
    fi
    num_crashes=$((num_crashes + 1))
    say "the driver crashed (exit code $code); resuming, $num_crashes of $max_crashes"
    sleep 5 &
    wait "$!"
  done
  if ((code == 75 && number < last_number)); then
    say "the time is over, the run is not: submitting job $((number + 1)) of at most $last_number"
    submit_next || say "this failed; submit the script again"
  fi
  exit "$code"
}
"""
