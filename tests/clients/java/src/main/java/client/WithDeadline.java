package client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.MethodDescriptor;
import java.time.Duration;

/** Sets a deadline on every call, as every caller should have one. */
record WithDeadline(Duration deadline) implements ClientInterceptor {
  @Override
  public <Request, Response> ClientCall<Request, Response> interceptCall(
      MethodDescriptor<Request, Response> method, CallOptions options, Channel next) {
    return next.newCall(method, options.withDeadlineAfter(deadline));
  }
}
