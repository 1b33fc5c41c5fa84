"""What one session holds of permits, beside what its state and its attempts say."""

from agentd.actors.dispatcher import Dispatcher
from agentd.actors.permits import Held
from agentd.core.state import Attempt, Run, Session, Task
from agentd.protocol import facts as f

DISPATCH = 4


def working(key: str, *tasks: f.PlanTask) -> Session:
    """A session with a run whose tasks are ready and wait for permits."""
    run = Run(
        id=f"run_{key}", kind="goal", state="running", content="", accepted=0, phase="working",
        tasks={task.id: Task(spec=task) for task in tasks}, ready=tuple(task.id for task in tasks),
    )  # fmt: skip
    return Session(key=key, agent="default", owner="local", runs={run.id: run}, current=run.id)


def answering(key: str, *, active: bool) -> Session:
    run = Run(
        id=f"run_{key}", kind="chat", state="running", content="", accepted=0, phase="answering",
        answer=Attempt(number=1, active=active),
    )  # fmt: skip
    return Session(key=key, agent="default", owner="local", runs={run.id: run}, current=run.id)


def model(name: str) -> f.PlanTask:
    return f.PlanTask(id=name, title=name, kind="model", status="pending", depends_on=())


def test_two_sessions_without_a_model_permit_do_not_hand_a_free_worker_to_each_other_for_ever() -> None:
    """Each was woken by the worker, could not use it, let it go, and stood in the ring for it again."""
    dispatcher = Dispatcher(workers=1, model_calls=1, queued_global=8)
    busy = Held("busy", dispatcher, DISPATCH)
    busy.take(answering("busy", active=True), 0)
    dispatcher.workers.take("busy", frozenset({1}))
    woken: list[str] = []
    states = {key: working(key, model("t")) for key in ("a", "b")}
    held = {key: Held(key, dispatcher, DISPATCH) for key in states}

    def settle(key: str) -> None:
        held[key].settle(states[key], frozenset(), 0, lambda: woken.append(key), waited=False)

    settle("a")
    settle("b")
    dispatcher.workers.give_back(frozenset({1}))
    assert woken == []
    busy.settle(answering("busy", active=False), frozenset(), 0, lambda: None, waited=True)
    assert woken == ["a"], "the model permit that comes free goes to the first, with the worker"
    settle(woken.pop())
    assert woken == ["b"], "and to the other one when it was not used"


def test_two_sessions_without_a_worker_do_not_hand_a_free_model_permit_to_each_other_for_ever() -> None:
    dispatcher = Dispatcher(workers=1, model_calls=2, queued_global=8)
    dispatcher.workers.take("busy", frozenset({1}))
    woken: list[str] = []
    states = {key: working(key, model("t")) for key in ("a", "b")}
    held = {key: Held(key, dispatcher, DISPATCH) for key in states}
    for key in ("a", "b", "a", "b"):
        held[key].settle(states[key], frozenset(), 0, lambda key=key: woken.append(key), waited=False)  # type: ignore[misc]
    assert woken == []
    dispatcher.workers.give_back(frozenset({1}))
    assert woken == ["a"]


def test_a_call_that_goes_on_after_its_cancel_keeps_its_permit_beside_the_next_one() -> None:
    """The next run's call took over the permit of one that did not end yet, so two ran on one permit."""
    dispatcher = Dispatcher(workers=1, model_calls=2, queued_global=8)
    held = Held("s", dispatcher, DISPATCH)
    held.take(answering("s", active=True), 0)
    assert dispatcher.models.in_use == 1
    held.take(answering("s", active=True), 1)
    assert dispatcher.models.in_use == 2
    assert held.free_models(answering("s", active=True), 1) == 0
    held.settle(answering("s", active=True), frozenset(), 0, lambda: None, waited=True)
    assert dispatcher.models.in_use == 1


def test_a_session_that_leaves_takes_what_it_has_queued_along() -> None:
    dispatcher = Dispatcher(workers=1, model_calls=1, queued_global=4)
    held = Held("s", dispatcher, DISPATCH)
    state = working("s", model("t"), model("u"))
    run = state.runs["run_s"]
    queued = Run(id=run.id, kind="goal", state="running", content="", accepted=0, phase="working", tasks=run.tasks,
                 queued=("t", "u"))  # fmt: skip
    held.take(Session(key="s", agent="default", owner="local", runs={run.id: queued}, current=run.id), 0)
    assert dispatcher.room == 2
    held.leave()
    assert dispatcher.room == 4
