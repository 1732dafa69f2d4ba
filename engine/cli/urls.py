"""`cleave urls`: HTTP addresses of functions and aliases."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage
from engine.model.function import LATEST

if TYPE_CHECKING:
    from engine.model.names import FunctionRef
    from engine.v1 import urls_pb2

NameArgument = Annotated[str, typer.Argument(help="The function, or with a colon an alias of it: hello:live.")]
OriginOption = Annotated[
    list[str] | None, typer.Option("--allow-origin", metavar="ORIGIN", help="Pages that may call it; again for more.")
]


class Mode(enum.Enum):
    """How an answer is sent."""

    BUFFERED = "buffered"
    STREAM = "stream"


class Auth(enum.Enum):
    """Who may call."""

    NONE = "none"
    IAM = "iam"


ModeOption = Annotated[Mode | None, typer.Option(help="When an answer is whole, or as it is made.")]
AuthOption = Annotated[Auth | None, typer.Option(help="Whoever knows it, or who signs requests (not served yet).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Let functions answer HTTP requests.", no_args_is_help=True)
    for name, command in (("list", list_urls), ("create", create), ("get", get), ("update", update)):
        group.command(name)(command)
    group.command("delete")(delete)
    app.add_typer(group, name="urls")


def list_urls(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """List the URLs of a function and its aliases."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import note, plain, print_json, print_table
    from engine.v1 import urls_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    found: list[urls_pb2.Url] = []
    with asking(choices, f"cannot list the URLs of {ref.name}", ref.name) as engine:
        request = urls_pb2.ListUrlsRequest(parent=f"functions/{ref.name}", page_size=1000)
        while True:
            page = engine.urls.ListUrls(request, timeout=CONTROL_TIMEOUT_S)
            found += page.urls
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"urls": [plain(url) for url in found]})
    elif not found:
        note(f"There is none. Make one with:\n\n  {choices.command('urls', 'create', ref.name)}")
    else:
        print_table(
            ("OF", "HOST", "PATH"), [(url.name.removeprefix("functions/"), url.host, url.path) for url in found]
        )
    return ExitCode.OK


def create(
    ctx: typer.Context,
    name: NameArgument,
    mode: ModeOption = None,
    auth: AuthOption = None,
    origins: OriginOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Make a URL."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import urls_pb2

    choices = choose(ctx, address, output)
    ref, resource = _named(name)
    with asking(choices, f"cannot make a URL of {name}", ref.name) as engine:
        request = urls_pb2.CreateUrlRequest(url=_url(resource, mode, auth, origins))
        url = engine.urls.CreateUrl(request, timeout=CONTROL_TIMEOUT_S).url
    return _show(choices, url)


def get(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show a URL."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import urls_pb2

    choices = choose(ctx, address, output)
    ref, resource = _named(name)
    with asking(choices, f"cannot show the URL of {name}", ref.name) as engine:
        url = engine.urls.GetUrl(urls_pb2.GetUrlRequest(name=resource), timeout=CONTROL_TIMEOUT_S).url
    return _show(choices, url)


def update(
    ctx: typer.Context,
    name: NameArgument,
    mode: ModeOption = None,
    auth: AuthOption = None,
    origins: OriginOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change a URL: only what is given."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import urls_pb2

    choices = choose(ctx, address, output)
    ref, resource = _named(name)
    if mode is None and auth is None and origins is None:
        raise usage(
            f"cannot change the URL of {name}", "nothing is to be changed", "give --mode, --auth or --allow-origin"
        )
    with asking(choices, f"cannot change the URL of {name}", ref.name) as engine:
        request = urls_pb2.UpdateUrlRequest(url=_url(resource, mode, auth, origins))
        url = engine.urls.UpdateUrl(request, timeout=CONTROL_TIMEOUT_S).url
    return _show(choices, url)


def delete(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Remove a URL."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import urls_pb2

    choices = choose(ctx, address, output)
    ref, resource = _named(name)
    with asking(choices, f"cannot remove the URL of {name}", ref.name) as engine:
        engine.urls.DeleteUrl(urls_pb2.DeleteUrlRequest(name=resource), timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"name": resource})
    else:
        typer.echo(f"{name} has no URL any more.")
    return ExitCode.OK


def _named(name: str) -> tuple[FunctionRef, str]:
    from engine.cli.client import function_ref

    ref = function_ref(name)
    return ref, ref.resource_name() if ref.qualifier != LATEST else f"functions/{ref.name}"


def _url(resource: str, mode: Mode | None, auth: Auth | None, origins: list[str] | None) -> urls_pb2.Url:
    from engine.v1 import urls_pb2

    modes = {
        None: urls_pb2.URL_INVOKE_MODE_UNSPECIFIED,
        Mode.BUFFERED: urls_pb2.URL_INVOKE_MODE_BUFFERED,
        Mode.STREAM: urls_pb2.URL_INVOKE_MODE_RESPONSE_STREAM,
    }
    auths = {
        None: urls_pb2.URL_AUTH_TYPE_UNSPECIFIED,
        Auth.NONE: urls_pb2.URL_AUTH_TYPE_NONE,
        Auth.IAM: urls_pb2.URL_AUTH_TYPE_AWS_IAM,
    }
    cors = urls_pb2.Cors(allow_origins=origins, allow_methods=["*"]) if origins else None
    return urls_pb2.Url(name=resource, invoke_mode=modes[mode], auth_type=auths[auth], cors=cors)


def _show(choices: Choices, url: urls_pb2.Url) -> int:
    from engine.cli.render import plain, print_json

    if choices.json:
        print_json({"url": plain(url)})
    else:
        typer.echo(f"On the port of the AWS Lambda API, by host: {url.host}")
        typer.echo(f"                                   or path: {url.path}")
    return ExitCode.OK
