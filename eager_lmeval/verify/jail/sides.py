"""The two sides of one run: the program that answers calls, and the tests that ask and judge."""

from __future__ import annotations

import json
import os
import socket
import sys
import types
from typing import Any, NoReturn

from eager_lmeval.verify.jail.failures import to_exception, to_message
from eager_lmeval.verify.jail.messages import UnsupportedValue, receive, send
from eager_lmeval.verify.jail.values import Values

__all__ = ["run_program", "run_tests"]

_NOTE_LENGTH = 200


def run_program(connection: socket.socket, job: dict[str, Any]) -> NoReturn:
    """Executes the untrusted program, then answers calls of its entry point until the other side hangs up.

    Nothing here is relied upon: from the first line of the program on, this process is the program's.
    """
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses and pickle look classes up there
    try:
        exec(compile(job["source"], "<program>", "exec"), module.__dict__)
        function = eval(job["entry_point"], module.__dict__)
        send(connection, {"ready": True})
    except BaseException as error:  # SystemExit too: to end is not to pass
        send(connection, {"message": _describe(error)})
        os._exit(1)
    while True:
        values = Values()
        try:
            args, kwargs = values.load(receive(connection))
            reply: dict[str, Any] = {"value": values.dump(function(*args, **kwargs))}
        except EOFError:
            os._exit(0)
        except UnsupportedValue as error:
            reply = {"unsupported": str(error)}
        except BaseException as error:
            reply = {"raised": to_message(error, values)}
        try:
            send(connection, reply)
        except UnsupportedValue as error:
            send(connection, {"unsupported": str(error)})


def run_tests(connection: socket.socket, job: dict[str, Any]) -> NoReturn:
    """Executes the dataset's tests and writes the verdict, one JSON line, to the report."""
    stand_in = _StandIn(connection)
    try:
        stand_in.wait_until_ready()
        _execute(job, stand_in)
        note = stand_in.fault or ("" if stand_in.calls else "the tests never called the program")
    except BaseException as error:  # whatever a test raises, an assertion most often, it did not pass
        note = stand_in.fault or _describe(error)
    verdict = {"passed": not note, "calls": stand_in.calls, "note": note[:_NOTE_LENGTH]}
    os.write(job["report_fd"], json.dumps(verdict).encode() + b"\n")
    os._exit(0)


def _execute(job: dict[str, Any], stand_in: _StandIn) -> None:
    """The tests' globals: what the prompt defines (helpers that tests may use), and the stand-in by its name."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    exec(compile(job["setup"], "<prompt>", "exec"), module.__dict__)
    stand_in.classes = dict(module.__dict__)  # not those of the tests: the program could name them
    module.__dict__[job["entry_point"]] = stand_in.call
    exec(compile(job["test"], "<test>", "exec"), module.__dict__)
    check = module.__dict__.get("check")
    if callable(check):
        check(stand_in.call)


class _ProgramGone(BaseException):
    """The program ended before the tests did. No ``Exception``, so a test that expects one does not take it for it."""


class _StandIn:
    """What the tests call in the program's place. ``fault`` stays set however a test handles the exception."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.calls = 0
        self.fault = ""
        self.classes: dict[str, Any] = {}
        """What the prompt defines; exceptions of these classes are raised as such."""

    def wait_until_ready(self) -> None:
        reply = self._receive()
        if not reply.get("ready"):
            self._fail(f"the program did not load: {reply.get('message')}")

    def call(self, *args: object, **kwargs: object) -> Any:
        if self.fault:
            raise _ProgramGone(self.fault)
        values = Values()
        try:
            send(self._connection, values.dump((args, kwargs)))
        except (OSError, UnsupportedValue) as error:
            self._fail(f"the call did not reach the program: {error}")
        reply = self._receive()
        self.calls += 1
        try:
            if "value" in reply:
                return values.load(reply["value"])
            raised = to_exception(reply["raised"], values, self.classes) if "raised" in reply else None
        except UnsupportedValue as error:
            self._fail(str(error))
        if raised is not None:
            raise raised
        self._fail(f"the program's answer: {str(reply.get('unsupported'))[:_NOTE_LENGTH]}")

    def _receive(self) -> dict[str, Any]:
        try:
            reply = receive(self._connection)
        except EOFError:
            self._fail("the program ended before the tests did")
        except UnsupportedValue as error:
            self._fail(f"the program sent {error}")
        if not isinstance(reply, dict):
            self._fail("the program sent no reply")
        return reply

    def _fail(self, fault: str) -> NoReturn:
        self.fault = fault
        raise _ProgramGone(fault)


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")[:_NOTE_LENGTH]
    except BaseException:  # an exception may raise when it is printed
        return type(error).__name__
