"""gRPC calls of the commands that look at a running gemmule."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.cli.remote import RemoteError
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from serving.rpc.gen.gemmule.v1 import gemmule_pb2_grpc as pb_grpc

_CONNECT_S = 10.0
_ANSWER_S = 300.0


class GrpcRemote:
    """One address (`host:port`, no TLS); every method raises `RemoteError`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address)

    def health(self) -> str:
        """SERVING, or what else it says."""
        request = health_pb2.HealthCheckRequest()
        try:
            answer = health_pb2_grpc.HealthStub(self._channel).Check(request, timeout=_CONNECT_S)
        except grpc.RpcError as error:
            raise self._explained(error) from None
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def chat(self, model: str, text: str, max_tokens: int) -> tuple[str, str]:
        """The size that answers, and its answer."""
        request = pb.GenerateRequest(
            model=model,
            chat=pb.Chat(messages=[pb.Message(role=pb.ROLE_USER, content=text)]),
            sampling=pb.Sampling(max_tokens=max_tokens, temperature=0),
        )
        size, pieces = "", []
        try:
            for response in pb_grpc.GemmuleServiceStub(self._channel).Generate(request, timeout=_ANSWER_S):
                match response.WhichOneof("event"):
                    case "started":
                        size = response.started.size
                    case "chunk":
                        pieces.append(response.chunk.text)
        except grpc.RpcError as error:
            raise self._explained(error) from None
        return size, "".join(pieces)

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def _explained(self, error: grpc.RpcError) -> RemoteError:
        return RemoteError(f"{self.address}: {error.code().name}: {error.details()}")
