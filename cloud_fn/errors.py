"""What the cloud's side cannot do, each with the reason; the doors map these to statuses."""

from protos.errors import IsthmusError


class CloudError(IsthmusError):
    """Root of the cloud's errors."""


class ServeError(CloudError):
    """The server cannot start as it is configured, or lost what it stands on."""


class RegistryError(CloudError):
    """The registry cannot store or give back what was asked."""


class UnknownModel(CloudError):
    """No such model, or no such version of it."""


class InvalidRequest(CloudError):
    """The function cannot run on what the request holds; another request may do."""


class TooLarge(CloudError):
    """The message is larger than the server takes."""


class Busy(CloudError):
    """The server runs as much as it may; the same request may do later."""


class DeadlinePassed(CloudError):
    """The answer was not there in time."""


class InstanceLost(CloudError):
    """The instance could not be started, or ended while it ran the request."""


class HostLost(InstanceLost):
    """The host of the instance ended while it ran the request, which may run elsewhere."""


class FunctionFailed(CloudError):
    """The function itself is broken: its model cannot be loaded, or its code failed."""


class Stopping(CloudError):
    """The server takes nothing new because it stops."""


class ControllerSilent(CloudError):
    """What all gateways share is not to be learnt now; requests go on without."""


class NothingSeen(CloudError):
    """The function has answered nothing lately, so that there is nothing to say of it."""

    exit_code = 1


class GatewayRefused(CloudError):
    """A gateway does not answer, or says why it will not."""


class Unauthenticated(CloudError):
    """The caller did not show a key that the server knows."""
