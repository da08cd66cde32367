"""The form of the stack file's key `kubernetes`: the cluster, its namespace, the image, the weights, the models, the endpoint.

Pure. Part of the form in `settings`; `kubernetes_vars` says which role variables have a meaning there. Called by fleet.program.kubernetes
and fleet.cli.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fleet import errors
from fleet.schema import Form, Name
from fleet.stack.cluster_names import LAB, NAMESPACE
from fleet.stack.gateway_form import CHAIN, host_name

CONTEXT = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,252}$"
KUBECONFIG = r"^(~/|/)?[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*$"
IMAGE = r"^[a-z0-9][A-Za-z0-9.:-]*(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}$"
FOLDER = r"^(/[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*)+$"
QUANTITY = r"^[1-9][0-9]*(m|Ki|Mi|Gi|Ti)?$"
OBJECT = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
LABEL = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"
# The names of a model's objects are its own with a suffix, and a Service's name has at most 63 characters.
LONGEST_MODEL = 40
# AMD's labeller names the product: a whole GPU, and one that a cloud's hypervisor passes on.
GPUS = {"amd.com/gpu.product-name": ["AMD_Instinct_MI300X_OAM", "AMD_Instinct_MI300X_VF"]}
# Descriptions of patterns, and of missing keys, for messages.
FORMS = {
    CONTEXT: "the name of a context of the kubeconfig: `kubectl config get-contexts` lists them",
    KUBECONFIG: "the path of a kubeconfig, e.g. ~/.kube/config",
    IMAGE: "REGISTRY/REPOSITORY@sha256:<64 hex>",
    FOLDER: "an absolute path on the nodes, e.g. /var/lib/glm-fleet/models",
    QUANTITY: "a quantity as Kubernetes writes it, e.g. 16 or 64Gi",
    OBJECT: "the name of an object in the cluster",
    LABEL: "the key of a label, e.g. amd.com/gpu.product-name",
    VALUE: "the value of a label: letters, digits and '-', '_', '.', at most 63",
}
MISSING = {
    "kubernetes.context": "the context of the kubeconfig. The current one is never used: it may be another cluster's",
    "kubernetes.image": "the serving image by digest: `fleet show` of a stack with `nodes` prints the one that it built",
    "kubernetes.render_group": "the number of the group of /dev/dri/renderD* on the nodes: `stat -c %g /dev/dri/renderD128` there prints it",
    "kubernetes.weights": "`home: nodes`, `home: claim` or `home: image`: where the replicas find the weights",
    "kubernetes.models": "the models with their replicas, e.g. glm: {replicas: 2}",
    "kubernetes.weights.path": FORMS[FOLDER],
    "kubernetes.weights.storage_class": "a storage class of the cluster that can give ReadWriteMany: `kubectl get storageclass`",
    "kubernetes.weights.size": "the size of the volume: the weights, and as much again during a change of the revision, e.g. 500Gi",
    "kubernetes.weights.image": "the OCI artifact with the model's files, by digest",
    "kubernetes.weights.folder": "the model's folder in that artifact, e.g. / or models/glm",
    "replicas": "how many pods serve the model",
}

ObjectName = Annotated[str, Field(pattern=OBJECT)]
Quantity = Annotated[str, Field(pattern=QUANTITY), BeforeValidator(lambda value: str(value))]
LabelKey = Annotated[str, Field(pattern=LABEL)]
LabelValue = Annotated[str, Field(pattern=VALUE)]
ProjectFile = Annotated[str, Field(pattern=CHAIN)]


def _as_list(values: Any) -> Any:
    """Return a single text as a list of one."""
    return [values] if isinstance(values, str) else values


class NodeWeights(Form):
    """Weights in a folder of each node, filled and verified by a Job on each before a replica starts.

    `ca` is the PEM file of this project with the authority of the hub's certificate, if it is not public.
    """

    home: Literal["nodes"]
    path: str = Field(pattern=FOLDER)
    ca: ProjectFile | None = None


class ClaimWeights(Form):
    """Weights in a volume of the cluster's own storage, which all nodes can mount at once; one Job fills and verifies it."""

    home: Literal["claim"]
    storage_class: ObjectName
    size: Quantity
    ca: ProjectFile | None = None


class ImageWeights(Form):
    """Weights in an OCI artifact, which the kubelet pulls by its digest. Tried with megabytes, not with 200 GB."""

    home: Literal["image"]
    image: str = Field(pattern=IMAGE)
    folder: str = Field(default="/", pattern=r"^/?[A-Za-z0-9._@+-]*(/[A-Za-z0-9._@+-]+)*$")


HOMES = ("nodes", "claim", "image")
Weights = Annotated[NodeWeights | ClaimWeights | ImageWeights, Field(discriminator="home")]


class Requests(Form):
    """What a pod asks of its node besides GPUs, as Kubernetes writes it."""

    cpu: Quantity = "8"
    memory: Quantity = "64Gi"


class Model(Form):
    """One model: a Deployment. `vars` are role variables, over the stack's own.

    `host` is the DNS name in the clients' URL, of the stack's `endpoint`. `surge` is how many pods a change may add before it takes
    one away, which needs as many free GPUs.
    """

    replicas: int = Field(ge=1, le=1000)
    vars: dict[str, Any] = {}
    host: Annotated[str, AfterValidator(host_name)] | None = None
    surge: int = Field(default=0, ge=0, le=100)
    requests: Requests = Requests()


class Gateway(Form):
    """A Gateway of the cluster (Gateway API), to which each model with a `host` attaches an HTTPRoute. The Gateway has the certificate."""

    name: ObjectName
    namespace: Name
    listener: ObjectName | None = None


class Ingress(Form):
    """An Ingress of a class of the cluster. `tls_secret` has the certificate; `namespace` is where the controller's pods are."""

    class_name: ObjectName
    namespace: Name
    tls_secret: ObjectName
    annotations: dict[LabelKey, str] = {}


class Endpoint(Form):
    """Where clients outside of the cluster come in: by `gateway` or by `ingress`."""

    gateway: Gateway | None = None
    ingress: Ingress | None = None


class Monitor(Form):
    """A PodMonitor for Prometheus in `namespace`, which may then read /metrics; `labels` are those that it selects."""

    namespace: Name
    labels: dict[LabelKey, LabelValue] = {}


class Quota(Form):
    """What the namespace may have beyond the replicas that the stack names: pods for tools and Jobs, GPUs for a surge."""

    pods: int = Field(default=4, ge=0, le=10_000)
    gpus: int = Field(default=0, ge=0, le=10_000)


class Toleration(Form):
    """A taint of the GPU nodes that the pods accept."""

    key: LabelKey
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Cluster(Form):
    """The models of a stack on a Kubernetes cluster that exists.

    `node_labels` chooses the GPU nodes: each label with the values that it may have. `clients_from` are the namespaces whose pods may
    connect to the models. `pull_secrets` are Secrets of the namespace with logins for registries.
    """

    context: str = Field(pattern=CONTEXT)
    kubeconfig: Annotated[str, Field(pattern=KUBECONFIG)] | None = None
    namespace: Name = "glm"
    image: str = Field(pattern=IMAGE)
    render_group: int = Field(ge=1, le=2**31 - 1)
    weights: Weights
    models: dict[Name, Model] = Field(min_length=1)
    endpoint: Endpoint | None = None
    node_labels: dict[LabelKey, Annotated[list[LabelValue], Field(min_length=1), BeforeValidator(_as_list)]] = Field(
        default=GPUS, min_length=1
    )
    tolerations: list[Toleration] = []
    clients_from: list[Name] = []
    pull_secrets: list[ObjectName] = []
    priority_class: ObjectName | None = None
    pod_monitor: Monitor | None = None
    quota: Quota = Quota()

    @property
    def lab(self) -> bool:
        """Whether the cluster is the lab's, which needs no protection."""
        return self.context == LAB

    @property
    def filled(self) -> bool:
        """Whether Jobs of ours fetch the weights."""
        return not isinstance(self.weights, ImageWeights)

    @property
    def jobs_namespace(self) -> str:
        """The namespace of the Jobs that fetch: one of its own where they must write to nodes, which `restricted` forbids."""
        return f"{self.namespace}-weights" if isinstance(self.weights, NodeWeights) else self.namespace


def mistakes(cluster: Cluster, raw: Mapping[str, Any], file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes between the keys of a cluster, and those between them and other keys of the stack file, in `raw`."""
    for key, allowed in ELSEWHERE.items():
        if raw.get(key):
            seen = "has no meaning beside `kubernetes`"
            yield errors.SettingsError(file=file, key=key, seen=seen, allowed=allowed)
    yield from _endpoint_mistakes(cluster, file)
    released = [*cluster.models, NAMESPACE]
    for name in raw.get("release") or ():
        if name not in released:
            yield errors.SettingsError(
                file=file,
                key="release",
                value=name,
                seen="no model has this name",
                allowed=", ".join(released),
                nearest=errors.nearest(name, released),
            )
    for name in cluster.models:
        if name == NAMESPACE:
            seen, allowed = "the name stands for the namespace in `release`", "another name"
            yield errors.SettingsError(file=file, key=f"kubernetes.models.{name}", seen=seen, allowed=allowed)
        if len(name) > LONGEST_MODEL:
            seen, allowed = "the name is too long", f"at most {LONGEST_MODEL} characters"
            yield errors.SettingsError(file=file, key=f"kubernetes.models.{name}", seen=seen, allowed=allowed)
    if len(cluster.jobs_namespace) > 63:
        seen = f"the Jobs that fetch the weights are in {cluster.jobs_namespace}, which is too long"
        allowed = "at most 55 characters"
        yield errors.SettingsError(file=file, key="kubernetes.namespace", seen=seen, allowed=allowed)


def warnings(cluster: Cluster, file: str) -> Iterator[errors.SettingsError]:
    """Yield each model that nobody serves while it changes."""
    for name, model in cluster.models.items():
        if model.replicas == 1 and not model.surge:
            seen = "one pod, which ends before its successor starts: nobody serves while it changes"
            allowed = "replicas: 2; or surge: 1, where as many GPUs are free"
            yield errors.SettingsError(file=file, key=f"kubernetes.models.{name}", seen=seen, allowed=allowed)


# Keys of a stack with `nodes` → what stands in their place.
ELSEWHERE = {
    "nodes": "`nodes` or `kubernetes`: a stack has one of them",
    "cluster": "a stack of its own: that one makes the cluster, this one puts models there",
    "gateway": "`kubernetes.endpoint`: the cluster's own Gateway or Ingress is before the models",
    "clients": "clients of their own in what is before the models; there, all have the key vllm_api_key",
    "change": "`replicas` and `surge` of each model: Kubernetes changes one pod after the other",
    "acceptance": "`fleet accept` of a stack with `nodes`",
    "drill": "leave it out: `fleet drill` rebuilds a machine of a stack with `nodes`",
    "purge": "leave it out: `pulumi destroy` takes away the stack's objects; folders of weights on the nodes stay",
}


def _endpoint_mistakes(cluster: Cluster, file: str) -> Iterator[errors.SettingsError]:
    """Yield an endpoint with no way in or two, hosts without an endpoint, an endpoint without hosts, and a host of two models."""
    endpoint, key = cluster.endpoint, "kubernetes.endpoint"
    hosts = {name: model.host for name, model in cluster.models.items() if model.host}
    if endpoint is not None and bool(endpoint.gateway) == bool(endpoint.ingress):
        seen = "has `gateway` and `ingress`" if endpoint.gateway else "has neither `gateway` nor `ingress`"
        yield errors.SettingsError(file=file, key=key, seen=seen, allowed="one of them")
    if endpoint is not None and not hosts:
        allowed = "`host` of a model, e.g. glm.example.com; or no endpoint: the Service is there without one"
        yield errors.SettingsError(file=file, key=key, seen="no model has a `host`", allowed=allowed)
    owners: dict[str, str] = {}
    for name, host in hosts.items():
        place = f"kubernetes.models.{name}.host"
        if endpoint is None:
            allowed = "`kubernetes.endpoint`, which says through what clients come in; or no host"
            yield errors.SettingsError(file=file, key=place, value=host, seen="there is no endpoint", allowed=allowed)
        elif (owner := owners.setdefault(host, name)) != name:
            seen, allowed = f"{owner} has the same host", "one host for one model"
            yield errors.SettingsError(file=file, key=place, value=host, seen=seen, allowed=allowed)
