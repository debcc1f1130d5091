"""The role of a worker, as the environment gives it."""

from __future__ import annotations

from echod.net.tls.throwaway import Issued
from echod.run.workers.role import VARIABLE, Role, take_role


def test_a_role_is_taken_from_the_environment() -> None:
    role = Role(
        1, (("tcp:0", 5), ("unix:/run/echod", 6)), ((0, (7, None)), (2, (8, None))), "/", Issued("a", {"b": "c"})
    )
    environment = {VARIABLE: role.encode(), "HOME": "/"}
    assert take_role(environment) == role
    assert environment == {"HOME": "/"}, "it is for this process alone"
    assert take_role(environment) is None
