"""`emt serve POLICY`: answer observations with actions over a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from emt_core.errors import Stopped


def serve(
    policy: Annotated[
        Path,
        typer.Argument(help="Folder policies/step-N of a finetune artifact.", metavar="POLICY"),
    ],
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8700,
    address: Annotated[
        str,
        typer.Option(help="Address to listen on. The default is reachable from this machine only."),
    ] = "127.0.0.1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Serve a policy to a robot or a foreign evaluator; examples/policy_client.py shows the other
    side."""
    from emt_core.evaluation.closed_loop.serving import PolicyServer
    from emt_core.training.policy.policy import Policy

    console = Console(stderr=True)
    with PolicyServer(Policy.load(policy, device=device), host=address, port=port) as server:
        host, place = server.server_address[:2]
        console.print(
            f"serving {policy} at {host}:{place} (Ctrl-C ends it)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        if host not in ("127.0.0.1", "::1"):
            console.print(
                "anybody who reaches this address can use the policy: it asks for no password",
                style="yellow",
            )
        try:
            server.serve_forever()
        except Stopped:
            raise Stopped("the policy is served no more") from None
