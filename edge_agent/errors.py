"""What the agent cannot do, each with the reason."""

from protos.errors import IsthmusError


class AgentError(IsthmusError):
    """Root of the agent's errors."""


class SettingsError(AgentError):
    """The configuration does not describe an agent that can run; the message says what to mend."""


class MqttError(AgentError):
    """Root of what the broker's connection cannot do."""


class BrokerRefused(MqttError):
    """The broker answers, but does not take us: wrong name, password or rights."""


class PublishRefused(MqttError):
    """The broker did not take one message; sending it again would not help."""


class TooLarge(PublishRefused):
    """A message over what either side takes."""


class OutboxError(AgentError):
    """The outbox cannot be opened or written: no space, no rights, a failing disk."""


class OutboxFull(OutboxError):
    """No room for one more request; the sender may try again later."""


class UplinkError(AgentError):
    """The cloud did not give an answer to one request; the device finishes it."""


class LinkLost(UplinkError):
    """The way to the cloud is broken or was never there."""


class Refused(AgentError):
    """A request that gets a problem document instead of an answer; *status* as in HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return self.detail
