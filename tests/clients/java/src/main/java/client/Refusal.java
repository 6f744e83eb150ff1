package client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Map;

/**
 * What an error says beside its code and its message.
 *
 * @param metadata what the error is about, by name, such as {@code progress_id}
 * @param fields the fields of the request that are wrong
 */
record Refusal(Map<String, String> metadata, List<String> fields) {
  /** Makes the call, and expects that it is refused with this code and reason. */
  static Refusal of(Runnable call, Status.Code code, String reason) throws InvalidProtocolBufferException {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return read(error, code, reason);
    }
    throw new IllegalStateException("no error at all, expected " + reason);
  }

  private static Refusal read(StatusRuntimeException error, Status.Code code, String reason)
      throws InvalidProtocolBufferException {
    var info = ErrorInfo.getDefaultInstance();
    var badRequest = BadRequest.getDefaultInstance();
    var status = StatusProto.fromThrowable(error);
    for (Any detail : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        info = detail.unpack(ErrorInfo.class);
      } else if (detail.is(BadRequest.class)) {
        badRequest = detail.unpack(BadRequest.class);
      }
    }
    var seen = List.of(error.getStatus().getCode(), info.getDomain(), info.getReason());
    Main.expect(status.getMessage(), seen, List.of(code, "campaign.v1", reason));
    System.out.println("refused: " + reason + ": " + status.getMessage());
    var fields = badRequest.getFieldViolationsList().stream().map(BadRequest.FieldViolation::getField).toList();
    return new Refusal(info.getMetadataMap(), fields);
  }
}
