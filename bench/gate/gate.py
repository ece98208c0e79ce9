"""The regression gate: is a candidate run worse than a baseline run?

Read two run directories, pair their scores, decide (`bench.gate.verdict`) and write gate.json into
the candidate's folder. `run_gated` renders the candidate first, stage by stage, and stops early.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.gate.baseline import has_images, shown_run
from bench.gate.comparable import check_pair, check_plan
from bench.gate.decision import EXIT_CODES, Rules, Sample
from bench.gate.outcome import Judgment
from bench.gate.pairs import Side, looks_of, make_samples, n_cases_of, read_side
from bench.gate.policy import Policy
from bench.gate.report import test_line
from bench.gate.verdict import decide_gate, planned
from bench.gate.worst import worst_pairs
from bench.plan import Plan
from bench.provenance import utc_now
from bench.publish import download_images
from bench.run import RunOutcome, RunRequest, plan_run, run_benchmark
from bench.scoring import recorded_device, score_by_names
from bench.store import RunStore, records
from bench.store.files import json_bytes
from bench.store.verify import TO_REPORT, Part, require_sound
from plugins_manifest.progress import Progress

GATE_FORMAT = 1
_NOT_COMPARED: tuple[Part, ...] = ("images", "conditions")  # an archived baseline may lack them


@dataclass(frozen=True)
class Gate:
    """The outcome of a gate: the judgment and the content of gate.json."""

    judgment: Judgment
    facts: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 nothing lost beyond the margins, 1 regression, 3 inconclusive or incomplete."""
        return EXIT_CODES[self.judgment.verdict]


def compare(
    baseline_dir: Path, candidate_dir: Path, policy: Policy, *, stopped: str | None = None
) -> Gate:
    """Compare two runs and write gate.json; raise `UserError` if their settings differ.

    A candidate with only the first cases of the baseline is compared on those. `stopped` is the
    limit that ended the gate before its last look; else the one that ended the candidate's run.
    """
    baseline, candidate = RunStore.open(baseline_dir), RunStore.open(candidate_dir)
    if baseline.folder.resolve() == candidate.folder.resolve():
        raise UserError(f"{shown_path(candidate_dir)} is given twice: compare two different runs")
    for store in (baseline, candidate):
        require_sound(store, TO_REPORT, may_miss=_NOT_COMPARED)
    check_pair(baseline, candidate, policy)
    with Progress("comparing the two runs"):
        sides = _sides(baseline, candidate, policy)
        samples = make_samples(*sides, policy)
        judgment = decide_gate(samples, _rules(policy))
        prompts = {case.case_id: case.prompt for case in candidate.cases().values()}
        worst = worst_pairs(*sides, policy, prompts=prompts)
    facts = _facts(baseline, candidate, policy=policy, samples=samples, judgment=judgment)
    facts["worst_pairs"] = worst
    facts["stopped"] = stopped or candidate.run_facts().get("stopped")
    with candidate.lock():
        candidate.write_file(candidate.gate_path, json_bytes(facts))
    return Gate(judgment, facts)


def gated_request(
    request: RunRequest, baseline_dir: Path, policy: Policy
) -> tuple[RunRequest, list[int]]:
    """Return the request with an output folder, and the numbers of cases at the gate's looks.

    Raises `UserError` before anything is rendered if its settings differ from the baseline's.
    """
    baseline = RunStore.open(baseline_dir)
    require_sound(baseline, TO_REPORT, may_miss=_NOT_COMPARED)
    side = read_side("baseline", baseline, policy)
    n_cases = n_cases_of(side)
    if n_cases == 0:
        raise UserError(
            f"{shown_run(baseline)} has no images of {', '.join(policy.methods)}: "
            "choose another --baseline, or other methods in --policy"
        )
    limit = min(n_cases, request.selection.limit or n_cases)
    looks = [n for n in looks_of(n_cases, policy) if n < limit] + [limit]
    if not has_images(baseline):  # scores of fewer cases need them: only the last look is left
        if limit < n_cases:
            raise UserError(
                f"{shown_run(baseline)} was published without its images, so all of its {n_cases} "
                "cases have to be compared: leave out --limit, or publish it with --images"
            )
        looks = [limit]
    request = replace(_with_limit(request, limit), ids_from=baseline_dir)
    plan = plan_run(request)
    check_plan(baseline, plan, policy)
    out = request.out or Path("runs") / f"{plan.manifest.name}-{_mapper_of(plan)}"
    if out.resolve() == baseline_dir.resolve():
        raise UserError(f"--out {shown_path(out)} is the baseline itself: choose another folder")
    if request.metric_device == "auto":  # scores of other devices do not pair
        device = recorded_device(RunStore.open(baseline_dir)) or "auto"
        request = replace(request, metric_device=device)
    return replace(request, out=out), looks


def run_gated(request: RunRequest, baseline_dir: Path, policy: Policy) -> tuple[RunOutcome, Gate]:
    """Render the candidate up to the next look and compare, until the gate is decided."""
    request, sizes = gated_request(request, baseline_dir, policy)
    out = request.out or Path("runs")
    outcome, gate = _stage(request, baseline_dir, policy, out=out, n_cases=sizes[0])
    for n_cases in sizes[1:]:
        if gate.judgment.verdict != "inconclusive" or outcome.stopped:
            break
        if stopped := request.budget.reached:
            gate = compare(baseline_dir, out, policy, stopped=stopped)
            return replace(outcome, stopped=stopped), gate
        outcome, gate = _stage(request, baseline_dir, policy, out=out, n_cases=n_cases)
    return outcome, gate


def _stage(
    request: RunRequest, baseline_dir: Path, policy: Policy, *, out: Path, n_cases: int
) -> tuple[RunOutcome, Gate]:
    outcome = run_benchmark(_with_limit(request, n_cases))
    return outcome, compare(baseline_dir, out, policy)


def _with_limit(request: RunRequest, limit: int) -> RunRequest:
    return replace(request, selection=replace(request.selection, limit=limit))


def _mapper_of(plan: Plan) -> str:
    return plan.weights.get("mapper", "candidate")[:8]


def _sides(baseline: RunStore, candidate: RunStore, policy: Policy) -> tuple[Side, Side]:
    """Return both runs' scores; a baseline with more cases is scored again on the candidate's."""
    sides = [
        read_side(name, store, policy)
        for name, store in (("baseline", baseline), ("candidate", candidate))
    ]
    case_ids = set(candidate.trials()["case_id"])
    if case_ids != set(baseline.trials()["case_id"]):
        scored = {metric for _, metric in sides[0].scores}
        download_images(baseline, case_ids)
        view = restricted_run(
            baseline,
            case_ids,
            candidate.folder / ".gate" / "baseline",
            metrics=[spec.name for spec in policy.metrics if spec.name in scored],
            conditions=_conditions_of(baseline, candidate),
        )
        sides[0] = replace(sides[0], scores=read_side("baseline", view, policy).scores)
    return sides[0], sides[1]


def _conditions_of(baseline: RunStore, candidate: RunStore) -> Path:
    """Return the baseline's condition images; a published run has the hashes of its own alone.

    `check_pair` has compared those with the candidate's.
    """
    has_own = any(baseline.conditions_dir.rglob("*.png"))
    return (baseline if has_own else candidate).conditions_dir


def restricted_run(
    store: RunStore,
    case_ids: Collection[str],
    folder: Path,
    *,
    metrics: Sequence[str],
    conditions: Path,
) -> RunStore:
    """Write and score a run of some cases in another folder; its results refer to the run's images.

    Scores of sets of images (a style bank, a kernel distance) are comparable only between sets of
    the same cases.
    """
    view, images = RunStore(folder), store.folder.resolve()
    view.write_run_facts({k: v for k, v in store.run_facts().items() if k != "format"})
    view.write_manifest(store.manifest().as_data())
    view.write_cases(case for case in store.cases().values() if case.case_id in case_ids)
    trials = [row for row in records(store.trials()) if row["case_id"] in case_ids]
    view.write_trials(trials)
    wanted = {row["trial_id"] for row in trials}
    results = [
        {**row, "image": row["image"] and str(images / row["image"])}
        for row in records(store.results())
        if row["trial_id"] in wanted
    ]
    view.write_results("view", results)
    conditions = conditions.resolve()
    if not view.conditions_dir.exists() and conditions.is_dir():
        view.conditions_dir.symlink_to(conditions, target_is_directory=True)
    score_by_names(view, metrics, show_progress=False, device=recorded_device(store) or "auto")
    return view


def _rules(policy: Policy) -> Rules:
    return Rules(
        alpha=policy.alpha,
        power=policy.power,
        min_prompts=policy.min_prompts,
        min_prompts_regression=policy.min_prompts_regression,
        max_collapse_rate=policy.max_collapse_rate,
        seed=policy.seed,
    )


def _facts(
    baseline: RunStore,
    candidate: RunStore,
    *,
    policy: Policy,
    samples: Sequence[Sample],
    judgment: Judgment,
) -> dict[str, Any]:
    tests = [asdict(test) for test in judgment.tests]
    decisive = [test for test in tests if test["verdict"] == judgment.verdict]
    return {
        "format": GATE_FORMAT,
        "created": utc_now(),
        "verdict": judgment.verdict,
        "exit_code": EXIT_CODES[judgment.verdict],
        "reason": "; ".join(test_line(test) for test in decisive) if decisive else None,
        "baseline": _identity(baseline),
        "candidate": _identity(candidate),
        "look": judgment.look,
        "looks": list(policy.looks),
        "planned_prompts": planned(samples, _rules(policy), judgment.look),
        "tests": tests,
        "policy": policy.as_data(),
    }


def _identity(store: RunStore) -> dict[str, Any]:
    facts = store.run_facts()
    return {
        "folder": shown_run(store),
        "run_id": facts.get("run_id"),
        "adapter_sha256": facts.get("adapter_sha256"),
        "git": facts.get("git"),
        "images": sum(row["status"] == "ok" for row in records(store.results())),
    }
