"""Pulumi's analyzer protocol over our rules: decodes what the engine sends, once a resource, and answers with findings.

Not the policy SDK's own server: that decodes each resource again for each policy, whether or not the policy judges it, and
all outputs of the stack for a policy that is asked at the end; it cannot lower the level of one finding, and it keeps
from a policy what is a secret. Knows gRPC and no rule. Started by __main__.
"""

import contextlib
import datetime
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc, plugin_pb2

from fleet.provider import engine
from policies import stack
from policies.asked import Asked
from policies.pack import WAIVERS, Finding, Pack
from policies.rules import RULES

NAME, VERSION = "glm-fleet", "0.1.0"
OURS, STACK = "fleet:index:", "pulumi:pulumi:Stack"
# A secret arrives as an object with this key and value. Source: pulumi/sdk, resource.SigKey and resource.SecretSig.
SIGN, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
LEVELS = {"mandatory": analyzer_pb2.MANDATORY, "advisory": analyzer_pb2.ADVISORY}
THREADS = 4

Context = grpc.ServicerContext


class Analyzer(analyzer_pb2_grpc.AnalyzerServicer):
    """The pack as the engine sees it. Configured once, before the first resource."""

    def __init__(self, today: datetime.date) -> None:
        self._today = today
        self._pack = Pack(stack.Stack(), today)

    # --- the pack itself

    def Handshake(
        self, request: analyzer_pb2.AnalyzerHandshakeRequest, context: Context
    ) -> analyzer_pb2.AnalyzerHandshakeResponse:
        return analyzer_pb2.AnalyzerHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Context) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetAnalyzerInfo(self, request: empty_pb2.Empty, context: Context) -> analyzer_pb2.AnalyzerInfo:
        policies = [
            analyzer_pb2.PolicyInfo(
                name=rule.name,
                description=rule.holds,
                enforcementLevel=LEVELS[rule.level],
                policy_type=analyzer_pb2.POLICY_TYPE_STACK if rule.at_end else analyzer_pb2.POLICY_TYPE_RESOURCE,
                remediation_steps=rule.remedy,
            )
            for rule in RULES
        ]
        policies.append(analyzer_pb2.PolicyInfo(name=WAIVERS[0], description=WAIVERS[1]))
        return analyzer_pb2.AnalyzerInfo(name=NAME, version=VERSION, policies=policies)

    def ConfigureStack(
        self, request: analyzer_pb2.AnalyzerStackConfigureRequest, context: Context
    ) -> analyzer_pb2.AnalyzerStackConfigureResponse:
        told = stack.read(request.project, dict(request.config), set(request.config_secret_keys))
        self._pack = Pack(told, self._today)
        return analyzer_pb2.AnalyzerStackConfigureResponse()

    def Configure(self, request: analyzer_pb2.ConfigureAnalyzerRequest, context: Context) -> empty_pb2.Empty:
        """No rule has settings of its own: a stack waives one, or holds it."""
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    # --- resources

    def Analyze(self, request: analyzer_pb2.AnalyzeRequest, context: Context) -> analyzer_pb2.AnalyzeResponse:
        kind = kind_of(request.type)
        if not self._pack.concerns(kind):
            return analyzer_pb2.AnalyzeResponse()
        inputs, secret = decode(request.properties)
        asked = Asked(kind, request.name, inputs, secret, request.options.protect)
        return response(self._pack.resource(asked), request.urn)

    def AnalyzeStack(self, request: analyzer_pb2.AnalyzeStackRequest, context: Context) -> analyzer_pb2.AnalyzeResponse:
        answer = analyzer_pb2.AnalyzeResponse()
        for one in request.resources:
            if (kind := kind_of(one.type)) in self._pack.at_end:
                outputs, secret = decode(one.properties)
                asked = Asked(kind, one.name, outputs, secret, one.options.protect)
                answer.MergeFrom(response(self._pack.outcome(asked), one.urn))
        return answer

    def Remediate(self, request: analyzer_pb2.AnalyzeRequest, context: Context) -> analyzer_pb2.RemediateResponse:
        """Rules tell; what they find is mended by hand."""
        return analyzer_pb2.RemediateResponse()


def serve(address: str) -> None:
    """Serve the engine at `address` until it is gone: after a kill -9 of the CLI nobody ends this process."""
    engine.watch(address, stop=lambda: None, busy=lambda: False)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS), options=engine.OPTIONS)
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(Analyzer(datetime.datetime.now(datetime.UTC).date()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the engine reads it from the first line
    with contextlib.suppress(KeyboardInterrupt):  # so the engine ends us when the program failed, and so does ^C
        server.wait_for_termination()
    server.stop(0)


def kind_of(token: str) -> str:
    """Return Node, Host, …, Stack, or "" for what is neither ours nor the stack itself."""
    return "Stack" if token == STACK else token.removeprefix(OURS) if token.startswith(OURS) else ""


def decode(struct: struct_pb2.Struct) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the values as plain ones, whole numbers as int, and the names of those that are secrets."""
    secret = {name for name, value in struct.fields.items() if _is_secret(value)}
    return {name: _plain(value) for name, value in struct.fields.items()}, frozenset(secret)


def response(findings: Iterable[Finding], urn: str) -> analyzer_pb2.AnalyzeResponse:
    """Return the engine's form of some findings about one resource."""
    return analyzer_pb2.AnalyzeResponse(diagnostics=_diagnostics(findings, urn))


def _diagnostics(findings: Iterable[Finding], urn: str) -> Iterator[analyzer_pb2.AnalyzeDiagnostic]:
    for found in findings:
        yield analyzer_pb2.AnalyzeDiagnostic(
            policyName=found.rule,
            policyPackName=NAME,
            policyPackVersion=VERSION,
            description=found.holds,
            message=f"{found.holds}\n{found.message}",
            enforcementLevel=LEVELS[found.level],
            urn=urn,
        )


def _is_secret(value: struct_pb2.Value) -> bool:
    fields = value.struct_value.fields if value.HasField("struct_value") else {}
    return SIGN in fields and fields[SIGN].string_value == SECRET


def _plain(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            inner = value.struct_value.fields
            return _plain(inner["value"]) if _is_secret(value) else {name: _plain(inner[name]) for name in inner}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None
