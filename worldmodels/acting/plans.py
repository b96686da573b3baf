"""Plans: evolutions and selections that run in parallel and share the workers.

A plan is a generator. It yields evaluation requests and receives their results in order. The jobs
of all parallel plans are one list for the workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from worldmodels.acting.evaluate import Evaluation, Measured, Request, evaluate_all

Result = TypeVar("Result")
Plan = Generator[list[Request], list[Measured], Result]
"""Its result is what the generator returns."""


def measure(evaluation: Evaluation, parameters: np.ndarray, seeds: Sequence[int]) -> Plan[Measured]:
    """The plan of one evaluation."""
    (measured,) = yield [(evaluation, parameters, seeds)]
    return measured


def carry_out(plan: Plan[Result]) -> Result:
    """The result of a plan. What ends its evaluations is raised in the plan too, as if called."""
    step = partial(next, plan)
    while True:
        try:
            requests = step()
        except StopIteration as end:
            result: Result = end.value
            return result
        try:
            step = partial(plan.send, evaluate_all(requests))
        except BaseException as error:
            step = partial(plan.throw, error)


def side_by_side(plans: Sequence[Plan[Result]], at_once: int) -> Plan[list[Result]]:
    """The plan of several, of which some go on at once; the results in their order.

    Each gets what it would get alone. Where one fails, the others end too.
    """
    results, waiting = dict[int, Result](), list(enumerate(plans))[::-1]
    running = dict[int, list[Request]]()

    def go_on(number: int, step: Any) -> None:
        try:
            running[number] = step()
        except StopIteration as end:
            running.pop(number, None)
            results[number] = end.value

    try:
        while running or waiting:
            while waiting and len(running) < at_once:
                number, plan = waiting.pop()
                go_on(number, partial(next, plan))
            measured = yield [one for requests in running.values() for one in requests]
            for number, requests in list(running.items()):
                part, measured = measured[: len(requests)], measured[len(requests) :]
                go_on(number, partial(plans[number].send, part))
    except BaseException as error:
        for number in running:
            with contextlib.suppress(BaseException):
                plans[number].throw(error)
        raise
    return [results[number] for number in range(len(plans))]
