"""The lab cloud's API: its list of sizes, and the check of its one token.

Used by the plugin's process. Refusals have the words of the real API.
"""

import zlib

import grpc
from pulumi.runtime.proto import provider_pb2

from fleet.provider import servicer
from fleet.provider.properties import to_dict, to_struct

TOKEN = "dop_v1_lab"
REGION = "lab1"
INSIDE = "10.0.0.40"  # the private address of a droplet without a node
GPUS = {"gpu-mi300x8-1536gb": 8, "gpu-mi300x1-192gb": 1, "gpu-mi300x8-gone": 8, "gpu-mi300x8-sold-out": 8}
GONE = "gpu-mi300x8-gone"  # known, and available nowhere
SOLD_OUT = "gpu-mi300x8-sold-out"  # listed as available, then refused
SIZES = "digitalocean:index/getSizes:getSizes"
REFUSED = "GET /v2/sizes: 401 Unable to authenticate you"


class Api(servicer.Fleet):
    """The servicer with the cloud's one function, for one region."""

    version = "4.84.1"  # the SDK's: it accepts no older plugin

    _token = ""

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        token = to_dict(request.args).get("token")
        self._token = (
            token["value"] if isinstance(token, dict) else str(token or "")
        )  # a secret arrives with its marker
        return super().Configure(request, context)

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        """Create it. The ID of a droplet is a number, which a firewall's `droplet_ids` have."""
        answer = super().Create(request, context)
        if answer.id.startswith("droplet/"):
            answer.id = str(zlib.crc32(answer.id.encode()))
        return answer

    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        if request.tok != SIZES:
            return super().Invoke(request, context)
        if self._token != TOKEN:
            context.abort(grpc.StatusCode.UNKNOWN, REFUSED)
        sizes = [
            {
                "slug": slug,
                "available": slug != GONE,
                "regions": [] if slug == GONE else [REGION],
                "memory": 1,
                "vcpus": 1,
                "disk": 1,
                "transfer": 1,
                "priceMonthly": 1,
                "priceHourly": 1,
                "gpuInfos": [],
            }
            for slug in GPUS
        ]
        answer = provider_pb2.InvokeResponse()
        getattr(answer, "return").CopyFrom(to_struct({"id": "sizes", "sizes": sizes}))
        return answer
