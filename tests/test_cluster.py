"""Three nodes of a Ray cluster on this machine: results are those of one process, bit for bit."""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import user_world
from loky import get_reusable_executor

from worldmodels.calls import VARIABLE
from worldmodels.data.episode import Episode
from worldmodels.errors import InputError
from worldmodels.files import load_json, save_json
from worldmodels.run import Run
from worldmodels.workers import WorkersConfig, run_jobs

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SMOKE = Path(__file__).resolve().parents[1] / "configs/smoke.yaml"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
SERIAL = WorkersConfig(processes=1)


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # beside other programs they would hardly run
        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def nodes(cluster):
    """Jobs on its nodes."""
    return WorkersConfig(backend="ray", address=cluster.address, timeout=300.0)


@pytest.fixture
def here():
    """The node of a job; a function of this file would be one that nodes cannot import."""
    return lambda: ray.get_runtime_context().get_node_id()


def wait_for(condition):
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def both(script, nodes):
    """A stage in this process, in a run's folder, and on the cluster, in a copy of it."""

    def run(run, stage, meanwhile=None):
        twin = Run(run.folder.parent / "cluster")
        shutil.copytree(run.folder, twin.folder)
        script(stage, "--run", run.folder)
        where = "--workers.backend=ray", f"--workers.address={nodes.address}"
        with contextlib.nullcontext() if meanwhile is None else meanwhile(twin):
            script(stage, "--run", twin.folder, *where)
        return run, twin

    return run


def test_jobs_on_three_nodes(nodes, here):
    def job(number):
        import torch

        time.sleep(0.5)
        return number**2, torch.get_num_threads(), os.getpid() != parent, here()

    parent = os.getpid()
    results = run_jobs(job, [(number,) for number in range(9)], nodes)
    assert [result[:3] for result in results] == [(number**2, 1, True) for number in range(9)]
    assert len({result[3] for result in results}) == 3


def test_collect(both, smoke_copy, hashes):
    run = smoke_copy(collect={"episodes": 20})
    run.world_file.unlink()
    one, other = both(run, "collect")
    assert len(hashes(one.episodes)) == 20 + 1  # and the manifest
    assert hashes(one.episodes) == hashes(other.episodes)
    assert load_json(one.world_file) == load_json(other.world_file)


def test_evolve_and_evaluate(both, smoke_copy, hashes):
    lengths = {"generations": 1, "real_generations": 2, "rollouts_per_candidate": 6}
    lengths |= {"evolutions": 2}
    parts = "episodes", "vae", "latents", "mdnrnn"
    run = smoke_copy(*parts, evolve=lengths, evaluate={"episodes": 10})
    one, other = both(run, "evolve")
    assert hashes(one.controller) == hashes(other.controller)
    shutil.rmtree(other.folder)
    one, other = both(run, "evaluate")
    without = ("bundle.json", "README.md")  # they say when and how
    assert hashes(one.bundle, without=without) == hashes(other.bundle, without=without)
    reports = [load_json(run.evaluation_file) for run in (one, other)]
    for name in ("returns", "baselines", "bundle_sha256"):
        assert reports[0][name] == reports[1][name]


@pytest.mark.parametrize(
    ("stage", "made", "first", "parts", "changes"),
    [
        ("collect", "episodes", "*.npz", (), {"collect": {"episodes": 160}}),
        (
            *("evolve", "controller", "history*", ("episodes", "vae", "latents", "mdnrnn")),
            {"evolve": {"generations": 0, "real_generations": 4, "rollouts_per_candidate": 16}},
        ),
    ],
)
def test_a_stage_outlives_a_node(
    cluster, both, smoke_copy, hashes, stage, made, first, parts, changes
):
    """A node is removed when something is made."""
    left = []

    @contextlib.contextmanager
    def meanwhile(run):
        def change():
            wait_for(lambda: list((run.folder / made).glob(first)))
            left.append(not over.is_set())
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        over, thread = threading.Event(), threading.Thread(target=change)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    run = smoke_copy(*parts, **changes)
    if stage == "collect":
        run.world_file.unlink()
    one, other = both(run, stage, meanwhile)
    cluster.add_node(**NODE)  # for the next test
    assert left == [True]
    assert hashes(one.folder / made) == hashes(other.folder / made)


def test_v_and_m_travel(nodes, smoke_run, tmp_path):
    """Later rounds collect with a controller, whose files are then gone from this machine."""
    from worldmodels.acting.environments import models_of
    from worldmodels.artifacts import load_world
    from worldmodels.stages.collect import CollectConfig, Job, _play
    from worldmodels.stages.explore import Evolved

    shutil.copytree(smoke_run.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    evolved, config = Evolved.of_run(run, "last"), CollectConfig(episodes=6, max_steps=10)
    models_of(evolved.models)
    shutil.rmtree(run.folder)
    parts = [(0, 1), (2, 3), (4, 5)]
    jobs = [(Job(load_world(smoke_run), config, evolved, 0, 1, part, tmp_path),) for part in parts]
    assert run_jobs(_play, jobs, nodes) == run_jobs(_play, jobs, SERIAL)


def test_dreams_travel(nodes, smoke_run):
    """Two dreams of one M, side by side; a worker keeps the environments of both."""
    from worldmodels.acting.environments import Dreams
    from worldmodels.acting.evaluate import Evaluation, evaluate_all
    from worldmodels.envs.dream import DreamConfig
    from worldmodels.models.controller import ControllerConfig

    configs = [DreamConfig(horizon=9, warmup=4, temperature=t) for t in (0.5, 1.5)]
    places = [Dreams.of_run(smoke_run, ControllerConfig(), config, 0) for config in configs]
    size = places[0].controller.num_parameters
    candidates = np.random.default_rng(0).normal(size=(4, size))
    measured = []
    for workers in (SERIAL, nodes):
        evaluations = [Evaluation(place=place, workers=workers) for place in places]
        for seeds in ([1, 2], [3, 4]):
            measured.append(evaluate_all([(one, candidates, seeds) for one in evaluations]))
    serial, sent = measured[:2], measured[2:]
    np.testing.assert_array_equal(np.array(serial), np.array(sent))
    assert len({np.array(one).tobytes() for pair in serial for one in pair}) > 1


def test_a_larger_cluster_is_simulated(nodes, tiny_bundle, tmp_path, capsys):
    """From what the head of this one does, which is little."""
    from simulate_cluster import head_seconds, simulate

    from worldmodels.acting.environments import ModelFiles, Reality
    from worldmodels.acting.evaluate import Evaluation
    from worldmodels.artifacts import Bundle

    bundle = Bundle.load(tiny_bundle)
    reality = Reality(bundle.world, ModelFiles.of_bundle(tiny_bundle), bundle.controller)
    candidates = np.zeros((64, 867))
    assert run_jobs(abs, [(-1,), (-2,)], nodes) == [1, 2]  # connects
    known = head_seconds(Evaluation(place=reality, workers=SERIAL), candidates, 1_200_000, 300)
    assert 0 < sum(known["evolve_head"].values()) < 0.05
    assert known["collect_head"]["store"] > 0
    times = {
        "jobs": 64,
        "evolve": [5.0, 6.0],
        "collect": [1.0],
        "bytes": 1_200_000,
        "weights": 10**7,
        **known,
    }
    save_json(tmp_path / "times.json", {"worlds": {"tiny": times}})
    simulate(tmp_path / "times.json")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    rates = [float(row[1]) for row in rows if row[0].isdigit()]
    alone, together, collect = rates[:5], rates[5:10], rates[10:]
    for one in (alone, together, collect):
        assert one == sorted(one)  # more workers, no fewer an hour
    assert alone[3] == alone[4]  # a generation has only 64 jobs
    assert 8 < collect[1] / collect[0] < 11


def test_a_killed_workers_job_is_done_again(nodes, tmp_path):
    mark = tmp_path / "died"

    def job(number):
        if number == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    results = run_jobs(job, [(number,) for number in range(8)], nodes)
    assert mark.exists()
    assert results == [number**2 for number in range(8)]


def test_a_node_is_lost_and_another_one_comes(cluster, nodes, here, tmp_path):
    def job(number):
        (tmp_path / here()).touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.1)
        return number, np.full(50_000, number), here()

    results, lost = [], next(iter(cluster.worker_nodes))
    jobs = [(number,) for number in range(12)]
    thread = threading.Thread(target=lambda: results.extend(run_jobs(job, jobs, nodes)))
    thread.start()
    try:
        wait_for((tmp_path / lost.node_id).exists)
        cluster.remove_node(lost, allow_graceful=False)
        late = cluster.add_node(**NODE)
        wait_for((tmp_path / late.node_id).exists)
    finally:
        (tmp_path / "go").touch()
        thread.join()
    assert [number for number, _, _ in results] == list(range(12))
    assert all((array == number).all() for number, array, _ in results)
    where = {node for _, _, node in results}
    assert lost.node_id not in where
    assert late.node_id in where


def test_a_mistake_comes_through_in_one_line(nodes):
    def job(number):
        if number:
            raise InputError("file 1 is broken: delete it")

    with pytest.raises(InputError, match=r"^file 1 is broken: delete it$"):
        run_jobs(job, [(0,), (1,)], nodes)


def test_other_packages_on_a_node_are_refused(nodes, monkeypatch):
    from worldmodels.versions import package_versions

    ours = package_versions() | {"torch": "1.0"}
    monkeypatch.setattr("worldmodels.cluster.package_versions", lambda: ours)
    with pytest.raises(
        InputError, match=r"^torch is .* on node .*, but 1.0 here: install the same"
    ):
        run_jobs(abs, [(0,), (1,)], nodes)


def test_a_module_that_only_this_machine_has(nodes, monkeypatch):
    module = types.ModuleType("only_here")
    exec("def job(number): return number", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(InputError, match=r"only_here.*: install it on all nodes") as found:
        run_jobs(module.job, [(0,), (1,)], nodes)
    assert "\n" not in str(found.value)


def test_a_world_that_ends_its_process_costs_its_episodes(nodes, script, tmp_path, monkeypatch):
    """What the cluster cannot do runs here, where the call is found: as on local processes."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("worldmodels.cluster.RETRIES", 0)
    mistake = "{mistake: dies, at: 40, every: 4, length: 50}"
    flags = ["--env.id", f"{user_world.__file__}:UserWorld", f"--env.kwargs={mistake}"]
    run, sizes = Run(tmp_path / "run"), ["--collect.episodes=10", "--collect.max_steps=60"]
    where = ["--workers.backend=ray", f"--workers.address={nodes.address}"]
    where += ["--workers.processes=1"]  # what the cluster cannot do
    # workers of other tests do not know what is trusted, nor those of this one their notes of calls
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)
    script("collect", "--config", SMOKE, "--run", run.folder, *flags, *sizes, *where)
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)
    episodes = [Episode.load(path) for path in sorted(run.episodes.glob("*.npz"))]
    assert [len(one) for one in episodes] == [50] * 10


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:10001", "nonsense"])
def test_no_cluster_answers(address, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=rf"^workers.address is {address}, but no clus") as found:
        run_jobs(abs, [(0,), (1,)], WorkersConfig(backend="ray", address=address))
    assert "\n" not in str(found.value)


def test_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError, match=r"^workers.backend is ray, but Ray is missing: run `pip install"
    ):
        run_jobs(abs, [(0,), (1,)], WorkersConfig(backend="ray"))
